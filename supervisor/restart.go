package supervisor

import "github.com/shearpin/shearpin/actors"

// died handles the death of a child that nobody wanted to stop.
func (m *machine) died(c *child, reason error) {
	m.gone(c, reason)
	if c.spec.Restart == Permanent || c.spec.Restart == Transient && !actors.IsNormal(reason) {
		m.restart(c, reason)
		return
	}
	if c.spec.Restart == Temporary {
		m.kids.remove(c)
	}
	if c.spec.Significant && (m.spec.AutoShutdown == AnySignificant || !m.significantLeft()) {
		m.publish(AutoShutdownBegun, c, reason)
		m.end(actors.Shutdown)
	}
}

// significantLeft reports whether a significant child has a process or will have one.
func (m *machine) significantLeft() bool {
	for c := range m.kids.newest() {
		if c.spec.Significant && c.state != stopped {
			return true
		}
	}
	return false
}

// restart begins the restart that the death of c, or another failed attempt to restart it, makes necessary.
func (m *machine) restart(c *child, reason error) {
	if !m.allowRestart() {
		m.publish(GaveUp, c, reason)
		m.setState(c, stopped)
		m.end(actors.ShutdownWith(&GaveUpError{Supervisor: m.spec.Name, ID: c.spec.ID, Err: reason}))
		return
	}
	m.publish(ChildRestarting, c, reason)
	j := &job{kind: jobRestart}
	m.job = j
	switch m.spec.Strategy {
	case OneForOne:
		j.starts = []*child{c}
		return
	case OneForAll:
		c = m.kids.first
	}
	for sibling := range m.kids.newest() {
		m.doom(j, sibling)
		if sibling == c {
			break
		}
	}
	for sibling := range m.kids.from(c) {
		if sibling.spec.Restart != Temporary {
			j.starts = append(j.starts, sibling)
		}
	}
}

// allowRestart counts a restart and reports whether the intensity allows it.
func (m *machine) allowRestart() bool {
	recent := m.window[:0]
	for _, t := range m.window {
		if m.now.Sub(t) <= m.spec.Period {
			recent = append(recent, t)
		}
	}
	m.window = append(recent, m.now)
	return len(m.window) <= m.spec.Intensity
}
