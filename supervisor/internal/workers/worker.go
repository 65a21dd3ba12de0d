// Package workers holds the children and the tools that OTP's supervisor_SUITE tests its supervisors with, so that its
// cases can be told here as they are told there. A [Worker] is a recipe, and its zero value does what it is asked:
//
//	OTP                   here
//	supervisor_1          Worker{}; its start arguments are Ignore, Fail and Once as Outcome
//	supervisor_2          Worker{Slow: d}, slow to terminate
//	supervisor_3          Worker{Outcome: gate.Outcome}, a start that the test decides; see Gate
//	supervisor_4          Worker{Answer: reason}, which ends with a reason of its own
//	supervisor_deadlock   Worker{Outcome: flag.Outcome}, which cannot start while a Flag is set
//	naughty_child         Worker{} that is sent Unlink
//	terminate(Pid, How)   Terminate
//	get_child_counts      RequireCounts
//	the test process      Parent, and Watch for what it monitors
//
// What takes time takes it by the clock of the actor system, so tests of it run in a bubble of testing/synctest.
package workers

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/supervisor"
)

// Reasons of workers.
var (
	// ErrDied is the reason of a worker that was told to Die, an abnormal one.
	ErrDied = errors.New("died")
	// ErrStart is the reason of a start that was to fail.
	ErrStart = errors.New("start failed")
)

// Worker says what the starts of a worker come to and how it ends. Whatever the recipe, the worker traps exits, ends with
// the reason of an exit signal that comes from anybody, and obeys Stop, Die, Sleep and Unlink.
type Worker struct {
	// Outcome decides in Init what a start comes to; nil means that every start succeeds. It is called for each start, by
	// one process at a time for each child.
	Outcome func(c *actors.Context) error
	// Slow is how long Terminate takes, unless the worker is killed before. For one whose callback does not notice even
	// that, see Block.
	Slow time.Duration
	// Answer is the reason that it ends with when its supervisor tells it to end, or Stop does, in place of theirs.
	Answer error
}

// Messages that every worker obeys, sent or cast.
type (
	// Stop ends it with actors.Normal, or with its Answer.
	Stop struct{}
	// Die ends it with Reason, or ErrDied if that is nil.
	Die struct{ Reason error }
	// Sleep keeps it in a callback until Until is closed; nobody can stop it before, only kill it. See Block.
	Sleep struct {
		Began chan<- struct{} // is closed when it has begun
		Until <-chan struct{}
	}
	// Unlink cuts its link to its supervisor; it is called, not sent. That must not be before the start has returned,
	// because the supervisor sees then that there is a link.
	Unlink struct{}
)

// Child describes a permanent child of this recipe.
func (w Worker) Child(id string, opts ...actors.StartOption) supervisor.ChildSpec {
	return supervisor.ChildSpec{ID: id, Start: w.Start(opts...)}
}

// Start returns the start function of a ChildSpec.
func (w Worker) Start(opts ...actors.StartOption) func(c *actors.Context) (*actors.PID, error) {
	return func(c *actors.Context) (*actors.PID, error) {
		return c.StartLink(&process{Worker: w, supervisor: c.Self()}, opts...)
	}
}

// StartWith is the start function of a template under simple_one_for_one: arg is the recipe of the child, a Worker.
func StartWith(c *actors.Context, arg any) (*actors.PID, error) {
	w, ok := arg.(Worker)
	if !ok {
		return nil, fmt.Errorf("%T is not the recipe of a worker", arg)
	}
	return w.Start()(c)
}

// process is a worker that runs.
type process struct {
	Worker
	supervisor *actors.PID
}

// InitTimeout lets the test take its time to decide a start, in virtual time too.
func (*process) InitTimeout() time.Duration { return actors.NoInitTimeout }

// Init implements actors.Process.
func (p *process) Init(c *actors.Context) error {
	c.TrapExits()
	if p.Outcome == nil {
		return nil
	}
	return p.Outcome(c)
}

// HandleCall implements actors.Process.
func (p *process) HandleCall(c *actors.Context, from actors.From, msg any) error {
	if _, ok := msg.(Unlink); !ok {
		from.Fail(actors.ErrUnexpectedCall)
		return nil
	}
	c.Unlink(p.supervisor)
	from.Reply(nil)
	return nil
}

// HandleCast implements actors.Process.
func (p *process) HandleCast(_ *actors.Context, msg any) error { return p.obey(msg) }

// HandleInfo implements actors.Process.
func (p *process) HandleInfo(_ *actors.Context, msg any) error { return p.obey(msg) }

func (p *process) obey(msg any) error {
	switch msg := msg.(type) {
	case Stop:
		return p.answer(actors.Normal)
	case Die:
		if msg.Reason == nil {
			return ErrDied
		}
		return msg.Reason
	case Sleep:
		close(msg.Began)
		<-msg.Until
	case actors.Exit:
		return msg.Reason
	}
	return nil
}

// HandleStop implements actors.Drainer: the supervisor wants it to end.
func (p *process) HandleStop(_ *actors.Context, reason error) error { return p.answer(reason) }

func (p *process) answer(reason error) error {
	if p.Answer != nil {
		return p.Answer
	}
	return reason
}

// Terminate implements actors.Process.
func (p *process) Terminate(c *actors.Context, _ error) {
	pause(c, p.Slow)
}

// pause returns after d, or when the process is killed.
func pause(c *actors.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	over := make(chan struct{})
	defer c.Clock().AfterFunc(d, func() { close(over) }).Stop()
	select {
	case <-over:
	case <-c.Ctx().Done():
	}
}

// Block puts a worker to Sleep and returns when it sleeps. It wakes up by release, or when the test ends.
func Block(t testing.TB, pid *actors.PID) (release func()) {
	t.Helper()
	began, until := make(chan struct{}), make(chan struct{})
	release = sync.OnceFunc(func() { close(until) })
	t.Cleanup(release)
	pid.Send(Sleep{Began: began, Until: until})
	select {
	case <-began:
	case <-time.After(patience):
		t.Fatalf("%v did not fall asleep within %v", pid, patience)
	}
	return release
}
