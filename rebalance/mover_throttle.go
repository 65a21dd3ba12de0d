package rebalance

import (
	"slices"

	"github.com/shearpin/shearpin/actors"
)

// The messages by which a mover is slowed down.
type (
	// throttleChanged says that the cluster's throttle is another one now.
	throttleChanged struct{}
	// throttleDue is the time to look again whether a move may begin.
	throttleDue struct{}
)

// measure tells the machine how much was carried.
func (m *mover) measure(c *actors.Context) {
	m.machine.measured(m.env.carriers.total()-m.carriedBefore, c.Clock().Now())
}

// count has the replications count what they carry for the moves that are under way.
func (m *mover) count() {
	wanted := map[string][]uint16{}
	for _, plan := range m.machine.flying {
		for _, node := range plan.carriers() {
			wanted[node] = append(wanted[node], plan.VB)
		}
	}
	for node := range m.counting {
		if _, still := wanted[node]; !still {
			m.env.carriers.count(agentName(m.bucket, node), nil)
		}
	}
	for node, vbs := range wanted {
		slices.Sort(vbs)
		if !slices.Equal(vbs, m.counting[node]) {
			m.env.carriers.count(agentName(m.bucket, node), vbs)
		}
	}
	m.counting = wanted
}

// obey takes over the cluster's throttle, for the moves that have not begun.
func (m *mover) obey(c *actors.Context) {
	throttle := *m.env.throttle.Load()
	m.machine.throttle(throttle.limits(m.env.config.Limits.Schedule), throttle.BytesPerSecond, c.Clock().Now())
}
