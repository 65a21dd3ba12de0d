package kvnode_test

import (
	"bytes"
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// producerReplay plays a recording's manager towards a node, which must say what the recorded producer said: all answers in
// the same order, and the messages of each stream in the same order. What an engine draws by itself, UUIDs and CAS, is
// translated or left out.
type producerReplay struct {
	t     testing.TB
	lines []line
	admin *client
	p     *client
	name  string
	// uuids translates the recorded engine's UUIDs.
	uuids map[[8]byte][]byte
	// answers and streams are what the node has said and the recording has not been compared with yet.
	answers []mcbp.Frame
	streams map[mcbp.Opaque][]mcbp.Frame
	// marked is the newest marker of each stream; begun counts the markers compared.
	marked map[mcbp.Opaque]mcbp.SnapshotMarker
	begun  map[mcbp.Opaque]int
}

func TestProducerSaysWhatTheRecordedOneSaid(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(transcriptDir, "*.txt"))
	require.NoError(t, err)
	require.Len(t, files, 16)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) { replayProducer(t, name) })
	}
}

func replayProducer(t *testing.T, name string) {
	t.Helper()
	n := startNode(t, "n_A@127.0.0.1", func(o *kvnode.Options) {
		if strings.HasPrefix(name, kvnode.Version72.String()) {
			o.Version = kvnode.Version72
		}
	})
	r := &producerReplay{
		t: t, lines: readTranscript(t, name), admin: login(t, n, mcbp.FeatureJSON), p: connect(t, n),
		uuids: map[[8]byte][]byte{}, streams: map[mcbp.Opaque][]mcbp.Frame{},
		marked: map[mcbp.Opaque]mcbp.SnapshotMarker{}, begun: map[mcbp.Opaque]int{},
	}
	for _, l := range r.lines {
		if l.to == 'P' && l.frame.Opcode() == mcbp.OpDCPStreamReq && l.frame.VBucket() != 511 {
			r.admin.setVBucket(l.frame.VBucket(), mcbp.VBucketActive)
		}
	}
	for _, l := range r.lines {
		if vb, state, ok := l.stateChange(t, "producer"); ok {
			r.caughtUp(vb)
			r.admin.setVBucket(vb, state)
		}
		switch {
		case l.frame == nil || l.frame.Opcode() == mcbp.OpDCPNoop:
			// NOOPs come when they come; read answers them.
		case l.to == 'P':
			r.say(l.frame)
		case l.from == 'P' && l.frame.IsResponse():
			r.expectAnswer(l.frame)
		case l.from == 'P':
			r.expectMessage(l.frame)
		}
	}
	r.nothingElse()
}

// say writes one frame of the manager's. Documents that the recorded stream found in its first snapshot are written before
// the stream is requested; a stream is closed when it has sent what there was, as the recorded one had.
func (r *producerReplay) say(f mcbp.Frame) {
	r.t.Helper()
	switch {
	case f.IsResponse():
	case f.Opcode() == mcbp.OpDCPOpen:
		r.name = string(f.Key())
	case f.Opcode() == mcbp.OpDCPStreamReq:
		r.writeUpTo(f.VBucket(), r.firstSnapshotEnd(f))
		f = r.translate(f)
	case f.Opcode() == mcbp.OpDCPCloseStream:
		r.caughtUp(f.VBucket())
	}
	r.p.write(f)
}

func (r *producerReplay) firstSnapshotEnd(request mcbp.Frame) uint64 {
	for _, l := range r.lines {
		if l.from == 'P' && l.frame.Opcode() == mcbp.OpDCPSnapshotMarker && l.frame.Opaque() == request.Opaque() {
			m, err := mcbp.ParseSnapshotMarker(l.frame)
			require.NoError(r.t, err)
			return m.End
		}
	}
	return 0
}

// writeUpTo writes the recorded documents of a vbucket that have a seqno up to the given one and are not there yet.
func (r *producerReplay) writeUpTo(vb uint16, seqno uint64) {
	r.t.Helper()
	for _, l := range r.lines {
		if l.from != 'P' || l.frame.Opcode() != mcbp.OpDCPMutation || l.frame.VBucket() != vb {
			continue
		}
		m, err := mcbp.ParseMutation(l.frame)
		require.NoError(r.t, err)
		if m.BySeqno <= seqno && m.BySeqno > r.seqno(vb) {
			p := setPacket(vb, string(m.Key[1:]), string(m.Value))
			p.Datatype = m.Datatype
			r.admin.ok(p)
		}
	}
}

func (r *producerReplay) seqno(vb uint16) uint64 {
	return statUint(r.t, r.admin, "vbucket-seqno", vb, "high_seqno")
}

// translate puts the node's UUID into a STREAM_REQ in the place of the recorded engine's. Others stay.
func (r *producerReplay) translate(f mcbp.Frame) mcbp.Frame {
	const at, end = mcbp.HeaderLen + 24, mcbp.HeaderLen + 32
	if mine, ok := r.uuids[[8]byte(f[at:end])]; ok {
		f = bytes.Clone(f)
		copy(f[at:end], mine)
	}
	return f
}

// caughtUp waits until the stream of a vbucket, if there is one, has sent everything.
func (r *producerReplay) caughtUp(vb uint16) {
	r.t.Helper()
	eventually(r.t, "the stream has caught up", func() bool {
		pairs, status := r.admin.stats("dcp-vbtakeover " + utoa(vb) + " " + r.name)
		return status != mcbp.StatusSuccess || pairs["estimate"] == "0"
	})
}

// read takes the node's next frame and sorts it.
func (r *producerReplay) read() {
	r.t.Helper()
	f := r.p.read()
	switch {
	case f.Opcode() == mcbp.OpDCPNoop && !f.IsResponse():
		r.p.write(mcbp.Response(f, mcbp.StatusSuccess).Frame())
	case f.IsResponse():
		r.answers = append(r.answers, f)
	default:
		r.streams[f.Opaque()] = append(r.streams[f.Opaque()], f)
	}
}

func (r *producerReplay) expectAnswer(want mcbp.Frame) {
	r.t.Helper()
	for len(r.answers) == 0 {
		r.read()
	}
	got := r.answers[0]
	r.answers = r.answers[1:]
	if want.Opcode() == mcbp.OpDCPStreamReq && want.Status() == mcbp.StatusSuccess {
		require.Len(r.t, got, len(want), "%v", got)
		r.uuids[[8]byte(want.Value())] = got.Value()[:8]
		want = bytes.Clone(want)
		copy(want.Value(), got.Value()[:8])
	}
	require.Equal(r.t, hex.EncodeToString(want), hex.EncodeToString(got), "%v", want)
}

// expectMessage compares a stream's next message. How many writes share a snapshot while a stream is live depends on
// moments; only the first marker of a stream is compared as it is.
func (r *producerReplay) expectMessage(want mcbp.Frame) {
	r.t.Helper()
	opaque := want.Opaque()
	if want.Opcode() == mcbp.OpDCPSnapshotMarker {
		m, err := mcbp.ParseSnapshotMarker(want)
		require.NoError(r.t, err)
		r.writeUpTo(want.VBucket(), m.End)
		if r.begun[opaque]++; r.begun[opaque] > 1 {
			return
		}
	}
	got := r.next(opaque)
	for got.Opcode() == mcbp.OpDCPSnapshotMarker {
		m, err := mcbp.ParseSnapshotMarker(got)
		require.NoError(r.t, err)
		r.marked[opaque] = m
		if want.Opcode() == mcbp.OpDCPSnapshotMarker {
			break
		}
		require.Equal(r.t, mcbp.MarkerV20, m.Version)
		require.Equal(r.t, mcbp.SnapshotMemory, m.Flags)
		got = r.next(opaque)
	}
	if want.Opcode() == mcbp.OpDCPMutation {
		m, err := mcbp.ParseMutation(got)
		require.NoError(r.t, err, "%v", got)
		require.GreaterOrEqual(r.t, m.BySeqno, r.marked[opaque].Start)
		require.LessOrEqual(r.t, m.BySeqno, r.marked[opaque].End)
		require.NotZero(r.t, m.CAS)
		want, got = withoutChance(want), withoutChance(got)
	}
	require.Equal(r.t, hex.EncodeToString(want), hex.EncodeToString(got), "%v", want)
}

func (r *producerReplay) next(opaque mcbp.Opaque) mcbp.Frame {
	r.t.Helper()
	for len(r.streams[opaque]) == 0 {
		r.read()
	}
	f := r.streams[opaque][0]
	r.streams[opaque] = r.streams[opaque][1:]
	return f
}

// withoutChance leaves out a mutation's CAS and how hot the document is.
func withoutChance(f mcbp.Frame) mcbp.Frame {
	f = bytes.Clone(f)
	clear(f[16:mcbp.HeaderLen])
	f[mcbp.HeaderLen+30] = 0
	return f
}

// nothingElse checks that the node has not said more than the recorded engine.
func (r *producerReplay) nothingElse() {
	r.t.Helper()
	probe := mcbp.Opaque{0xab, 0xcd}
	r.p.write((&mcbp.Packet{Opcode: mcbp.OpDCPNoop, Opaque: probe}).Frame())
	for len(r.answers) == 0 {
		r.read()
	}
	require.Equal(r.t, probe, r.answers[0].Opaque(), "%v", r.answers[0])
	for opaque, left := range r.streams {
		require.Empty(r.t, left, "stream %v", opaque)
	}
}
