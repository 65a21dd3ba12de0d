package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shearpin/shearpin/dcp/kvnode"
)

// maxStrikes is how many records a script keeps; of more, the oldest are forgotten.
const maxStrikes = 4096

// Script is a changing set of rules for any number of nodes, given to each as its [kvnode.Options.Faults]. Rules may be
// added and removed at any time. Its methods may be called from any goroutine, but not from a [Match.Where].
type Script struct {
	seed uint64
	// rules is what tables are made of: the faults that may still happen, in the order of Add.
	rules atomic.Pointer[ruleset]

	mu      sync.Mutex
	lastID  uint64
	taps    map[*tap]struct{}
	strikes []Strike
	lastSeq uint64
}

// ruleset is never changed, only replaced.
type ruleset struct{ faults []*Fault }

var _ kvnode.Faults = (*Script)(nil)

// NewScript makes a script without rules. The seed decides what rules with a probability strike.
func NewScript(seed uint64) *Script {
	s := &Script{seed: seed, taps: map[*tap]struct{}{}}
	s.rules.Store(&ruleset{})
	return s
}

// Fault is a rule that was added to a script.
type Fault struct {
	script *Script
	id     uint64
	rule   Rule
	// match is the rule's, with what the action says about the frames that it is for.
	match Match
	// removed is closed by Remove.
	removed chan struct{}

	// What follows is guarded by the script's mu. struck is how often it happened, and passed how many frames of a Hold's Until
	// came by; changed is closed and replaced when one of them grows.
	random  *rand.Rand
	seen    int
	struck  int
	passed  int
	gone    bool
	changed chan struct{}
	// undo is what Remove does to nodes, by name.
	undo map[string]func()
}

// Add makes a rule one of the script's. A frame that fits several rules is struck by the first that is due, in the order in
// which they were added, and the others do not count it. The error is a *[RuleError].
func (s *Script) Add(r Rule) (*Fault, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.lastID++
	f := &Fault{
		script: s, id: s.lastID, rule: r, removed: make(chan struct{}), changed: make(chan struct{}),
		undo:   map[string]func(){},
		random: rand.New(rand.NewPCG(s.seed, s.lastID)),
	}
	f.match = prepared(r)
	s.rules.Store(&ruleset{append(slices.Clone(s.rules.Load().faults), f)})
	var there []*tap
	if _, cuts := r.Do.(Cut); cuts {
		for t := range s.taps {
			there = append(there, t)
		}
	}
	s.mu.Unlock()
	for _, t := range there {
		f.cut(t)
	}
	return f, nil
}

// prepared fills in what an action says about the frames that it is for.
func prepared(r Rule) Match {
	m := r.Match
	if d, ok := r.Do.(interface{ adapt(m *Match) }); ok {
		d.adapt(&m)
	}
	return m
}

// Remove takes the rule back: it strikes no more, and whatever it holds up goes on; nodes that it paused, and nobody
// resumed since, resume. What it has done otherwise stays done. A second Remove does nothing.
func (f *Fault) Remove() {
	s := f.script
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.gone {
		return
	}
	f.gone = true
	close(f.removed)
	s.retire(f)
	for _, undo := range f.undo {
		undo()
	}
}

// Count is how often the fault has happened.
func (f *Fault) Count() int {
	f.script.mu.Lock()
	defer f.script.mu.Unlock()
	return f.struck
}

// Wait returns when the fault has happened that many times. The error is the context's, wrapped, or says that the rule was
// removed before.
func (f *Fault) Wait(ctx context.Context, times int) error {
	for {
		f.script.mu.Lock()
		struck, gone, changed := f.struck, f.gone, f.changed
		f.script.mu.Unlock()
		switch {
		case struck >= times:
			return nil
		case gone:
			return fmt.Errorf("fault: %s was removed; it happened %d times, not %d", f, struck, times)
		}
		select {
		case <-changed:
		case <-f.removed:
		case <-ctx.Done():
			return fmt.Errorf("fault: %s happened %d times, not %d: %w", f, struck, times, context.Cause(ctx))
		}
	}
}

// String names the rule by its name or its number, and says what it does.
func (f *Fault) String() string {
	name := f.rule.Name
	if name == "" {
		name = fmt.Sprintf("rule %d", f.id)
	}
	return fmt.Sprintf("%s (%v)", name, f.rule.Do)
}

// ID is the rule's number, from 1, in the order of Add.
func (f *Fault) ID() uint64 { return f.id }

// Rule is the rule as it was added.
func (f *Fault) Rule() Rule { return f.rule }

// retire makes a fault one that no table knows. The caller holds mu.
func (s *Script) retire(f *Fault) {
	kept := slices.DeleteFunc(slices.Clone(s.rules.Load().faults), func(other *Fault) bool { return other == f })
	s.rules.Store(&ruleset{kept})
}

// spent retires a fault that will not happen again, so that frames cost nothing any more. The caller holds mu.
func (s *Script) spent(f *Fault) {
	_, watches := f.rule.Do.(Hold)
	if f.rule.Times > 0 && f.struck >= f.rule.Times && (!watches || f.passed >= f.struck) {
		s.retire(f)
	}
}

// happened writes a record. The caller holds mu.
func (s *Script) happened(r Strike) {
	s.lastSeq++
	r.Seq, r.At = s.lastSeq, time.Now()
	if len(s.strikes) == 2*maxStrikes {
		s.strikes = append(s.strikes[:0], s.strikes[maxStrikes:]...)
	}
	s.strikes = append(s.strikes, r)
}

// Strikes are the faults that happened, in their order; of very many, the newest. The numbers show how many are missing.
func (s *Script) Strikes() []Strike {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.strikes[max(0, len(s.strikes)-maxStrikes):])
}

// Accepted implements [kvnode.Faults].
func (s *Script) Accepted(session *kvnode.Session) kvnode.Tap {
	t := newTap(s, session)
	s.mu.Lock()
	s.taps[t] = struct{}{}
	rules := s.rules.Load() // those that Add has not cut this connection for
	s.mu.Unlock()
	for _, f := range rules.faults {
		if _, cuts := f.rule.Do.(Cut); cuts && f.cut(t) {
			break
		}
	}
	return t
}

// Disk implements [kvnode.Faults].
func (s *Script) Disk(op kvnode.DiskOp, done <-chan struct{}) {
	for _, f := range s.rules.Load().faults {
		slow, ok := f.rule.Do.(SlowDisk)
		if !ok || !wild(f.match.Node, op.Node) || !wild(f.match.Bucket, op.Bucket) || !slow.fits(op.Kind) {
			continue
		}
		if f.strike(Strike{Node: op.Node, Bucket: op.Bucket, VBucket: -1, Disk: op.Kind.String()}) > 0 {
			f.wait(slow.For, done)
			return
		}
	}
}

// strike decides whether a frame that fits is struck, and if so records it. It returns how often that has happened now, 0 if
// the frame is let through.
func (f *Fault) strike(r Strike) int {
	s := f.script
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.gone || f.rule.Times > 0 && f.struck >= f.rule.Times {
		return 0
	}
	f.seen++
	if f.seen <= f.rule.After || f.rule.Probability > 0 && f.random.Float64() >= f.rule.Probability {
		return 0
	}
	r.Rule, r.Name, r.Action = f.id, f.rule.Name, f.rule.Do
	s.happened(r)
	f.struck++
	s.spent(f)
	f.notify()
	return f.struck
}

func (f *Fault) notify() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// wait returns after a time, or for ever if that is 0, or when the rule is removed, or done is closed.
func (f *Fault) wait(d time.Duration, done <-chan struct{}) {
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
	case <-f.removed:
	case <-done:
	}
}
