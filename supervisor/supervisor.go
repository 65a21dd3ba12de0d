package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// supervisor is the process around the machine. It is an ordinary process that traps exits, and waits for nobody but the
// Init of its children.
type supervisor struct {
	actors.Base
	spec  Spec
	m     *machine
	since time.Time
	// booting is set during Init, where waiting is the only way to hear of a death.
	booting bool
	// waiting is what it holds for the child that is being stopped; the machine stops one at a time.
	waiting struct {
		pid   *actors.PID
		ref   actors.Ref
		timer actors.Timer
	}
}

// New returns a supervisor as a process, to be started once, by actors.System.Start or actors.Context.StartLink. Its start
// returns when all children have been started. It ends when it is stopped, when its parent tells it to, or when it gives
// up, and always stops its children first, the youngest first; only when it is killed its children hear of it at the same
// moment as everybody else, by their links.
func New(spec Spec) actors.Process { return &supervisor{spec: spec} }

// InitTimeout lets a supervisor's start take as long as those of its children together, each of which has a bound.
func (*supervisor) InitTimeout() time.Duration { return actors.NoInitTimeout }

// Init starts the children.
func (s *supervisor) Init(c *actors.Context) error {
	spec, err := s.spec.validate()
	if err != nil {
		return err
	}
	if spec.Log == nil {
		spec.Log = c.Log()
	}
	s.m = newMachine(spec)
	s.spec = spec
	s.spec.Children = nil
	s.since = c.Clock().Now()
	c.TrapExits()
	s.booting = true
	err = s.feed(c, event{kind: evBoot})
	s.booting = false
	return err
}

// HandleStop stops the children; the process ends when the last one is dead.
func (s *supervisor) HandleStop(c *actors.Context, reason error) error {
	return s.feed(c, event{kind: evStop, err: reason})
}

// HandleCall serves the functions of this package.
func (s *supervisor) HandleCall(c *actors.Context, from actors.From, msg any) error {
	switch q := msg.(type) {
	case adminRequest:
		return s.feed(c, event{kind: q.kind, id: q.id, spec: q.spec, caller: from})
	case listRequest:
		from.Reply(listing{name: s.spec.Name, since: s.since, children: s.m.list()})
	case countRequest:
		from.Reply(s.m.count())
	default:
		from.Fail(actors.ErrUnexpectedCall)
	}
	return nil
}

// stopTimeout is sent to itself when a child has had its time.
type stopTimeout struct{ pid *actors.PID }

// retry is sent to itself to try a failed restart again; in between, the supervisor does what else there is to do.
type retry struct {
	id      string
	attempt int
}

// HandleInfo hears of deaths. The reason is taken from the dead itself: the message says NoProcess if the link or the
// monitor was set too late.
func (s *supervisor) HandleInfo(c *actors.Context, msg any) error {
	switch msg := msg.(type) {
	case actors.Exit:
		if msg.PID.Alive() {
			return nil // a signal that somebody sent; only the parent's counts
		}
		s.release(c, msg.PID)
		return s.feed(c, event{kind: evExit, pid: msg.PID, err: msg.PID.Reason()})
	case actors.Down:
		s.release(c, msg.PID)
		return s.feed(c, event{kind: evDown, pid: msg.PID, err: msg.PID.Reason()})
	case stopTimeout:
		return s.feed(c, event{kind: evTimeout, pid: msg.pid})
	case retry:
		return s.feed(c, event{kind: evRetry, id: msg.id, attempt: msg.attempt})
	}
	return nil
}

// feed gives an event to the machine and performs what comes of it. A non-nil result is the supervisor's exit reason.
func (s *supervisor) feed(c *actors.Context, ev event) error {
	events := []event{ev}
	for len(events) > 0 {
		actions := s.m.step(events[0], c.Clock().Now())
		events = events[1:]
		for _, a := range actions {
			next, err := s.perform(c, a)
			if err != nil {
				return err
			}
			if next != nil {
				events = append(events, *next)
			}
		}
	}
	return nil
}

// perform does one action. It returns the event that has come of it at once, or the supervisor's exit reason.
func (s *supervisor) perform(c *actors.Context, a action) (*event, error) {
	switch a.kind {
	case doStart:
		pid, err := startChild(c, a.child.spec)
		if err != nil {
			return &event{kind: evFailed, child: a.child, err: err}, nil //nolint:nilerr // the machine decides what it means
		}
		return &event{kind: evStarted, child: a.child, pid: pid}, nil
	case doStop:
		if s.booting {
			stopAndWait(c, a.pid, a.how)
			return &event{kind: evDown, pid: a.pid, err: a.pid.Reason()}, nil
		}
		s.stop(c, a.pid, a.how)
	case doKill:
		c.Exit(a.pid, actors.Killed)
	case doRetry:
		c.Send(c.Self(), retry{a.id, a.attempt})
	case doReply:
		if from := a.caller.(actors.From); a.err != nil {
			from.Fail(a.err)
		} else {
			from.Reply(a.pid)
		}
	case doPublish:
		s.publish(a.event)
	case doExit:
		return nil, a.err
	}
	return nil, nil
}

// startChild runs a child's start function.
func startChild(c *actors.Context, spec ChildSpec) (pid *actors.PID, err error) {
	defer func() {
		if v := recover(); v != nil {
			pid, err = nil, actors.NewPanicError(v)
		}
	}()
	pid, err = spec.Start(c)
	switch {
	case err != nil:
		return nil, err
	case pid == nil:
		return nil, errNoPID
	}
	c.Link(pid) // changes nothing if the start function has done it, as it should
	return pid, nil
}

// errNoPID is the failure of a start function that returns neither a process nor an error.
var errNoPID = errors.New("start function returned no process")

// stop tells a child to end. It hears of the end by a monitor, because a child can cut its link.
func (s *supervisor) stop(c *actors.Context, pid *actors.PID, how Shutdown) {
	s.waiting.pid = pid
	s.waiting.ref = c.Monitor(pid)
	switch how {
	case BrutalKill:
		c.Exit(pid, actors.Killed)
		return
	case Infinity:
	default:
		s.waiting.timer = c.SendAfter(time.Duration(how), stopTimeout{pid})
	}
	c.Exit(pid, actors.Shutdown)
}

// release gives back what is held for a child that is being stopped, if this is the one.
func (s *supervisor) release(c *actors.Context, pid *actors.PID) {
	if pid == nil || s.waiting.pid != pid {
		return
	}
	c.Demonitor(s.waiting.ref)
	s.waiting.timer.Stop()
	s.waiting.pid, s.waiting.ref, s.waiting.timer = nil, actors.Ref{}, actors.Timer{}
}

// stopAndWait is stop and the wait for it, for Init.
func stopAndWait(c *actors.Context, pid *actors.PID, how Shutdown) {
	if how != BrutalKill {
		c.Exit(pid, actors.Shutdown)
		var over chan struct{}
		if how != Infinity {
			over = make(chan struct{})
			defer c.Clock().AfterFunc(time.Duration(how), func() { close(over) }).Stop()
		}
		select {
		case <-pid.Done():
			return
		case <-over:
		case <-c.Ctx().Done():
		}
	}
	c.Exit(pid, actors.Killed)
	// Killing takes effect at once, unless this process has been killed itself and may do nothing any more.
	select {
	case <-pid.Done():
	case <-c.Ctx().Done():
	}
}

// publish tells the world about an event.
func (s *supervisor) publish(e Event) {
	level, msg := slog.LevelDebug, e.Kind.String()
	switch e.Kind {
	case ChildStarted:
		if e.Incarnation > 1 {
			level, msg = slog.LevelInfo, "child_restarted"
		}
	case ChildExited:
		if !actors.IsNormal(e.Reason) {
			level = slog.LevelInfo
		}
	case ChildStartFailed:
		level = slog.LevelInfo
	case GaveUp:
		level, msg = slog.LevelWarn, "supervisor_gave_up"
	case AutoShutdownBegun:
		level = slog.LevelInfo
	}
	attrs := []slog.Attr{
		slog.String("part", "supervisor"), slog.String("supervisor", e.Supervisor), slog.String("child", e.ID),
		slog.Int("incarnation", e.Incarnation),
	}
	if e.Reason != nil {
		attrs = append(attrs, slog.Any("err", e.Reason))
	}
	s.spec.Log.LogAttrs(context.Background(), level, msg, attrs...) //nolint:sloglint // one of the fixed names above
	s.spec.Events.Publish(e)
}
