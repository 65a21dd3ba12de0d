package mcbp

import (
	"bufio"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// recordedFrames reads the frames of every recorded conversation with a real engine, each line one frame:
// milliseconds, sender and receiver, hex. Lines with "#" are comments.
func recordedFrames(t testing.TB) map[string][]Frame {
	t.Helper()
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	require.NoError(t, err)
	require.Len(t, files, 16)
	frames := map[string][]Frame{}
	for _, name := range files {
		file, err := os.Open(name)
		require.NoError(t, err)
		for lines := bufio.NewScanner(file); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) != 3 || strings.Contains(lines.Text(), "#") {
				continue
			}
			raw, err := hex.DecodeString(fields[2])
			require.NoError(t, err, name)
			frames[filepath.Base(name)] = append(frames[filepath.Base(name)], raw)
		}
		require.NoError(t, file.Close())
		require.NotEmpty(t, frames[filepath.Base(name)], name)
	}
	return frames
}

// packetOf takes a frame apart with its accessors.
func packetOf(f Frame) *Packet {
	p := &Packet{
		Magic: f.Magic(), Opcode: f.Opcode(), Datatype: f.Datatype(), Opaque: f.Opaque(), CAS: f.CAS(),
		FramingExtras: f.FramingExtras(), Extras: f.Extras(), Key: f.Key(), Value: f.Value(),
	}
	if f.IsResponse() {
		p.Status = f.Status()
	} else {
		p.VBucket = f.VBucket()
	}
	return p
}

func TestEveryRecordedFrameParsesAndEncodesBack(t *testing.T) {
	for name, frames := range recordedFrames(t) {
		for i, raw := range frames {
			f, rest, err := Parse(raw, DefaultMaxBody)
			require.NoError(t, err, "%s frame %d", name, i)
			require.Empty(t, rest, "%s frame %d", name, i)
			assert.Equal(t, hex.EncodeToString(raw), hex.EncodeToString(packetOf(f).Frame()), "%s frame %d", name, i)
		}
	}
}

// reencode decodes a DCP frame by its layout and encodes it again. ok is false if no layout belongs to the frame.
func reencode(f Frame) (again Frame, ok bool, err error) {
	if f.IsResponse() {
		switch f.Opcode() {
		case OpDCPAddStream:
			m, err := ParseAddStreamAnswer(f)
			return m.Append(nil), true, err
		case OpDCPStreamReq:
			m, err := ParseStreamRequestAnswer(f)
			return m.Append(nil), true, err
		}
		return nil, false, nil
	}
	switch f.Opcode() {
	case OpDCPOpen:
		m, err := ParseOpen(f)
		return m.Append(nil), true, err
	case OpDCPAddStream:
		m, err := ParseAddStream(f)
		return m.Append(nil), true, err
	case OpDCPCloseStream:
		m, err := ParseCloseStream(f)
		return m.Append(nil), true, err
	case OpDCPStreamReq:
		m, err := ParseStreamRequest(f)
		return m.Append(nil), true, err
	case OpDCPStreamEnd:
		m, err := ParseStreamEnd(f)
		return m.Append(nil), true, err
	case OpDCPSnapshotMarker:
		m, err := ParseSnapshotMarker(f)
		return m.Append(nil), true, err
	case OpDCPMutation:
		m, err := ParseMutation(f)
		return m.Append(nil), true, err
	case OpDCPDeletion, OpDCPExpiration:
		m, err := ParseDeletion(f)
		return m.Append(nil), true, err
	case OpDCPSetVBucketState:
		m, err := ParseSetVBucketState(f)
		return m.Append(nil), true, err
	case OpDCPBufferAck:
		m, err := ParseBufferAck(f)
		return m.Append(nil), true, err
	case OpDCPControl:
		m, err := ParseControl(f)
		return m.Append(nil), true, err
	case OpDCPSeqnoAcknowledged, OpDCPSeqnoAdvanced:
		m, err := ParseSeqnoMessage(f)
		return m.Append(nil), true, err
	}
	return nil, false, nil
}

func TestEveryRecordedDCPFrameFitsItsLayout(t *testing.T) {
	covered := map[Opcode]bool{}
	for name, frames := range recordedFrames(t) {
		for i, f := range frames {
			again, ok, err := reencode(f)
			require.NoError(t, err, "%s frame %d", name, i)
			if !ok {
				continue
			}
			covered[f.Opcode()] = true
			assert.Equal(t, hex.EncodeToString(f), hex.EncodeToString(again), "%s frame %d", name, i)
		}
	}
	for _, op := range []Opcode{
		OpDCPOpen, OpDCPAddStream, OpDCPCloseStream, OpDCPStreamReq, OpDCPStreamEnd, OpDCPSnapshotMarker, OpDCPMutation,
		OpDCPSetVBucketState, OpDCPBufferAck, OpDCPControl,
	} {
		assert.True(t, covered[op], "no recorded %v", op)
	}
}
