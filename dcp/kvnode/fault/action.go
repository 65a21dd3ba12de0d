package fault

import (
	"fmt"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Action is what a rule does to a frame that it strikes. The types of this package are all that there are.
type Action interface {
	fmt.Stringer
	// check says whether the action makes sense for the frames of a match.
	check(m Match) error
	// received does it to a frame that the node has read, sent to one that it is about to write. What they return ends the
	// connection.
	received(t *tap, f *Fault, s *sight) error
	sent(t *tap, f *Fault, s *sight) error
}

// stalled is a connection, in one direction, that waits; frames behind the one that was struck wait with it.
func (t *tap) stalled(f *Fault, s *sight, d time.Duration) {
	if s.way == Received {
		t.s.Settle()
	}
	f.wait(d, t.s.Done())
}

// Delay holds a frame up, and with it all that is behind it in the same direction, as a slow network does.
type Delay struct {
	For time.Duration
}

func (d Delay) String() string { return fmt.Sprintf("delay for %v", d.For) }

func (d Delay) check(Match) error { return positive("Do.For", d.For) }

func (d Delay) received(t *tap, f *Fault, s *sight) error { return d.sent(t, f, s) }

func (d Delay) sent(t *tap, f *Fault, s *sight) error {
	t.stalled(f, s, d.For)
	return t.pass(s)
}

func positive(field string, d time.Duration) error {
	if d <= 0 {
		return &RuleError{field, d, "must be positive"}
	}
	return nil
}

// Drop loses a frame: the node does not act on it, or does not send it, although it believes it has.
type Drop struct{}

func (Drop) String() string { return "drop" }

func (Drop) check(Match) error { return nil }

func (Drop) received(*tap, *Fault, *sight) error { return nil }

func (Drop) sent(*tap, *Fault, *sight) error { return nil }

// Duplicate has a frame come twice, or Copies times more if that is not 0.
type Duplicate struct {
	Copies int
}

// maxCopies keeps one frame from becoming a flood.
const maxCopies = 1000

func (d Duplicate) String() string { return fmt.Sprintf("duplicate %d times", max(d.Copies, 1)) }

func (d Duplicate) check(Match) error {
	if d.Copies < 0 || d.Copies > maxCopies {
		return &RuleError{"Do.Copies", d.Copies, fmt.Sprintf("must be 0 to %d", maxCopies)}
	}
	return nil
}

func (d Duplicate) received(t *tap, f *Fault, s *sight) error { return d.sent(t, f, s) }

func (d Duplicate) sent(t *tap, _ *Fault, s *sight) error {
	for range max(d.Copies, 1) + 1 {
		if err := t.pass(s); err != nil {
			return err
		}
	}
	return nil
}

// Hold keeps a frame, and with it all that is behind it in the same direction, until a frame that fits Until has gone by, on
// whichever connection of whichever node of the script: the first frame held waits for the first such frame since the rule
// was added, the second for the second. One that has gone by already holds up nobody.
type Hold struct {
	Until Match
	// AtMost is how long it waits; then the frame goes its way regardless. 0 means 30 s.
	AtMost time.Duration
}

const defaultHold = 30 * time.Second

func (h Hold) String() string { return fmt.Sprintf("hold until %v passed", h.Until.Opcodes) }

func (h Hold) check(Match) error {
	if h.AtMost < 0 {
		return &RuleError{"Do.AtMost", h.AtMost, "must not be negative"}
	}
	return h.Until.check("Do.Until")
}

func (h Hold) received(t *tap, f *Fault, s *sight) error { return h.sent(t, f, s) }

func (h Hold) sent(t *tap, f *Fault, s *sight) error {
	if s.way == Received {
		t.s.Settle()
	}
	f.hold(s.turn, h.AtMost, t.s.Done())
	return t.pass(s)
}

// hold returns when that many frames have passed.
func (f *Fault) hold(turn int, atMost time.Duration, done <-chan struct{}) {
	if atMost == 0 {
		atMost = defaultHold
	}
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	for {
		f.script.mu.Lock()
		passed, changed := f.passed, f.changed
		f.script.mu.Unlock()
		if passed >= turn {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			return
		case <-f.removed:
			return
		case <-done:
			return
		}
	}
}

// StopReading has the node read no more from a connection, from a frame on, until the rule is removed; what the node sends
// still goes out.
type StopReading struct{}

func (StopReading) String() string { return "stop reading" }

func (StopReading) check(m Match) error { return only(m, Received) }

func (StopReading) adapt(m *Match) { m.Direction = Received }

func (StopReading) received(t *tap, f *Fault, s *sight) error {
	t.stalled(f, s, 0)
	return t.pass(s)
}

func (StopReading) sent(t *tap, _ *Fault, s *sight) error { return t.pass(s) }

// only refuses a match for the other direction.
func only(m Match, way Direction) error {
	if m.Direction == way.opposite() {
		return &RuleError{"Match.Direction", m.Direction, fmt.Sprintf("this action is for frames %v", way)}
	}
	return nil
}

// Pause stops the whole node, as [kvnode.Node.Pause] does, before it acts on a frame or behind one that it sends. The node
// goes on after For, if that is not 0, or when somebody resumes it, or when the rule is removed. A node that is paused
// already stays as it is.
type Pause struct {
	For time.Duration
}

func (p Pause) String() string {
	if p.For == 0 {
		return "pause the node"
	}
	return fmt.Sprintf("pause the node for %v", p.For)
}

func (p Pause) check(Match) error {
	if p.For < 0 {
		return &RuleError{"Do.For", p.For, "must not be negative"}
	}
	return nil
}

func (p Pause) pause(t *tap, f *Fault) {
	f.script.mu.Lock()
	defer f.script.mu.Unlock()
	if f.gone {
		return
	}
	resume := t.s.Pause()
	if resume == nil {
		return
	}
	if last := f.undo[t.s.Node()]; last != nil {
		last()
	}
	f.undo[t.s.Node()] = resume
	if p.For > 0 {
		timer := time.AfterFunc(p.For, resume)
		f.undo[t.s.Node()] = func() { timer.Stop(); resume() }
	}
}

func (p Pause) received(t *tap, f *Fault, s *sight) error {
	t.s.Settle()
	p.pause(t, f)
	return t.pass(s)
}

func (p Pause) sent(t *tap, f *Fault, s *sight) error {
	err := t.pass(s)
	p.pause(t, f)
	return err
}

// Answer has a request refused with a status instead of acted on. A frame that is an answer loses what it says and gets the
// status: the node has acted on the request, and denies it.
type Answer struct {
	Status mcbp.Status
}

func (a Answer) String() string { return fmt.Sprintf("answer %v", a.Status) }

func (a Answer) check(m Match) error {
	if m.Direction == Sent && m.Frames == Requests {
		return &RuleError{"Match.Frames", m.Frames, "the node does not answer its own requests"}
	}
	return nil
}

func (a Answer) adapt(m *Match) {
	if m.Direction == Sent {
		m.Frames = Answers
	}
}

func (a Answer) applies(s *sight, _ *Match) bool { return s.way == Received || s.frame.IsResponse() }

func (a Answer) received(t *tap, f *Fault, s *sight) error {
	if s.frame.IsResponse() {
		return a.sent(t, f, s)
	}
	t.s.Reply(mcbp.Response(s.frame, a.Status).Frame())
	return nil
}

func (a Answer) sent(t *tap, _ *Fault, s *sight) error {
	return t.passAs(s, mcbp.Response(s.frame, a.Status).Frame())
}

// NoAnswer lets the node act on a request and keeps the answer from the peer.
type NoAnswer struct{}

func (NoAnswer) String() string { return "no answer" }

func (NoAnswer) check(m Match) error {
	const why = "only requests are answered; to lose an answer, drop it"
	switch {
	case m.Frames == Answers:
		return &RuleError{"Match.Frames", m.Frames, why}
	case m.Statuses != nil:
		return &RuleError{"Match.Statuses", m.Statuses, why}
	}
	return only(m, Received)
}

func (NoAnswer) adapt(m *Match) { m.Direction, m.Frames = Received, Requests }

func (NoAnswer) received(t *tap, _ *Fault, s *sight) error {
	t.memory.mute(s.frame)
	return t.pass(s)
}

func (NoAnswer) sent(t *tap, _ *Fault, s *sight) error { return t.pass(s) }
