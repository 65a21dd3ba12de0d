package mcbp

import (
	"encoding/binary"
	"encoding/json"
)

// Open makes a connection a DCP connection (dcp-wire §6.1).
type Open struct {
	Opaque Opaque
	// Name is the connection's name, 1 to [MaxConnectionNameLen] bytes.
	Name string
	// Flags are OpenFlag values; [OpenFlagProducer] decides which end the receiver becomes.
	Flags uint32
	// ConsumerName is the node name that a consumer sends in a JSON value; empty sends no value.
	ConsumerName string
}

var openShape = shape{opcode: OpDCPOpen, extras: []int{8}, key: true, value: true}

// openValue is the JSON value of an OPEN.
type openValue struct {
	ConsumerName string `json:"consumer_name"`
}

// ParseOpen decodes an OPEN. It accepts a value only if its datatype says JSON.
func ParseOpen(f Frame) (Open, error) {
	if err := openShape.check(f); err != nil {
		return Open{}, err
	}
	if n := f.KeyLen(); n < 1 || n > MaxConnectionNameLen {
		return Open{}, badLayout(f, "a name of %d bytes, not 1 to %d", n, MaxConnectionNameLen)
	}
	m := Open{Opaque: f.Opaque(), Name: string(f.Key()), Flags: binary.BigEndian.Uint32(f.Extras()[4:])}
	if len(f.Value()) == 0 {
		return m, nil
	}
	if f.Datatype()&DatatypeJSON == 0 {
		return Open{}, badLayout(f, "a value that is not marked as JSON")
	}
	var v openValue
	if err := json.Unmarshal(f.Value(), &v); err != nil {
		return Open{}, badLayout(f, "the value is not the JSON of an OPEN")
	}
	m.ConsumerName = v.ConsumerName
	return m, nil
}

// Append encodes m behind b. The JSON is spelled as cluster managers spell it, with a space after the colon.
func (m Open) Append(b []byte) []byte {
	var extras [8]byte
	binary.BigEndian.PutUint32(extras[4:], m.Flags)
	p := Packet{Opcode: OpDCPOpen, Opaque: m.Opaque, Extras: extras[:], Key: []byte(m.Name)}
	if m.ConsumerName != "" {
		name, err := json.Marshal(m.ConsumerName)
		if err != nil {
			panic(err) // a string always marshals
		}
		p.Datatype = DatatypeJSON
		p.Value = append(append([]byte(`{"consumer_name": `), name...), '}')
	}
	return p.Append(b)
}
