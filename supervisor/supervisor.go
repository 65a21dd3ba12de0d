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
	makeSpec func(c *actors.Context) (Spec, error)
	spec     Spec
	m        *machine
	next     event // for the machine; here because it is large for the small stack of a process that was at rest
	since    time.Time
	ghosts   ghosts
	// booting is set during Init, where waiting is the only way to hear of a death.
	booting bool
	waiting map[*actors.PID]wait
}

// wait is what a supervisor holds for a child that is being stopped.
type wait struct {
	ref   actors.Ref
	timer actors.Timer
}

// New returns a supervisor as a process, to be started once, by actors.System.Start or actors.Context.StartLink. Its start
// returns when all children have been started. It ends when it is stopped, when its parent tells it to, or when it gives
// up, and always stops its children first, the youngest first; only when it is killed its children hear of it at the same
// moment as everybody else, by their links.
func New(spec Spec) actors.Process {
	return NewFunc(func(*actors.Context) (Spec, error) { return spec, nil })
}

// NewFunc is New with a spec that is made when the supervisor starts, and so anew whenever it is restarted, by a function
// that runs in the supervisor: OTP's Module:init. An error or a panic of it is that of the start; actors.ErrIgnore means
// that the supervisor is not needed.
func NewFunc(makeSpec func(c *actors.Context) (Spec, error)) actors.Process {
	return &supervisor{makeSpec: makeSpec, waiting: make(map[*actors.PID]wait)}
}

// InitTimeout lets a supervisor's start take as long as those of its children together, each of which has a bound.
func (*supervisor) InitTimeout() time.Duration { return actors.NoInitTimeout }

// Init starts the children.
func (s *supervisor) Init(c *actors.Context) error {
	spec, err := s.makeSpec(c)
	s.makeSpec = nil // it may hold start functions that must not outlive their children
	if err != nil {
		return err
	}
	if spec, err = spec.validate(); err != nil {
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
	err = s.feed(c, evBoot)
	s.booting = false
	return err
}

// HandleStop stops the children; the process ends when the last one is dead.
func (s *supervisor) HandleStop(c *actors.Context, reason error) error {
	s.next.err = reason
	return s.feed(c, evStop)
}

// HandleCall serves the functions of this package.
func (s *supervisor) HandleCall(c *actors.Context, from actors.From, msg any) error {
	switch q := msg.(type) {
	case adminRequest:
		s.next = event{key: q.key, spec: &q.spec, arg: q.arg, caller: from}
		return s.feed(c, q.kind)
	case whichRequest:
		c, err := s.m.find(key(q))
		if err != nil {
			from.Fail(err)
			return nil
		}
		info := s.m.info(c)
		info.describe()
		info.Lingering = s.ghosts.of(c)
		from.Reply(info)
	case specRequest:
		spec, err := s.m.childSpec(key(q))
		answer(from, spec, err)
	case listRequest:
		from.Reply(s.list(c.Clock().Now()))
	case countRequest:
		from.Reply(s.m.count())
	default:
		from.Fail(actors.ErrUnexpectedCall)
	}
	return nil
}

// stopTimeout is sent to itself when a child has had its time.
type stopTimeout struct{ pid *actors.PID }

// alarm is sent to itself when all dynamic children have had their time.
type alarm struct{}

// retry is sent to itself when a restart that was put off is due.
type retry struct {
	child   *child
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
		return s.died(c, evExit, msg.PID)
	case actors.Down:
		return s.died(c, evDown, msg.PID)
	case stopTimeout:
		s.next.pid = msg.pid
		return s.feed(c, evTimeout)
	case alarm:
		return s.feed(c, evTimeout)
	case retry:
		s.next.child, s.next.attempt = msg.child, msg.attempt
		return s.feed(c, evRetry)
	}
	return s.Base.HandleInfo(c, msg) // says that nobody has use for it
}

func (s *supervisor) died(c *actors.Context, heard eventKind, pid *actors.PID) error {
	s.bury(c, pid)
	s.next.pid, s.next.err = pid, pid.Reason()
	return s.feed(c, heard)
}

// feed gives the next event, of which all but the kind is there, to the machine, and performs what comes of it. A non-nil
// result is the supervisor's exit reason.
func (s *supervisor) feed(c *actors.Context, kind eventKind) error {
	for s.next.kind = kind; s.next.kind != evNone; {
		if !c.Self().Alive() {
			return c.Self().Reason() // killed, maybe while it waited for a start: what it takes for news is not true any more
		}
		actions := s.m.step(&s.next, c.Clock().Now())
		s.next = event{}
		for i := range actions {
			if err := s.perform(c, &actions[i]); err != nil {
				return err
			}
		}
		clear(actions)
	}
	return nil
}

// perform does one action. What comes of it at once is the next event. A non-nil result is the supervisor's exit reason.
func (s *supervisor) perform(c *actors.Context, a *action) error {
	switch a.kind {
	case doStart:
		s.next.child = a.child
		if s.next.pid, s.next.err = startChild(c, a.child); s.next.err == nil {
			s.next.kind = evStarted
		} else {
			s.next.kind = evFailed
		}
	case doStop:
		if s.booting {
			stopAndWait(c, a.pid, a.how)
			s.next.kind, s.next.pid, s.next.err = evDown, a.pid, a.pid.Reason()
			return nil
		}
		s.stop(c, a.pid, a.how)
	case doAlarm:
		c.SendAfter(a.after, alarm{})
	case doKill:
		c.Exit(a.pid, actors.Killed)
	case doRetry:
		if msg := (retry{a.child, a.attempt}); a.after > 0 {
			c.SendAfter(a.after, msg)
		} else {
			c.Send(c.Self(), msg)
		}
	case doReply:
		answer(a.caller.(actors.From), a.pid, a.err)
	case doDisown:
		var err error
		if a.pid.Alive() {
			err = ErrNotFound
		}
		answer(a.caller.(actors.From), nil, err)
	case doPublish:
		s.publish(&a.event)
	case doExit:
		return a.err
	}
	return nil
}

// answer gives a caller a value or an error.
func answer(from actors.From, v any, err error) {
	if err != nil {
		from.Fail(err)
	} else {
		from.Reply(v)
	}
}

// startChild runs a child's start function.
func startChild(c *actors.Context, k *child) (pid *actors.PID, err error) {
	defer func() {
		if v := recover(); v != nil {
			pid, err = nil, actors.NewPanicError(v)
		}
	}()
	if k.spec.StartWith != nil {
		pid, err = k.spec.StartWith(c, k.arg)
	} else {
		pid, err = k.spec.Start(c)
	}
	switch {
	case err != nil:
		c.Exit(pid, actors.Killed) // a process that comes with an error would be nobody's
		return nil, err
	case pid == nil:
		return nil, errNoPID
	case pid == c.Self():
		return nil, errOwnPID
	}
	c.Link(pid) // changes nothing if the start function has done it, as it should
	return pid, nil
}

// Failures of a start function that returns no error: it returns no process, or one whose end could not be told from that
// of a child.
var (
	errNoPID   = errors.New("start function returned no process")
	errOwnPID  = errors.New("start function returned the supervisor")
	errSamePID = errors.New("start function returned the process of another child")
)

// stop tells a child to end. It hears of the end by a monitor, because a child can cut its link.
func (s *supervisor) stop(c *actors.Context, pid *actors.PID, how Shutdown) {
	w := wait{ref: c.Monitor(pid)}
	if how > 0 {
		w.timer = c.SendAfter(time.Duration(how), stopTimeout{pid})
	}
	s.waiting[pid] = w
	if how == BrutalKill {
		c.Exit(pid, actors.Killed)
	} else {
		c.Exit(pid, actors.Shutdown)
	}
}

// bury gives back what is held for a dead child, and sees whether it lingers.
func (s *supervisor) bury(c *actors.Context, pid *actors.PID) {
	if w, ok := s.waiting[pid]; ok {
		c.Demonitor(w.ref)
		w.timer.Stop()
		delete(s.waiting, pid)
	}
	if child := s.m.kids.byPID[pid]; child != nil {
		s.ghosts.add(pid, child)
	}
}

// stopAndWait is stop and the wait for it, for Init.
func stopAndWait(c *actors.Context, pid *actors.PID, how Shutdown) {
	defer c.Resumed()
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

// list makes the answer to a listRequest.
func (s *supervisor) list(now time.Time) listing {
	l := listing{name: s.spec.Name, since: s.since, children: make([]ChildInfo, 0, s.m.kids.n)}
	l.info = SupervisorInfo{
		Strategy: s.spec.Strategy, AutoShutdown: s.spec.AutoShutdown,
		Restarts: s.m.window.count(now), Intensity: s.spec.Intensity, Period: s.spec.Period,
		Lingering: s.ghosts.total(),
	}
	for c := range s.m.kids.from(s.m.kids.first) {
		info := s.m.info(c)
		info.describe()
		info.Lingering = s.ghosts.of(c)
		l.info.Lingering -= info.Lingering
		l.children = append(l.children, info)
	}
	return l
}

// publish tells the world about an event.
func (s *supervisor) publish(e *Event) {
	if s.spec.Events != nil {
		s.spec.Events.Publish(*e)
	}
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
	if s.spec.Log.Enabled(context.Background(), level) {
		s.log(e, level, msg)
	}
}

func (s *supervisor) log(e *Event, level slog.Level, msg string) {
	attrs := []slog.Attr{
		slog.String("part", "supervisor"), slog.String("supervisor", e.Supervisor), slog.String("child", e.ID),
		slog.Int("incarnation", e.Incarnation),
	}
	if e.Reason != nil {
		attrs = append(attrs, slog.Any("err", e.Reason))
	}
	s.spec.Log.LogAttrs(context.Background(), level, msg, attrs...) //nolint:sloglint // one of the fixed names above
}
