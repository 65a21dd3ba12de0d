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

// recordedFrames are the frames of every recorded conversation with a real engine.
func recordedFrames(t testing.TB) map[string][]Frame {
	t.Helper()
	frames := map[string][]Frame{}
	for name, lines := range recordedLines(t) {
		for _, l := range lines {
			frames[name] = append(frames[name], l.frame)
		}
	}
	return frames
}

// recordedLine is one frame and its way, such as "M>C".
type recordedLine struct {
	way   string
	frame Frame
}

// recordedLines reads the recordings, each line one frame: milliseconds, sender and receiver, hex. Lines with "#" are
// comments.
func recordedLines(t testing.TB) map[string][]recordedLine {
	t.Helper()
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	require.NoError(t, err)
	require.Len(t, files, 16)
	recorded := map[string][]recordedLine{}
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
			recorded[filepath.Base(name)] = append(recorded[filepath.Base(name)], recordedLine{way: fields[1], frame: raw})
		}
		require.NoError(t, file.Close())
		require.NotEmpty(t, recorded[filepath.Base(name)], name)
	}
	return recorded
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

// A real consumer acknowledges what we count, to the byte: a producer that counted otherwise would stop for ever one day
// (history 35). The recording has an acknowledgement after five seconds of silence, so everything is in it.
func TestHistory35RealConsumersCountAsWeDo(t *testing.T) {
	acks := 0
	for name, lines := range recordedLines(t) {
		var outstanding uint32
		for _, l := range lines {
			switch op := l.frame.Opcode(); {
			case l.way == "M>C" && op >= OpDCPStreamReq && op <= OpDCPCacheTransferEnd: // not what the manager says itself
				outstanding += FlowControlCost(l.frame)
			case l.way == "C>M" && op == OpDCPBufferAck:
				ack, err := ParseBufferAck(l.frame)
				require.NoError(t, err)
				assert.Equal(t, outstanding, ack.Bytes, name)
				outstanding = 0
				acks++
			}
		}
	}
	assert.Equal(t, 1, acks)
}
