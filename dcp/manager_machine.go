package dcp

import (
	"slices"
	"time"
)

// managerMachine keeps the replications into one node for one bucket as they are wanted. It is pure.
//
// For each vbucket it holds the desired producer, which only requests of the current epoch may change, and where a stream
// is known to run. Work on one vbucket is strictly ordered, and a stream is closed on one link before it is opened on
// another: a node must never have two consumer streams of a vbucket (rebalance.md §2.13). Different vbuckets, and
// different links, do not wait for each other.
//
// manager_work.go moves single vbuckets along, manager_links.go follows the links, manager_epochs.go holds the fence
// between one rebalance or janitor run and the next.
type managerMachine struct {
	bucket, consumer string
	conns            int
	limits           Limits

	epoch    uint64
	replicas map[uint16]*replica
	links    map[linkKey]*linkState
	calls    map[callID]*applyCall
	prepares []prepare
	// unfenced are the takeovers that failed while they may have been under way; leftovers says that connections of an
	// earlier manager may be.
	unfenced  map[uint16]unfenced
	leftovers leftovers
	// batches collect, during one event, the operations for each link; sent are those on their way.
	batches map[linkKey]*batch
	sent    map[callID]*batch
	nextID  callID
	out     []managerEffect
}

// linkKey names a link of this manager.
type linkKey struct {
	producer string
	conn     int
}

// replica is one vbucket of this node.
type replica struct {
	vb uint16
	// desired is the producer wanted, "" for none; owner is who asked for it, while it is at work.
	desired, owner string
	epoch          uint64
	// on is the link on which a stream runs, if has.
	on  linkKey
	has bool
	// work is under way; queue follows it.
	work  *work
	queue []*work
	// failures and notBefore keep a vbucket apart whose stream has crashed its connection or could not be added again.
	failures  int
	notBefore time.Time
}

// workKind is what a work item does.
type workKind uint8

const (
	workSet workKind = iota
	workTakeover
)

// work is one change of one vbucket.
type work struct {
	kind     workKind
	replica  *replica
	producer string
	previous string
	// call is nil once it has been answered, and for the manager's own work.
	call    *applyCall
	own     bool
	epoch   uint64
	closing bool
}

// applyCall is a request that is answered once, when all its vbuckets are settled.
type applyCall struct {
	id    callID
	epoch uint64
	open  int
	errs  map[uint16]error
}

// batch is one call of a replicator.
type batch struct {
	key     linkKey
	changes []streamChange
	works   []*work
}

// managerEffect is something that the manager process has to do, in order.
type managerEffect interface{ managerEffect() }

type (
	// startLink starts the link's supervisor, unless it runs.
	startLink struct{ key linkKey }
	// stopLink shuts the link and then terminates it.
	stopLink struct{ key linkKey }
	// callLink hands operations to the link's replicator.
	callLink struct {
		id      callID
		key     linkKey
		changes []streamChange
	}
	// cancelLink answers the calls that wait for the link to be connected.
	cancelLink struct{ key linkKey }
	// resetLink rebuilds the link's connections, because a call of an older epoch does not end.
	resetLink struct{ key linkKey }
	// fenceTakeover is answered by takeoverFenced.
	fenceTakeover struct {
		key   linkKey
		after uint64
	}
	// nukeLeftovers ends what connections of an earlier manager the consumer's engine has; it is answered by nuked.
	nukeLeftovers struct{}
	// answerManager answers a request.
	answerManager struct {
		call callID
		err  error
	}
)

func (startLink) managerEffect()     {}
func (stopLink) managerEffect()      {}
func (callLink) managerEffect()      {}
func (cancelLink) managerEffect()    {}
func (resetLink) managerEffect()     {}
func (fenceTakeover) managerEffect() {}
func (nukeLeftovers) managerEffect() {}
func (answerManager) managerEffect() {}

func newManagerMachine(bucket, consumer string, conns int, limits Limits) *managerMachine {
	return &managerMachine{
		bucket: bucket, consumer: consumer, conns: max(conns, 1), limits: limits.withDefaults(),
		replicas: map[uint16]*replica{},
		links:    map[linkKey]*linkState{},
		calls:    map[callID]*applyCall{},
		batches:  map[linkKey]*batch{},
		sent:     map[callID]*batch{},
		unfenced: map[uint16]unfenced{},
	}
}

func (m *managerMachine) emit(e managerEffect) { m.out = append(m.out, e) }

// take sends what was collected and hands over the effects of the last event.
func (m *managerMachine) take() []managerEffect {
	m.flush()
	out := m.out
	m.out = nil
	return out
}

// flush turns the collected operations into one call per link.
func (m *managerMachine) flush() {
	keys := make([]linkKey, 0, len(m.batches))
	for key := range m.batches {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compareKeys)
	for _, key := range keys {
		b := m.batches[key]
		delete(m.batches, key)
		m.nextID++
		m.sent[m.nextID] = b
		m.ensureLink(key)
		m.emit(callLink{id: m.nextID, key: key, changes: b.changes})
	}
}

func (m *managerMachine) key(producer string, vb uint16) linkKey {
	return linkKey{producer: producer, conn: int(vb) % m.conns}
}

func (m *managerMachine) linkOf(key linkKey) Link {
	return Link{Bucket: m.bucket, Producer: key.producer, Consumer: m.consumer, Conn: key.conn}
}

func (m *managerMachine) replica(vb uint16) *replica {
	r, ok := m.replicas[vb]
	if !ok {
		r = &replica{vb: vb}
		m.replicas[vb] = r
	}
	return r
}

// sortedReplicas gives a fixed order, so that the same events have the same effects.
func (m *managerMachine) sortedReplicas() []*replica {
	all := make([]*replica, 0, len(m.replicas))
	for _, r := range m.replicas {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *replica) int { return int(a.vb) - int(b.vb) })
	return all
}
