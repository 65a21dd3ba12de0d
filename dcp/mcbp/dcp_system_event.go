package mcbp

import (
	"encoding/binary"
	"fmt"
)

// EventID is what a SYSTEM_EVENT tells.
type EventID uint32

// The events (dcp-wire §6.13).
const (
	EventCollectionBegin  EventID = 0
	EventCollectionEnd    EventID = 1
	EventScopeCreate      EventID = 3
	EventScopeDrop        EventID = 4
	EventCollectionModify EventID = 5
)

var eventNames = map[EventID]string{
	EventCollectionBegin: "collection begins", EventCollectionEnd: "collection ends", EventScopeCreate: "scope created",
	EventScopeDrop: "scope dropped", EventCollectionModify: "collection modified",
}

// String is the event in words.
func (e EventID) String() string {
	if name, ok := eventNames[e]; ok {
		return name
	}
	return fmt.Sprintf("event %d", uint32(e))
}

// Encodings of a SYSTEM_EVENT's value. The packed ones are decoded by [SystemEvent.Packed].
const (
	EventPackedV0    uint8 = 0
	EventPackedV1    uint8 = 1
	EventFlatBuffers uint8 = 2
)

// SystemEvent tells a consumer of a change of collections or scopes. Key and Value alias the frame that was parsed.
type SystemEvent struct {
	VBucket uint16
	Opaque  Opaque
	// StreamID tells several streams of the vbucket apart; 0 if there is only one.
	StreamID uint16
	Datatype Datatype
	CAS      uint64
	BySeqno  uint64
	Event    EventID
	// Version is the encoding of Value.
	Version uint8
	// Key is the name of the collection or scope that begins.
	Key, Value []byte
}

var systemEventShape = shape{
	opcode: OpDCPSystemEvent, scope: ofStream, extras: []int{13}, key: optional, value: optional, datatype: datatypeAny, cas: true,
}

// packedLen is the length in bytes of a packed value, by event and version.
var packedLen = map[EventID][2]int{
	EventCollectionBegin: {16, 20},
	EventCollectionEnd:   {16, 0},
	EventScopeCreate:     {12, 0},
	EventScopeDrop:       {12, 0},
}

// ParseSystemEvent decodes a SYSTEM_EVENT. Unknown events and versions are an error, and so is a packed value that does not
// have the length of its event, or a name where there is none to tell.
func ParseSystemEvent(f Frame) (SystemEvent, error) {
	if err := systemEventShape.check(f); err != nil {
		return SystemEvent{}, err
	}
	x := f.Extras()
	m := SystemEvent{
		VBucket: f.VBucket(), Opaque: f.Opaque(), StreamID: streamID(f), Datatype: f.Datatype(), CAS: f.CAS(),
		BySeqno: binary.BigEndian.Uint64(x), Event: EventID(binary.BigEndian.Uint32(x[8:])), Version: x[12],
		Key: f.Key(), Value: f.Value(),
	}
	if _, known := eventNames[m.Event]; !known || m.Version > EventFlatBuffers {
		return SystemEvent{}, badLayout(f, "%v, version %d", m.Event, m.Version)
	}
	if m.Version == EventFlatBuffers {
		return m, nil
	}
	if want := packedLen[m.Event][m.Version]; want == 0 || len(m.Value) != want {
		return SystemEvent{}, badLayout(f, "a value of %d bytes for %v, version %d", len(m.Value), m.Event, m.Version)
	}
	named := m.Event == EventCollectionBegin || m.Event == EventScopeCreate
	if named != (len(m.Key) > 0) {
		return SystemEvent{}, badLayout(f, "a name of %d bytes for %v", len(m.Key), m.Event)
	}
	return m, nil
}

// Append encodes m behind b.
func (m *SystemEvent) Append(b []byte) []byte {
	var x [13]byte
	binary.BigEndian.PutUint64(x[:], m.BySeqno)
	binary.BigEndian.PutUint32(x[8:], uint32(m.Event))
	x[12] = m.Version
	p := Packet{
		Opcode: OpDCPSystemEvent, Datatype: m.Datatype, VBucket: m.VBucket, Opaque: m.Opaque, CAS: m.CAS,
		Extras: x[:], Key: m.Key, Value: m.Value,
	}
	return p.appendInStream(b, m.StreamID)
}

// PackedEvent is a packed value. Collection is 0 in events of scopes; MaxTTL, in seconds, is told by version 1 alone.
type PackedEvent struct {
	Manifest   uint64
	Scope      uint32
	Collection uint32
	MaxTTL     uint32
}

// Packed decodes the value of a parsed event. ok is false if it is not packed.
func (m *SystemEvent) Packed() (e PackedEvent, ok bool) {
	if m.Version == EventFlatBuffers {
		return PackedEvent{}, false
	}
	v := m.Value
	e = PackedEvent{Manifest: binary.BigEndian.Uint64(v), Scope: binary.BigEndian.Uint32(v[8:])}
	if len(v) >= 16 {
		e.Collection = binary.BigEndian.Uint32(v[12:])
	}
	if len(v) >= 20 {
		e.MaxTTL = binary.BigEndian.Uint32(v[16:])
	}
	return e, true
}

// AppendPacked encodes e behind b as the value of that event in that version. It panics if there is no such encoding.
func (e PackedEvent) AppendPacked(b []byte, event EventID, version uint8) []byte {
	if version > EventPackedV1 || packedLen[event][version] == 0 {
		panic(fmt.Sprintf("mcbp: no packed encoding of %v, version %d", event, version))
	}
	var v [20]byte
	binary.BigEndian.PutUint64(v[:], e.Manifest)
	binary.BigEndian.PutUint32(v[8:], e.Scope)
	binary.BigEndian.PutUint32(v[12:], e.Collection)
	binary.BigEndian.PutUint32(v[16:], e.MaxTTL)
	return append(b, v[:packedLen[event][version]]...)
}
