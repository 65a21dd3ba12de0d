package supervisor

import (
	"errors"
	"slices"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// machine is the supervisor's whole logic: an event goes in, actions come out. It has no goroutine, no clock and starts
// nobody; the process around it performs the actions and returns with what came of them.
//
// It does one job at a time: stop these children, one after the other, then start those. While it waits for a child to
// stop, deaths of other children and requests are kept for later, as OTP's supervisor leaves them in its mailbox; reading
// is possible at any time.
type machine struct {
	spec    Spec // validated; Children is not looked at after boot
	kids    roster
	window  window
	job     *job
	backlog []event
	ending  bool
	reason  error // of the supervisor's own end, when ending
	over    bool  // the end has been reached

	now     time.Time // of the event being handled
	actions []action
}

// job is a sequence of stops followed by starts.
type job struct {
	stops  []*child // still to be stopped, next first
	starts []*child // still to be started, next first
	kind   jobKind
	// The end of a supervisor of dynamic children has stopped all of them at once; so many have yet to die.
	left int
	// A jobAPI answers its caller with these.
	caller any
	pid    *actors.PID
	failed error
}

type jobKind uint8

const (
	jobBoot    jobKind = iota // the first start of all children
	jobRestart                // an automatic restart
	jobAPI                    // somebody asked for it and waits
	jobEnd                    // the supervisor's own end
)

// event is something that happened. The zero value of a field that a kind does not use is ignored.
type event struct {
	kind    eventKind
	pid     *actors.PID
	child   *child
	attempt int
	key     key
	spec    *ChildSpec
	arg     any
	caller  any
	err     error
}

type eventKind uint8

const (
	evNone eventKind = iota
	evBoot
	evStarted   // child, pid: the start that was asked for succeeded
	evFailed    // child, err: it failed; err is ErrIgnore if it was ignored
	evExit      // pid, err: a link brought an exit signal
	evDown      // pid, err: a child that was to stop is dead
	evTimeout   // pid: its time to stop is over; nil: that of all dynamic children is
	evRetry     // child, attempt
	evStop      // err: the supervisor is to end
	evStart     // spec, caller: StartChild
	evStartWith // arg, caller: StartChildWith
	evTerminate // key, caller
	evRestart   // key, caller
	evDelete    // key, caller
)

// action is something to be done, in order.
type action struct {
	kind    actionKind
	child   *child
	pid     *actors.PID
	attempt int
	how     Shutdown
	after   time.Duration
	caller  any
	err     error
	event   Event
}

type actionKind uint8

const (
	doStart   actionKind = iota // child: start it and come back with evStarted or evFailed before any other event
	doStop                      // pid, how: come back with evDown, and before that, if it takes too long, evTimeout
	doAlarm                     // after: come back with evTimeout without a pid
	doKill                      // pid
	doRetry                     // child, attempt: come back with evRetry after so long, and when what is waiting has been handled
	doReply                     // caller, pid, err
	doDisown                    // caller, pid: ErrNotFound to the caller if that process is alive, and success if it is dead
	doPublish                   // event
	doExit                      // err: the supervisor ends
)

func newMachine(spec Spec) *machine {
	return &machine{
		spec:   spec,
		kids:   newRoster(spec.Strategy == SimpleOneForOne),
		window: window{limit: spec.Intensity, period: spec.Period},
	}
}

// step handles one event and returns what is to be done, in order; at most the last action comes back with an event at once.
// The actions are the machine's own, good until the next step. Whoever has done them clears them, so that nothing holds on to
// children that are gone.
func (m *machine) step(ev *event, now time.Time) []action {
	m.now = now
	m.actions = m.actions[:0]
	if m.over {
		return nil
	}
	m.handle(ev)
	m.advance()
	return m.actions
}

// boot makes the first start of all children the job in hand.
func (m *machine) boot() {
	m.job = &job{kind: jobBoot}
	if m.dynamic() {
		return
	}
	for _, spec := range m.spec.Children {
		c := &child{spec: spec, since: m.now}
		m.kids.add(c)
		m.job.starts = append(m.job.starts, c)
	}
	m.spec.Children = nil // a temporary child's start function must not outlive the child
}

func (m *machine) handle(ev *event) {
	switch ev.kind {
	case evBoot:
		m.boot()
	case evStarted:
		m.started(ev.child, ev.pid)
	case evFailed:
		m.failed(ev.child, ev.err)
	case evDown:
		if c := m.kids.byPID[ev.pid]; c != nil && c.state == stopping {
			m.gone(c, ev.err)
		}
	case evTimeout:
		if ev.pid == nil {
			m.killAll()
		} else if c := m.kids.byPID[ev.pid]; c != nil && c.state == stopping {
			m.do(doKill).pid = ev.pid
		}
	case evStop:
		m.end(ev.err)
	case evExit:
		if c := m.kids.byPID[ev.pid]; c != nil && c.doomed {
			m.gone(c, ev.err)
			return
		}
		m.whenIdle(ev)
	default:
		m.whenIdle(ev)
	}
}

// whenIdle handles an event that has to wait for the job in hand.
func (m *machine) whenIdle(ev *event) {
	if m.ending {
		return // a caller is answered by the supervisor's death
	}
	if m.job != nil {
		m.backlog = append(m.backlog, *ev)
		return
	}
	switch ev.kind {
	case evExit:
		if c := m.kids.byPID[ev.pid]; c != nil {
			m.died(c, ev.err)
		}
	case evRetry:
		if c := ev.child; c.member && c.state == restarting && c.attempt == ev.attempt {
			m.retry(c)
		}
	default:
		m.request(ev)
	}
}

// advance goes on with the job in hand as far as possible, and then with what has waited for its end.
func (m *machine) advance() {
	for {
		switch {
		case m.job != nil:
			if !m.work(m.job) {
				return
			}
		case len(m.backlog) > 0:
			ev := m.backlog[0]
			m.backlog[0] = event{} // it may hold what must not outlive a child
			m.backlog = m.backlog[1:]
			m.whenIdle(&ev)
		default:
			m.backlog = nil
			return
		}
	}
}

// work takes the next steps of j; false means that it has to wait for an event.
func (m *machine) work(j *job) bool {
	if j.left > 0 {
		return false
	}
	for len(j.stops) > 0 {
		c := j.stops[0]
		switch c.state {
		case alive:
			m.setState(c, stopping)
			a := m.do(doStop)
			a.pid, a.how = c.pid, c.spec.Shutdown
			return false
		case stopping:
			return false
		}
		j.stops = j.stops[1:]
		c.doomed = false
		m.settle(c)
	}
	if len(j.starts) > 0 {
		m.do(doStart).child = j.starts[0]
		return false
	}
	m.job = nil
	switch j.kind {
	case jobAPI:
		m.reply(j.caller, j.pid, j.failed)
	case jobEnd:
		m.over = true
		m.do(doExit).err = m.reason
	}
	return true
}

// started is the success of the start in hand.
func (m *machine) started(c *child, pid *actors.PID) {
	if m.kids.byPID[pid] != nil {
		m.failed(c, errSamePID)
		return
	}
	m.enter(c)
	c.incarnation++
	if m.job.kind == jobRestart {
		c.restarts++
	}
	m.kids.hold(c, pid)
	m.setState(c, alive)
	m.publish(ChildStarted, c, nil)
	if c.spec.Restart == Temporary {
		// It will not be started again, and what it was started with is nobody's any more.
		c.spec.Start, c.spec.StartWith, c.arg = nil, nil, nil
	}
	m.job.pid = pid
	m.job.starts = m.job.starts[1:]
}

// failed is the failure of the start in hand.
func (m *machine) failed(c *child, err error) {
	j := m.job
	if errors.Is(err, actors.ErrIgnore) {
		m.publish(ChildIgnored, c, nil)
		j.starts = j.starts[1:]
		m.enter(c)
		m.settle(c)
		return
	}
	m.publish(ChildStartFailed, c, err)
	j.starts = nil
	switch j.kind {
	case jobBoot:
		m.end(actors.ShutdownWith(&StartError{Supervisor: m.spec.Name, ID: c.spec.ID, Err: err}))
	case jobAPI:
		j.failed = m.startFailure(c, err)
	case jobRestart:
		wait := m.backoff(c)
		if wait > 0 {
			m.stopGroup(c) // those that have been started would work without the others for too long
		}
		m.tryAgain(c, err, wait)
	}
}

// startFailure is what the caller of StartChild, StartChildWith or RestartChild is told. Where OTP's answer is the bare
// error, so is this.
func (m *machine) startFailure(c *child, err error) error {
	if _, taken := err.(*actors.AlreadyStartedError); taken || m.dynamic() { //nolint:errorlint // as the start returned it, not as a part of another failure
		return err
	}
	return &StartError{Supervisor: m.spec.Name, ID: c.spec.ID, Err: err}
}

// enter makes a child that has come by a request a member.
func (m *machine) enter(c *child) {
	if !c.member {
		m.kids.add(c)
	}
}

// settle notes that a child stays without a process, and forgets it if nothing is kept of it.
func (m *machine) settle(c *child) {
	m.setState(c, stopped)
	if c.spec.Restart == Temporary || m.dynamic() {
		m.kids.remove(c)
	}
}

// gone notes that a child has no process any more.
func (m *machine) gone(c *child, reason error) {
	if m.job != nil && m.job.left > 0 {
		m.job.left--
	}
	c.lastExit = reason
	m.setState(c, stopped)
	m.publish(ChildExited, c, reason)
	m.kids.release(c)
}

// end begins the supervisor's own end: all children are stopped, the youngest first.
func (m *machine) end(reason error) {
	if m.ending {
		return
	}
	m.ending, m.reason = true, reason
	j := &job{kind: jobEnd}
	stopping := m.job.stopping()
	m.job = j
	if m.dynamic() {
		m.stopTogether(j)
		return
	}
	if stopping != nil {
		m.doom(j, stopping) // it has begun; the others follow it
	}
	for c := range m.kids.newest() {
		if c != stopping {
			m.doom(j, c)
		}
	}
}

// stopping returns the child that j has told to stop and that is not dead yet, or nil.
func (j *job) stopping() *child {
	if j != nil && len(j.stops) > 0 && j.stops[0].state == stopping {
		return j.stops[0]
	}
	return nil
}

// doom adds c to those that j stops. From now on c's death is no reason for anything.
func (m *machine) doom(j *job, c *child) {
	c.doomed = true
	j.stops = append(j.stops, c)
}

func (m *machine) setState(c *child, s state) {
	if c.state != s {
		c.state, c.since = s, m.now
	}
}

// do appends an action, to be filled in by the caller: they are too large to be handed about by value on the small stack of
// a process that was at rest.
func (m *machine) do(kind actionKind) *action {
	n := len(m.actions)
	m.actions = slices.Grow(m.actions, 1)[:n+1]
	a := &m.actions[n]
	*a = action{kind: kind}
	return a
}

func (m *machine) reply(caller any, pid *actors.PID, err error) {
	a := m.do(doReply)
	a.caller, a.pid, a.err = caller, pid, err
}

func (m *machine) publish(kind EventKind, c *child, reason error) {
	e := &m.do(doPublish).event
	e.At, e.Kind, e.Supervisor, e.ID = m.now, kind, m.spec.Name, c.spec.ID
	e.PID, e.Incarnation, e.Reason = c.pid, c.incarnation, reason
}
