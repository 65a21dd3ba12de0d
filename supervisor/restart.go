package supervisor

import (
	"time"

	"github.com/shearpin/shearpin/actors"
)

// died handles the death of a child that nobody wanted to stop.
func (m *machine) died(c *child, reason error) {
	lived := m.now.Sub(c.since)
	m.gone(c, reason)
	if c.spec.Restart == Permanent || c.spec.Restart == Transient && !actors.IsNormal(reason) {
		if lived >= m.spec.Backoff.Max {
			c.row = 0
		}
		if !m.allowed(c, reason) {
			return
		}
		if wait := m.backoff(c); wait > 0 {
			m.stopGroup(c)
			m.tryAgain(c, reason, wait)
			c.counted = true
			return
		}
		m.restart(c)
		return
	}
	m.settle(c)
	if c.spec.Significant && (m.spec.AutoShutdown == AnySignificant || !m.significantLeft()) {
		m.publish(AutoShutdownBegun, c, reason)
		m.end(actors.Shutdown)
	}
}

// significantLeft reports whether a significant child has a process, or waits for a restart of its own. Those that are down
// with others are not counted: OTP's are without a pid.
func (m *machine) significantLeft() bool {
	for c := range m.kids.newest() {
		if c.spec.Significant && c.state != stopped {
			return true
		}
	}
	return false
}

// retry takes up a restart that was put off. An attempt after a failed one counts as a restart of its own.
func (m *machine) retry(c *child) {
	if c.counted || m.allowed(c, c.why) {
		c.counted = false
		m.restart(c)
	}
}

// allowed counts a restart of c, and ends the supervisor if that is one too many.
func (m *machine) allowed(c *child, reason error) bool {
	if m.window.add(m.now) {
		m.publish(ChildRestarting, c, reason)
		return true
	}
	m.publish(GaveUp, c, reason)
	m.settle(c)
	m.end(actors.ShutdownWith(&GaveUpError{Supervisor: m.spec.Name, ID: c.spec.ID, Err: reason}))
	return false
}

// restart begins the restart of c and of those that go with it.
func (m *machine) restart(c *child) {
	first := m.stopGroup(c)
	if m.alone() {
		m.job.starts = append(m.job.starts, c)
		return
	}
	m.setState(c, stopped) // it takes its turn among the others, and one before it may fail
	for sibling := range m.kids.from(first) {
		if sibling.spec.Restart != Temporary {
			m.job.starts = append(m.job.starts, sibling)
		}
	}
}

// stopGroup makes the stop of those that go with c the job in hand, and returns the first of them.
func (m *machine) stopGroup(c *child) (first *child) {
	m.job = &job{kind: jobRestart}
	if m.alone() {
		return c
	}
	if first = c; m.spec.Strategy == OneForAll {
		first = m.kids.first
	}
	for sibling := range m.kids.newest() {
		// One whose restart is put off has no process, and must not be taken for one that is to stay without.
		if sibling != c {
			m.doom(m.job, sibling)
		}
		if sibling == first {
			break
		}
	}
	return first
}

// alone reports whether a child's restart is nobody else's business.
func (m *machine) alone() bool { return m.spec.Strategy == OneForOne || m.dynamic() }

// tryAgain puts a restart off. In between the supervisor does what else there is to do.
func (m *machine) tryAgain(c *child, why error, after time.Duration) {
	c.attempt++
	c.why, c.counted = why, false
	c.retryAt = m.now.Add(after)
	m.setState(c, restarting)
	m.kids.remember(c)
	a := m.do(doRetry)
	a.child, a.attempt, a.after = c, c.attempt, after
}

// backoff returns how long the next restart of c has to wait, and counts it.
func (m *machine) backoff(c *child) time.Duration {
	wait := m.spec.Backoff.delay(c.row)
	c.row++
	return wait
}
