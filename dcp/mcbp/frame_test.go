package mcbp

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFrameLenNeedsAHeader(t *testing.T) {
	whole := (&Packet{Opcode: OpNoop}).Frame()
	for n := range HeaderLen {
		_, err := FrameLen(whole[:n], DefaultMaxBody)
		require.ErrorIs(t, err, ErrShortHeader, "%d bytes", n)
	}
	n, err := FrameLen(whole, DefaultMaxBody)
	require.NoError(t, err)
	assert.Equal(t, HeaderLen, n)
}

func TestParseNeedsTheWholeBody(t *testing.T) {
	whole := (&Packet{Opcode: OpSet, Key: []byte("k"), Value: []byte("value")}).Frame()
	_, _, err := Parse(whole[:len(whole)-1], DefaultMaxBody)
	require.ErrorIs(t, err, ErrShortHeader)

	f, rest, err := Parse(append(bytes.Clone(whole), 1, 2, 3), DefaultMaxBody)
	require.NoError(t, err)
	assert.Equal(t, whole, f)
	assert.Equal(t, []byte{1, 2, 3}, rest)
	assert.Len(t, f, cap(f), "appending to a frame must not reach the next one")
}

func TestMalformedFrames(t *testing.T) {
	base := (&Packet{Opcode: OpSet, Extras: make([]byte, 8), Key: []byte("key"), Value: []byte("v")}).Frame()
	change := func(at int, b byte) Frame {
		f := bytes.Clone(base)
		f[at] = b
		return f
	}
	framing := (&Packet{Magic: MagicFramingRequest, Opcode: OpSet, FramingExtras: []byte{0}, Extras: make([]byte, 8), Key: []byte("key")}).Frame()
	framing[2]++
	long := bytes.Clone(base)
	binary.BigEndian.PutUint32(long[8:], 1025)
	for name, v := range map[string]struct {
		frame Frame
		why   string
	}{
		"magic":                   {change(0, 0x42), "unknown magic"},
		"body over the limit":     {long, "over the limit of 1024"},
		"key longer than body":    {change(2, 0xff), "longer than the body"},
		"extras longer than body": {change(4, 0xff), "longer than the body"},
		"parts together longer":   {change(4, 10), "longer than the body"},
		"framing extras as well":  {framing, "longer than the body"},
	} {
		_, _, err := Parse(v.frame, 1024)
		var malformed *MalformedError
		require.ErrorAs(t, err, &malformed, name)
		assert.Equal(t, []byte(v.frame[:HeaderLen]), malformed.Header[:], name)
		assert.ErrorContains(t, err, v.why, name)
	}
}

func TestAppendRefusesWhatNoLengthFieldCanSay(t *testing.T) {
	for name, p := range map[string]*Packet{
		"extras":                       {Extras: make([]byte, 256)},
		"key":                          {Key: make([]byte, 65536)},
		"key with framing extras":      {Magic: MagicFramingRequest, Key: make([]byte, 256)},
		"framing extras":               {Magic: MagicFramingRequest, FramingExtras: make([]byte, 256)},
		"framing extras, plain header": {FramingExtras: []byte{1}},
	} {
		assert.Panics(t, func() { p.Frame() }, name)
	}
}

func TestResponseEchoesOpcodeAndOpaque(t *testing.T) {
	request := (&Packet{Opcode: OpGet, VBucket: 9, Opaque: Opaque{1, 2, 3, 4}, Key: []byte("k")}).Frame()
	f := Response(request, StatusKeyNotFound).Frame()
	assert.Equal(t, MagicResponse, f.Magic())
	assert.Equal(t, OpGet, f.Opcode())
	assert.Equal(t, Opaque{1, 2, 3, 4}, f.Opaque())
	assert.Equal(t, StatusKeyNotFound, f.Status())
	assert.Zero(t, f.BodyLen())
}

func TestNamesNeverShowKeysOrValues(t *testing.T) {
	f := (&Packet{Opcode: OpSet, Key: []byte("secret-key"), Value: []byte("secret-value")}).Frame()
	assert.NotContains(t, f.String(), "secret")
	assert.Equal(t, "SET request vb=0 opaque=00000000 body=22", f.String())
	assert.Equal(t, "opcode 0xc1", Opcode(0xc1).String())
	assert.Equal(t, "not my vbucket (0x07)", StatusNotMyVBucket.Error())
	assert.Equal(t, "status 0xbeef", Status(0xbeef).String())
	assert.Equal(t, "state changed", EndStateChanged.String())
	assert.Equal(t, "reason 0x63", EndReason(99).String())
}
