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
	// Sequence is sent in the reserved bytes by some clients. Engines ignore it.
	Sequence uint32
	// ConsumerName is the node name that a consumer sends in a JSON value; empty sends no value.
	ConsumerName string
	// Value is the whole JSON value as it came, ConsumerName included. It aliases the frame that was parsed. If it is not
	// empty, it is what Append sends.
	Value []byte
}

var openShape = shape{
	opcode: OpDCPOpen, scope: ofConnection, extras: []int{8}, key: required, value: optional, datatype: DatatypeJSON,
}

// openValue is the JSON value of an OPEN.
type openValue struct {
	ConsumerName string `json:"consumer_name"`
}

// ParseOpen decodes an OPEN. It accepts a value only if its datatype says JSON, and leaves the flags to the receiver.
func ParseOpen(f Frame) (Open, error) {
	if err := openShape.check(f); err != nil {
		return Open{}, err
	}
	if err := checkJSON(f); err != nil {
		return Open{}, err
	}
	if n := f.KeyLen(); n > MaxConnectionNameLen {
		return Open{}, badLayout(f, "a name of %d bytes, not 1 to %d", n, MaxConnectionNameLen)
	}
	m := Open{
		Opaque: f.Opaque(), Name: string(f.Key()),
		Sequence: binary.BigEndian.Uint32(f.Extras()), Flags: binary.BigEndian.Uint32(f.Extras()[4:]),
	}
	if len(f.Value()) == 0 {
		return m, nil
	}
	var v openValue
	if err := json.Unmarshal(f.Value(), &v); err != nil {
		return Open{}, badLayout(f, "the value is not the JSON of an OPEN")
	}
	m.ConsumerName, m.Value = v.ConsumerName, f.Value()
	return m, nil
}

// Append encodes m behind b. JSON of our own is spelled as cluster managers spell it, with a space after the colon.
func (m Open) Append(b []byte) []byte {
	var extras [8]byte
	binary.BigEndian.PutUint32(extras[:], m.Sequence)
	binary.BigEndian.PutUint32(extras[4:], m.Flags)
	p := Packet{Opcode: OpDCPOpen, Opaque: m.Opaque, Extras: extras[:], Key: []byte(m.Name)}
	switch {
	case len(m.Value) > 0:
		p.Datatype, p.Value = DatatypeJSON, m.Value
	case m.ConsumerName != "":
		name, err := json.Marshal(m.ConsumerName)
		if err != nil {
			panic(err) // a string always marshals
		}
		p.Datatype = DatatypeJSON
		p.Value = append(append([]byte(`{"consumer_name": `), name...), '}')
	}
	return p.Append(b)
}
