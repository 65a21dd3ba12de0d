package mcbp

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A relay looks at every header, so a look must cost nothing but the look.
func TestTheHeaderViewAllocatesNothing(t *testing.T) {
	var sink int
	for name, f := range allLayouts() {
		allocs := testing.AllocsPerRun(100, func() {
			n, err := FrameLen(f, DefaultMaxBody)
			view, rest, perr := Parse(f, DefaultMaxBody)
			if err != nil || perr != nil {
				panic(name)
			}
			o := view.Opaque()
			sink += n + len(rest) + len(view.Extras()) + len(view.Key()) + len(view.Value()) + len(view.FramingExtras()) +
				int(view.Opcode()) + int(view.VBucket()) + int(view.Status()) + int(o[0]) + int(view.CAS()) + int(view.Datatype()) +
				int(FlowControlCost(view))
		})
		assert.Zero(t, allocs, name)
	}
	assert.NotZero(t, sink)
}

// Messages that point into their frame, or are numbers only, are decoded in place and encoded into a buffer that is there.
func TestMessagesOfAStreamAreDecodedInPlace(t *testing.T) {
	all := allLayouts()
	buf := make([]byte, 0, 1<<10)
	for name, again := range map[string]func(Frame) ([]byte, error){
		"add stream":         func(f Frame) ([]byte, error) { m, err := ParseAddStream(f); return m.Append(buf), err },
		"add stream answer":  func(f Frame) ([]byte, error) { m, err := ParseAddStreamAnswer(f); return m.Append(buf), err },
		"close stream":       func(f Frame) ([]byte, error) { m, err := ParseCloseStream(f); return m.Append(buf), err },
		"stream request":     func(f Frame) ([]byte, error) { m, err := ParseStreamRequest(f); return m.Append(buf), err },
		"stream end":         func(f Frame) ([]byte, error) { m, err := ParseStreamEnd(f); return m.Append(buf), err },
		"marker v1":          func(f Frame) ([]byte, error) { m, err := ParseSnapshotMarker(f); return m.Append(buf), err },
		"marker v2.2":        func(f Frame) ([]byte, error) { m, err := ParseSnapshotMarker(f); return m.Append(buf), err },
		"mutation":           func(f Frame) ([]byte, error) { m, err := ParseMutation(f); return m.Append(buf), err },
		"deletion v2":        func(f Frame) ([]byte, error) { m, err := ParseDeletion(f); return m.Append(buf), err },
		"expiration":         func(f Frame) ([]byte, error) { m, err := ParseDeletion(f); return m.Append(buf), err },
		"set vbucket state":  func(f Frame) ([]byte, error) { m, err := ParseSetVBucketState(f); return m.Append(buf), err },
		"noop":               func(f Frame) ([]byte, error) { m, err := ParseNoop(f); return m.Append(buf), err },
		"buffer ack":         func(f Frame) ([]byte, error) { m, err := ParseBufferAck(f); return m.Append(buf), err },
		"system event":       func(f Frame) ([]byte, error) { m, err := ParseSystemEvent(f); return m.Append(buf), err },
		"prepare":            func(f Frame) ([]byte, error) { m, err := ParsePrepare(f); return m.Append(buf), err },
		"commit":             func(f Frame) ([]byte, error) { m, err := ParseCompletion(f); return m.Append(buf), err },
		"seqno acknowledged": func(f Frame) ([]byte, error) { m, err := ParseSeqnoMessage(f); return m.Append(buf), err },
		"oso start":          func(f Frame) ([]byte, error) { m, err := ParseOSOSnapshot(f); return m.Append(buf), err },
		"cache transfer":     func(f Frame) ([]byte, error) { m, err := ParseCacheTransfer(f); return m.Append(buf), err },
		"close stream answer": func(f Frame) ([]byte, error) {
			m, err := ParseStatusAnswer(f)
			return m.Append(buf), err
		},
	} {
		f := all[name]
		require.NotNil(t, f, name)
		framed := rebuilt(f, func(p *Packet) {
			if !f.IsResponse() {
				p.Magic, p.FramingExtras = MagicFramingRequest, []byte{0x22, 0, 1}
			}
		})
		if _, _, err := reencode(framed); err != nil {
			framed = f // not of a stream
		}
		for _, f := range []Frame{f, framed} {
			var out []byte
			var err error
			assert.Zero(t, testing.AllocsPerRun(100, func() { out, err = again(f) }), name)
			require.NoError(t, err, name)
			assert.Equal(t, []byte(f), out, name)
		}
	}
}

func TestPartsAreReadInPlace(t *testing.T) {
	framing := []byte{0x22, 0, 1, 0x13, 1, 0, 9}
	records, key := cacheRecords(), []byte("\xff\xff\xff\xff\x0fkey")
	var sink int
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		info, rest, _ := NextFrameInfo(framing)
		d, _ := ParseDurability(rest[1:])
		r, _, _ := NextCacheRecord(records)
		id, _, _ := SplitCollection(key)
		if CheckFrameInfos(framing, false) == nil {
			sink += int(info.ID) + int(d.Level) + len(r.Key) + int(id)
		}
	}))
	assert.NotZero(t, sink)
}

// The lengths that a peer sends decide nothing before the bytes are there.
func TestALengthAloneAllocatesNothing(t *testing.T) {
	header := (&Packet{Opcode: OpDCPMutation, Extras: make([]byte, 31)}).Frame()[:HeaderLen]
	binary.BigEndian.PutUint32(header[8:], DefaultMaxBody)
	inBounds(t, 0, func() {
		for range 1000 {
			_, _, err := Parse(header, DefaultMaxBody)
			assert.ErrorIs(t, err, ErrShortHeader)
		}
	})
	record := bytes.Clone(cacheRecords())
	binary.BigEndian.PutUint32(record[24:], 1<<31)
	inBounds(t, 0, func() {
		_, _, err := NextCacheRecord(record)
		assert.Error(t, err)
	})
}
