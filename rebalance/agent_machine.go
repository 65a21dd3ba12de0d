package rebalance

import (
	"slices"

	"github.com/shearpin/shearpin/dcp"
)

// agentMachine decides which orders of a (node, bucket) may run, and when (design §6). An order runs if and only if its
// epoch is the prepared one; orders on one vbucket run one after another in the order in which they came, those on
// different vbuckets side by side. It has no goroutine, clock or socket.
type agentMachine struct {
	// prepared is the epoch that is served, 0 if only reads are.
	prepared uint64
	// preparing is the epoch that takes over as soon as the work of lower ones has ended, 0 if none.
	preparing uint64
	// settled says that the replications serve the epoch that is being prepared.
	settled bool
	waiting []int // prepare requests to be answered for the epoch that is being prepared

	queue   []queued
	running map[int]queued
}

// queued is an order that was accepted: its id is the caller's own.
type queued struct {
	id    int
	order order
}

// agentEffect is something that an [agentMachine] wants done.
type agentEffect interface{ isAgentEffect() }

type (
	// runOrder starts the order. Its end comes back by agentMachine.ended.
	runOrder struct {
		ID    int
		Order order
	}
	// answerRequest answers a request without running it; a nil error says that it is done.
	answerRequest struct {
		ID  int
		Err error
	}
	// settleReplications makes the replications of the node serve an epoch and no lower one. Its end comes back by
	// agentMachine.replicationsSettled.
	settleReplications struct{ Epoch uint64 }
	// armGrace calls agentMachine.graceOver for this epoch after the grace.
	armGrace struct{ Epoch uint64 }
	// resetNode closes the connections to the node, so that every order on them ends, and opens new ones.
	resetNode struct{}
	// nowServing tells that an epoch is prepared.
	nowServing struct{ Epoch uint64 }
)

func (runOrder) isAgentEffect()           {}
func (answerRequest) isAgentEffect()      {}
func (settleReplications) isAgentEffect() {}
func (armGrace) isAgentEffect()           {}
func (resetNode) isAgentEffect()          {}
func (nowServing) isAgentEffect()         {}

func newAgentMachine() *agentMachine { return &agentMachine{running: map[int]queued{}} }

// newest is the highest epoch that the agent knows of.
func (m *agentMachine) newest() uint64 { return max(m.prepared, m.preparing) }

// submit takes an order.
func (m *agentMachine) submit(id int, o order) []agentEffect {
	if m.preparing != 0 || o.epoch() != m.prepared || m.prepared == 0 {
		return []agentEffect{m.stale(id, o.epoch())}
	}
	m.queue = append(m.queue, queued{id, o})
	return m.start()
}

func (m *agentMachine) stale(id int, epoch uint64) agentEffect {
	return answerRequest{ID: id, Err: &dcp.StaleEpoch{Got: epoch, Current: m.newest()}}
}

// start runs what may run: an order waits for every earlier one that touches the same vbucket.
func (m *agentMachine) start() (effects []agentEffect) {
	var blocked blocks
	for _, q := range m.running {
		blocked.add(q.order)
	}
	m.queue = slices.DeleteFunc(m.queue, func(q queued) bool {
		free := !blocked.has(q.order)
		blocked.add(q.order)
		if free {
			m.running[q.id] = q
			effects = append(effects, runOrder{ID: q.id, Order: q.order})
		}
		return free
	})
	return effects
}

// blocks is the set of vbuckets that orders ahead of one touch.
type blocks struct {
	some, all bool
	vbs       map[uint16]bool
}

func (b *blocks) add(o order) {
	vb, all := o.scope()
	b.some = true
	b.all = b.all || all
	if b.vbs == nil {
		b.vbs = map[uint16]bool{}
	}
	b.vbs[vb] = true
}

func (b *blocks) has(o order) bool {
	vb, all := o.scope()
	return b.all || (all && b.some) || (!all && b.vbs[vb])
}

// ended takes the end of an order that ran; whoever performs the effects answers its caller.
func (m *agentMachine) ended(id int) []agentEffect {
	delete(m.running, id)
	return append(m.start(), m.finishPreparing()...)
}

// prepare takes a request to serve an epoch. It is answered once nothing of a lower epoch is under way.
func (m *agentMachine) prepare(id int, epoch uint64) []agentEffect {
	switch {
	case epoch == 0 || epoch < m.newest():
		return []agentEffect{m.stale(id, epoch)}
	case epoch == m.preparing:
		m.waiting = append(m.waiting, id)
		return nil
	case epoch == m.prepared:
		return []agentEffect{answerRequest{ID: id}}
	}
	overtaken := m.preparing
	m.preparing, m.settled = epoch, false
	var effects []agentEffect
	for _, q := range m.queue {
		effects = append(effects, m.stale(q.id, q.order.epoch()))
	}
	m.queue = nil
	for _, earlier := range m.waiting {
		effects = append(effects, m.stale(earlier, overtaken))
	}
	m.waiting = []int{id}
	return append(effects, settleReplications{Epoch: epoch}, armGrace{Epoch: epoch})
}

// replicationsSettled takes the end of a settleReplications.
func (m *agentMachine) replicationsSettled(epoch uint64, err error) []agentEffect {
	if epoch != m.preparing {
		return nil
	}
	if err == nil {
		m.settled = true
		return m.finishPreparing()
	}
	// Nothing may change until somebody prepares again: what the replications of lower epochs still do is unknown.
	m.prepared, m.preparing = 0, 0
	return m.answerWaiting(err)
}

// graceOver ends the patience with orders of lower epochs.
func (m *agentMachine) graceOver(epoch uint64) []agentEffect {
	if epoch != m.preparing || len(m.running) == 0 {
		return nil
	}
	return []agentEffect{resetNode{}}
}

func (m *agentMachine) finishPreparing() []agentEffect {
	if m.preparing == 0 || !m.settled || len(m.running) > 0 {
		return nil
	}
	m.prepared, m.preparing = m.preparing, 0
	return append([]agentEffect{nowServing{Epoch: m.prepared}}, m.answerWaiting(nil)...)
}

func (m *agentMachine) answerWaiting(err error) (effects []agentEffect) {
	for _, id := range m.waiting {
		effects = append(effects, answerRequest{ID: id, Err: err})
	}
	m.waiting = nil
	return effects
}
