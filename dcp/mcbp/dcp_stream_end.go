package mcbp

import "encoding/binary"

// StreamEnd is a producer's last word on a stream (dcp-wire §6.5). It is not answered.
type StreamEnd struct {
	VBucket uint16
	// Opaque is the stream's, never that of an ADD_STREAM.
	Opaque Opaque
	// StreamID tells several streams of the vbucket apart; 0 if there is only one.
	StreamID uint16
	Reason   EndReason
}

var streamEndShape = shape{opcode: OpDCPStreamEnd, scope: ofStream, extras: []int{4}}

// ParseStreamEnd decodes a STREAM_END. Reasons that are not named here are accepted: they are failures, not bad frames.
func ParseStreamEnd(f Frame) (StreamEnd, error) {
	if err := streamEndShape.check(f); err != nil {
		return StreamEnd{}, err
	}
	return StreamEnd{
		VBucket: f.VBucket(), Opaque: f.Opaque(), StreamID: streamID(f), Reason: EndReason(binary.BigEndian.Uint32(f.Extras())),
	}, nil
}

// Append encodes m behind b.
func (m StreamEnd) Append(b []byte) []byte {
	var extras [4]byte
	binary.BigEndian.PutUint32(extras[:], uint32(m.Reason))
	return (&Packet{Opcode: OpDCPStreamEnd, VBucket: m.VBucket, Opaque: m.Opaque, Extras: extras[:]}).appendInStream(b, m.StreamID)
}

// SetVBucketState tells the consumer of a takeover stream its vbucket's new state (dcp-wire §6.10). It is always
// answered, with the same opaque.
type SetVBucketState struct {
	VBucket uint16
	Opaque  Opaque
	// StreamID tells several streams of the vbucket apart; 0 if there is only one.
	StreamID uint16
	State    VBucketState
	// Value is an optional JSON value, passed through undecoded. It aliases the frame that was parsed.
	Value []byte
}

var setVBucketStateShape = shape{
	opcode: OpDCPSetVBucketState, scope: ofStream, extras: []int{1}, value: optional, datatype: DatatypeJSON,
}

// ParseSetVBucketState decodes a SET_VBUCKET_STATE. States that no engine knows are an error, and so is a value that is not
// marked as JSON.
func ParseSetVBucketState(f Frame) (SetVBucketState, error) {
	if err := setVBucketStateShape.check(f); err != nil {
		return SetVBucketState{}, err
	}
	if err := checkJSON(f); err != nil {
		return SetVBucketState{}, err
	}
	state := VBucketState(f.Extras()[0])
	if state < VBucketActive || state > VBucketDead {
		return SetVBucketState{}, badLayout(f, "unknown state %d", byte(state))
	}
	return SetVBucketState{
		VBucket: f.VBucket(), Opaque: f.Opaque(), StreamID: streamID(f), State: state, Value: f.Value(),
	}, nil
}

// Append encodes m behind b. A value is sent with datatype JSON.
func (m SetVBucketState) Append(b []byte) []byte {
	extras := [1]byte{byte(m.State)}
	p := Packet{Opcode: OpDCPSetVBucketState, VBucket: m.VBucket, Opaque: m.Opaque, Extras: extras[:], Value: m.Value}
	if len(m.Value) > 0 {
		p.Datatype = DatatypeJSON
	}
	return p.appendInStream(b, m.StreamID)
}
