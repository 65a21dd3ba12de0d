package supervisor

import (
	"time"

	"github.com/shearpin/shearpin/actors"
)

// What is different under SimpleOneForOne: the children have one spec, the template, and no ids; each is known by its
// process, and while it is restarting by the process that it was. One that is down without a restart is forgotten. When the
// supervisor ends, all are stopped at the same time.

// dynamic reports whether the children are started from a template.
func (m *machine) dynamic() bool { return m.kids.dynamic }

// template is the spec of dynamic children.
func (m *machine) template() ChildSpec { return m.spec.Children[0] }

// findDynamic returns the child whose process pid is, or was before a restart that is still tried.
func (m *machine) findDynamic(pid *actors.PID) *child {
	if c := m.kids.byPID[pid]; c != nil {
		return c
	}
	return m.kids.byFormer[pid]
}

// stopTogether begins the stop of all dynamic children at once. One alarm serves all, since they have the same time.
func (m *machine) stopTogether(j *job) {
	how := m.template().Shutdown
	alarm := how > 0
	if alarm {
		how = Infinity
	}
	for c := range m.kids.newest() {
		switch c.state {
		case alive:
			m.setState(c, stopping)
			a := m.do(doStop)
			a.pid, a.how = c.pid, how
		case stopping: // by a request, with its own time
		default:
			continue
		}
		c.doomed = true
		j.left++
	}
	if alarm && j.left > 0 {
		m.do(doAlarm).after = time.Duration(m.template().Shutdown)
	}
}

// killAll is the alarm.
func (m *machine) killAll() {
	for c := range m.kids.newest() {
		if c.state == stopping {
			m.do(doKill).pid = c.pid
		}
	}
}
