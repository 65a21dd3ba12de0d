package fault

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// EndStream has a producer end the stream of the vbucket that a frame is about, with a STREAM_END directly behind the frame,
// or before it. Nothing more of the stream is sent. The vbucket's state stays as it is. Where there is no stream, nothing is
// done, and that counts as if it had been.
type EndStream struct {
	Reason mcbp.EndReason
	// Before puts the STREAM_END before the frame. A frame that belongs to the stream is then not sent at all.
	Before bool
}

func (a EndStream) String() string {
	if a.Before {
		return fmt.Sprintf("end the stream before it (%v)", a.Reason)
	}
	return fmt.Sprintf("end the stream behind it (%v)", a.Reason)
}

func (a EndStream) check(m Match) error {
	if m.Role != AnyRole && m.Role != Producer {
		return &RuleError{"Match.Role", m.Role, "only producers end streams"}
	}
	return nil
}

func (EndStream) adapt(m *Match) { m.Role = Producer }

func (EndStream) applies(s *sight, _ *Match) bool { return s.vb >= 0 }

func (a EndStream) received(t *tap, _ *Fault, s *sight) error {
	if a.Before {
		t.s.EndStream(uint16(s.vb), a.Reason)
		return t.pass(s)
	}
	err := t.pass(s)
	t.s.EndStream(uint16(s.vb), a.Reason)
	return err
}

func (a EndStream) sent(t *tap, _ *Fault, s *sight) error {
	vb, f := uint16(s.vb), s.frame
	opaque, ok := t.s.DropStream(vb)
	if !ok {
		return t.pass(s)
	}
	t.memory.end(vb, opaque)
	end := mcbp.Frame(mcbp.StreamEnd{VBucket: vb, Opaque: opaque, Reason: a.Reason}.Append(nil))
	t.s.Sent(int64(mcbp.FlowControlCost(end)))
	if !a.Before {
		if err := t.pass(s); err != nil {
			return err
		}
		return t.s.Write(end)
	}
	if err := t.s.Write(end); err != nil {
		return err
	}
	if !f.IsResponse() && f.Opaque() == opaque {
		t.s.Sent(-int64(mcbp.FlowControlCost(f)))
		return nil
	}
	return t.pass(s)
}

// RefuseRollback has a consumer not roll back when its producer tells it to: it takes the answer for a refusal, and fails the
// ADD_STREAM with the status.
type RefuseRollback struct {
	// Status is what it makes of the answer; 0 means an internal error.
	Status mcbp.Status
}

func (RefuseRollback) String() string { return "refuse to roll back" }

func (RefuseRollback) check(m Match) error {
	if m.Role != AnyRole && m.Role != Consumer {
		return &RuleError{"Match.Role", m.Role, "only consumers roll back"}
	}
	return only(m, Received)
}

func (RefuseRollback) adapt(m *Match) {
	m.Role, m.Direction, m.Frames = Consumer, Received, Answers
	m.Opcodes, m.Statuses = []mcbp.Opcode{mcbp.OpDCPStreamReq}, []mcbp.Status{mcbp.StatusRollback}
}

func (a RefuseRollback) received(t *tap, _ *Fault, s *sight) error {
	status := a.Status
	if status == mcbp.StatusSuccess {
		status = mcbp.StatusInternalError
	}
	return t.passAs(s, mcbp.Response(s.frame, status).Frame())
}

func (RefuseRollback) sent(t *tap, _ *Fault, s *sight) error { return t.pass(s) }

// Seqnos has a node lie about the seqnos of vbuckets, in its answers to GET_ALL_VB_SEQNOS, STAT and GET_FAILOVER_LOG, and in
// the failover logs that it sends with STREAM_REQ's: By is added to each. A result below 0 is 0. Of an answer that is about
// many vbuckets only those of the rule are changed, and an answer that has none of them does not fit.
type Seqnos struct {
	By int64
}

func (a Seqnos) String() string { return fmt.Sprintf("seqnos %+d", a.By) }

func (a Seqnos) check(m Match) error {
	if a.By == 0 {
		return &RuleError{"Do.By", 0, "would be the truth"}
	}
	return only(m, Sent)
}

func (a Seqnos) adapt(m *Match) {
	m.Direction, m.Frames = Sent, Answers
	if m.Opcodes == nil {
		m.Opcodes = []mcbp.Opcode{
			mcbp.OpGetAllVBSeqnos, mcbp.OpStat, mcbp.OpGetFailoverLog, mcbp.OpDCPGetFailoverLog, mcbp.OpDCPStreamReq,
		}
	}
}

func (a Seqnos) applies(s *sight, m *Match) bool { return a.lie(s, m.VBuckets) != nil }

func (a Seqnos) received(t *tap, _ *Fault, s *sight) error { return t.pass(s) }

func (a Seqnos) sent(t *tap, f *Fault, s *sight) error {
	return t.passAs(s, a.lie(s, f.match.VBuckets))
}

// lie is the answer with other seqnos, or nil if it has none to change.
func (a Seqnos) lie(s *sight, vbs []uint16) mcbp.Frame {
	f := s.frame
	if f.Status() != mcbp.StatusSuccess {
		return nil
	}
	p := &mcbp.Packet{
		Magic: f.Magic(), Opcode: f.Opcode(), Datatype: f.Datatype(), Opaque: f.Opaque(), CAS: f.CAS(),
		FramingExtras: f.FramingExtras(), Extras: f.Extras(), Key: f.Key(),
	}
	about := func(vb int) bool { return vbs == nil || vb >= 0 && slices.Contains(vbs, uint16(vb)) }
	changed := false
	switch f.Opcode() {
	case mcbp.OpGetAllVBSeqnos:
		all, err := mcbp.ParseVBSeqnos(f.Value())
		if err != nil {
			return nil
		}
		for i := range all {
			if about(int(all[i].VBucket)) {
				all[i].Seqno = a.shift(all[i].Seqno)
				changed = true
			}
		}
		p.Value = mcbp.AppendVBSeqnos(nil, all)
	case mcbp.OpStat:
		vb, seqno, ok := seqnoStat(string(f.Key()), string(f.Value()))
		if !ok || !about(vb) {
			return nil
		}
		p.Value, changed = strconv.AppendUint(nil, a.shift(seqno), 10), true
	default:
		log, err := mcbp.ParseFailoverLog(f.Value())
		if err != nil || !about(s.vb) {
			return nil
		}
		for i := range log {
			log[i].Seqno = a.shift(log[i].Seqno)
			changed = true
		}
		p.Value = mcbp.AppendFailoverLog(nil, log)
	}
	if !changed {
		return nil
	}
	return p.Frame()
}

func (a Seqnos) shift(seqno uint64) uint64 {
	if a.By < 0 && seqno < uint64(-a.By) {
		return 0
	}
	return seqno + uint64(a.By)
}

// seqnoStat takes a statistic such as vb_7:high_seqno apart.
func seqnoStat(key, value string) (vb int, seqno uint64, ok bool) {
	number, name, _ := strings.Cut(strings.TrimPrefix(key, "vb_"), ":")
	if !strings.HasPrefix(key, "vb_") || !strings.Contains(name, "seqno") {
		return 0, 0, false
	}
	id, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return 0, 0, false
	}
	seqno, err = strconv.ParseUint(value, 10, 64)
	return int(id), seqno, err == nil
}

// SlowDisk holds up a node before it touches its disk. The rule's Match may name nodes and buckets; nothing else.
type SlowDisk struct {
	// For is how long each access takes longer; 0 is until the rule is removed.
	For time.Duration
	// Kinds are those that are slow; nil means all.
	Kinds []kvnode.DiskKind
}

func (a SlowDisk) String() string {
	if a.For == 0 {
		return "a disk that hangs"
	}
	return fmt.Sprintf("a disk that is slower by %v", a.For)
}

func (a SlowDisk) fits(kind kvnode.DiskKind) bool {
	return a.Kinds == nil || slices.Contains(a.Kinds, kind)
}

func (a SlowDisk) check(m Match) error {
	switch {
	case a.For < 0:
		return &RuleError{"Do.For", a.For, "must not be negative"}
	case m.Connection != "":
		return &RuleError{"Match.Connection", m.Connection, "a disk serves all connections"}
	case m.Peer != "":
		return &RuleError{"Match.Peer", m.Peer, "a disk serves all connections"}
	case m.Role != AnyRole:
		return &RuleError{"Match.Role", m.Role, "a disk serves all connections"}
	}
	return m.checkNoFrames("a disk serves all frames")
}

func (SlowDisk) received(t *tap, _ *Fault, s *sight) error { return t.pass(s) }

func (SlowDisk) sent(t *tap, _ *Fault, s *sight) error { return t.pass(s) }
