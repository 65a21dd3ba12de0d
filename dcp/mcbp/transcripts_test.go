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
		OpDCPSetVBucketState, OpDCPNoop, OpDCPBufferAck, OpDCPControl,
	} {
		assert.True(t, covered[op], "no recorded %v", op)
	}
}

// Everything that real engines and their manager were seen to say fits the layouts, opening and answers included.
func TestEveryRecordedFrameHasALayout(t *testing.T) {
	for name, frames := range recordedFrames(t) {
		for i, f := range frames {
			known, err := CheckLayout(f)
			require.NoError(t, err, "%s frame %d", name, i)
			assert.True(t, known, "%s frame %d: %v", name, i, f)
		}
	}
}
