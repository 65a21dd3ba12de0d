package supervisor

import (
	"errors"
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
	window  []time.Time // restarts within the last Period
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
	id      string
	attempt int
	spec    ChildSpec
	caller  any
	err     error
}

type eventKind uint8

const (
	evBoot      eventKind = iota
	evStarted             // child, pid: the start that was asked for succeeded
	evFailed              // child, err: it failed; err is ErrIgnore if it was ignored
	evExit                // pid, err: a link brought an exit signal
	evDown                // pid, err: a child that was to stop is dead
	evTimeout             // pid: its time to stop is over
	evRetry               // id, attempt
	evStop                // err: the supervisor is to end
	evStart               // spec, caller: StartChild
	evTerminate           // id, caller
	evRestart             // id, caller
	evDelete              // id, caller
)

// action is something to be done, in order.
type action struct {
	kind    actionKind
	child   *child
	pid     *actors.PID
	id      string
	attempt int
	how     Shutdown
	caller  any
	err     error
	event   Event
}

type actionKind uint8

const (
	doStart   actionKind = iota // child: start it and come back with evStarted or evFailed before any other event
	doStop                      // pid, how: come back with evDown, and before that, if it takes too long, evTimeout
	doKill                      // pid
	doRetry                     // id, attempt: come back with evRetry when what is waiting has been handled
	doReply                     // caller, pid, err
	doPublish                   // event
	doExit                      // err: the supervisor ends
)

func newMachine(spec Spec) *machine { return &machine{spec: spec, kids: newRoster()} }

// step handles one event and returns what is to be done.
func (m *machine) step(ev event, now time.Time) []action {
	m.now = now
	m.actions = nil // not reused: it would hold on to children that are gone
	if m.over {
		return nil
	}
	m.handle(ev)
	m.advance()
	return m.actions
}

func (m *machine) handle(ev event) {
	switch ev.kind {
	case evBoot:
		m.job = &job{kind: jobBoot}
		for _, spec := range m.spec.Children {
			c := &child{spec: spec, since: m.now}
			m.kids.add(c)
			m.job.starts = append(m.job.starts, c)
		}
		m.spec.Children = nil // a temporary child's start function must not outlive the child
	case evStarted:
		m.started(ev.child, ev.pid)
	case evFailed:
		m.failed(ev.child, ev.err)
	case evDown:
		if c := m.kids.byPID[ev.pid]; c != nil && c.state == stopping {
			m.gone(c, ev.err)
		}
	case evTimeout:
		if c := m.kids.byPID[ev.pid]; c != nil && c.state == stopping {
			m.do(action{kind: doKill, pid: ev.pid})
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
func (m *machine) whenIdle(ev event) {
	if m.ending {
		return // a caller is answered by the supervisor's death
	}
	if m.job != nil {
		m.backlog = append(m.backlog, ev)
		return
	}
	switch ev.kind {
	case evExit:
		if c := m.kids.byPID[ev.pid]; c != nil {
			m.died(c, ev.err)
		}
	case evRetry:
		if c := m.kids.byID[ev.id]; c != nil && c.state == restarting && c.attempt == ev.attempt {
			m.restart(c, c.startErr)
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
			m.backlog = m.backlog[1:]
			m.whenIdle(ev)
		default:
			m.backlog = nil
			return
		}
	}
}

// work takes the next steps of j; false means that it has to wait for an event.
func (m *machine) work(j *job) bool {
	for len(j.stops) > 0 {
		c := j.stops[0]
		switch c.state {
		case alive:
			m.setState(c, stopping)
			m.do(action{kind: doStop, pid: c.pid, how: c.spec.Shutdown})
			return false
		case stopping:
			return false
		}
		j.stops = j.stops[1:]
		c.doomed = false
		m.setState(c, stopped)
		if c.spec.Restart == Temporary {
			m.kids.remove(c)
		}
	}
	if len(j.starts) > 0 {
		m.do(action{kind: doStart, child: j.starts[0]})
		return false
	}
	m.job = nil
	switch j.kind {
	case jobAPI:
		m.reply(j.caller, j.pid, j.failed)
	case jobEnd:
		m.over = true
		m.do(action{kind: doExit, err: m.reason})
	}
	return true
}

// started is the success of the start in hand.
func (m *machine) started(c *child, pid *actors.PID) {
	m.enter(c)
	c.pid = pid
	c.incarnation++
	if m.job.kind == jobRestart {
		c.restarts++
	}
	m.kids.byPID[pid] = c
	m.setState(c, alive)
	m.publish(ChildStarted, c, nil)
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
		m.setState(c, stopped)
		if c.spec.Restart == Temporary {
			m.kids.remove(c)
		}
		return
	}
	m.publish(ChildStartFailed, c, err)
	j.starts = nil
	switch j.kind {
	case jobBoot:
		m.end(actors.ShutdownWith(&StartError{Supervisor: m.spec.Name, ID: c.spec.ID, Err: err}))
	case jobAPI:
		j.failed = &StartError{Supervisor: m.spec.Name, ID: c.spec.ID, Err: err}
	case jobRestart:
		c.attempt++
		c.startErr = err
		m.setState(c, restarting)
		m.do(action{kind: doRetry, id: c.spec.ID, attempt: c.attempt})
	}
}

// enter makes a child that StartChild has brought a member.
func (m *machine) enter(c *child) {
	if m.kids.byID[c.spec.ID] == nil {
		m.kids.add(c)
	}
}

// gone notes that a child has no process any more.
func (m *machine) gone(c *child, reason error) {
	delete(m.kids.byPID, c.pid)
	c.lastExit = reason
	m.setState(c, stopped)
	m.publish(ChildExited, c, reason)
	c.pid = nil
}

// end begins the supervisor's own end: all children are stopped, the youngest first.
func (m *machine) end(reason error) {
	if m.ending {
		return
	}
	m.ending, m.reason = true, reason
	j := &job{kind: jobEnd}
	if m.job != nil && len(m.job.stops) > 0 && m.job.stops[0].state == stopping {
		m.doom(j, m.job.stops[0]) // it has begun; the others follow it
	}
	for c := range m.kids.newest() {
		if c.state != stopping {
			m.doom(j, c)
		}
	}
	m.job = j
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

func (m *machine) do(a action) { m.actions = append(m.actions, a) }

func (m *machine) reply(caller any, pid *actors.PID, err error) {
	m.do(action{kind: doReply, caller: caller, pid: pid, err: err})
}

func (m *machine) publish(kind EventKind, c *child, reason error) {
	m.do(action{kind: doPublish, event: Event{
		At: m.now, Kind: kind, Supervisor: m.spec.Name, ID: c.spec.ID, PID: c.pid, Incarnation: c.incarnation, Reason: reason,
	}})
}
