package fault

import (
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// identity is what is known of a connection. It is never changed, only replaced.
type identity struct {
	node, bucket, name, peer string
	role                     Role
}

// table is what the rules mean for one connection, so that a frame that no rule is for costs one look.
type table struct {
	of     *ruleset
	who    *identity
	faults []*Fault
	// wants says by direction and opcode which frames to look at. idle says that there are none in that direction.
	wants [2][256]bool
	idle  [2]bool
	// stale says that opaques are to be remembered.
	stale bool
	// watched says that somebody waits for frames that pass.
	watched bool
}

func newTable(of *ruleset, who *identity) *table {
	t := &table{of: of, who: who, idle: [2]bool{true, true}}
	for _, f := range of.faults {
		fits := f.match.fitsConnection(who)
		if hold, ok := f.rule.Do.(Hold); ok {
			if hold.Until.fitsConnection(who) {
				t.want(&hold.Until)
				fits, t.watched = true, true
			}
		}
		if _, disk := f.rule.Do.(SlowDisk); disk || !fits {
			continue
		}
		t.faults = append(t.faults, f)
		t.want(&f.match)
		if _, stale := f.rule.Do.(StaleOpaque); stale {
			t.stale = true
			t.mark(Received, mcbp.OpDCPStreamReq)
			t.mark(Sent, mcbp.OpDCPStreamReq)
		}
	}
	return t
}

// want marks the frames that a match may fit, and the requests by which an answer of such a kind is known to be about a
// vbucket.
func (t *table) want(m *Match) {
	for op := range 256 {
		op := mcbp.Opcode(op)
		for _, way := range []Direction{Received, Sent} {
			request, answer := m.fitsKind(way, op, false), m.fitsKind(way, op, true)
			if request || answer {
				t.mark(way, op)
			}
			if answer && answered(op) {
				t.mark(way.opposite(), op)
			}
		}
	}
}

func (t *table) mark(way Direction, op mcbp.Opcode) {
	t.wants[way-Received][op] = true
	t.idle[way-Received] = false
}

func (d Direction) opposite() Direction { return Received + Sent - d }

func (t *table) looks(way Direction, f mcbp.Frame) bool { return t.wants[way-Received][f.Opcode()] }

// sight is a frame with what is known about it.
type sight struct {
	who   *identity
	way   Direction
	frame mcbp.Frame
	// vb is -1 if the frame is about none, or it is not known.
	vb int
	// before is the opaque of the frame of the same kind, and about the same vbucket, before this one.
	before    mcbp.Opaque
	hasBefore bool
	// turn is how often the fault that strikes the frame has happened, this time included.
	turn int
}

func (s *sight) record() Strike {
	f := s.frame
	return Strike{
		Node: s.who.node, Bucket: s.who.bucket, Connection: s.who.name, Peer: s.who.peer, Role: s.who.role,
		Direction: s.way, Opcode: f.Opcode(), Answer: f.IsResponse(), VBucket: s.vb, Opaque: f.Opaque(),
	}
}

// strike returns the first fault that is due for a frame, recorded, or nil.
func (t *table) strike(s *sight) *Fault {
	for _, f := range t.faults {
		if !f.fits(s) {
			continue
		}
		if s.turn = f.strike(s.record()); s.turn > 0 {
			return f
		}
	}
	return nil
}

// fits reports whether a frame fits the rule, and the action has something to do there.
func (f *Fault) fits(s *sight) bool {
	m := &f.match
	_, anyVB := f.rule.Do.(Seqnos)
	if !m.fitsConnection(s.who) || !m.fitsFrame(s, anyVB) {
		return false
	}
	if a, ok := f.rule.Do.(interface {
		applies(s *sight, m *Match) bool
	}); ok {
		return a.applies(s, m)
	}
	return true
}

// passed tells the rules that hold something back that a frame has gone by.
func (t *table) passed(s *sight) {
	for _, f := range t.faults {
		hold, ok := f.rule.Do.(Hold)
		if !ok || !hold.Until.fitsConnection(s.who) || !hold.Until.fitsFrame(s, false) {
			continue
		}
		f.script.mu.Lock()
		f.passed++
		f.script.spent(f)
		f.notify()
		f.script.mu.Unlock()
	}
}

// answered reports whether requests of this kind are answered as a rule: the others need not be remembered.
func answered(op mcbp.Opcode) bool {
	switch op {
	case mcbp.OpDCPMutation, mcbp.OpDCPDeletion, mcbp.OpDCPExpiration, mcbp.OpDCPStreamEnd,
		mcbp.OpDCPBufferAck, mcbp.OpDCPSystemEvent, mcbp.OpDCPPrepare, mcbp.OpDCPCommit, mcbp.OpDCPAbort,
		mcbp.OpDCPSeqnoAdvanced, mcbp.OpDCPSeqnoAcknowledged, mcbp.OpDCPOSOSnapshot, mcbp.OpStat:
		return false
	}
	return true
}

// aboutVBucket reports whether the vbucket in the header of such a request means something.
func aboutVBucket(f mcbp.Frame) bool {
	switch f.Magic() {
	case mcbp.MagicServerRequest, mcbp.MagicServerResponse:
		return false
	}
	switch f.Opcode() {
	case mcbp.OpQuit, mcbp.OpNoop, mcbp.OpVersion, mcbp.OpStat, mcbp.OpHello, mcbp.OpSASLListMechs, mcbp.OpSASLAuth,
		mcbp.OpSASLStep, mcbp.OpGetAllVBSeqnos, mcbp.OpDCPOpen, mcbp.OpDCPNoop, mcbp.OpDCPBufferAck, mcbp.OpDCPControl,
		mcbp.OpCreateBucket, mcbp.OpDeleteBucket, mcbp.OpListBuckets, mcbp.OpSelectBucket, mcbp.OpEnableTraffic,
		mcbp.OpDisableTraffic, mcbp.OpSetClusterConfig, mcbp.OpGetClusterConfig, mcbp.OpGetErrorMap:
		return false
	}
	return true
}
