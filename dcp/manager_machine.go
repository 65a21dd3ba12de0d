package dcp

import (
	"maps"
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
// manager_work.go moves single vbuckets along, manager_links.go follows the links, manager_restore.go brings back what was
// lost, manager_epochs.go holds the fence between one rebalance or janitor run and the next, manager_bounds.go says how
// much it takes on, manager_stop.go ends it.
type managerMachine struct {
	bucket, consumer string
	conns            int
	limits           Limits
	// jitter is a random part of a pause, from 0 to what it is given; nil adds none.
	jitter func(time.Duration) time.Duration

	epoch uint64
	// prepared says that nothing of older epochs can happen any more; the epoch's requests are taken from then on.
	prepared bool
	replicas map[uint16]*replica
	// lost are those of them whose stream may be opened without anybody asking again: it went without its owner's doing, or
	// was wanted and never opened. One that was closed on request, and then not opened elsewhere, is not lost.
	lost     map[uint16]*replica
	links    map[linkKey]*linkState
	calls    map[callID]*applyCall
	prepares []prepare
	fences   map[callID]struct{}
	// unfenced are the takeovers that failed while they may have been under way; leftovers says that connections of an
	// earlier manager may be.
	unfenced  map[linkKey]unfenced
	leftovers leftovers
	// batches collect, during one event, the operations for each link; sent are those on their way.
	batches map[linkKey]*batch
	sent    map[callID]*batch
	nextID  callID
	// strangers are the connections that are not ours and may hold a vbucket that we want.
	strangers strangers
	// rebuilding is the link whose connections are being opened anew because they are outdated.
	rebuilding *linkKey
	stop       managerStop
	// known are the links that have a reason to be there, if nothing has happened since that was found out; unchanged
	// says that the event under way has not made anything happen.
	known     map[linkKey]bool
	unchanged bool
	out       []managerEffect
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
	// on is the link on which a stream runs, if has; since is when it came up.
	on    linkKey
	has   bool
	since time.Time
	// work is under way; next follows it.
	work, next *work
	// failures and notBefore keep a vbucket apart whose stream has crashed its connection or could not be added again.
	failures  int
	notBefore time.Time
	// exists is when the engine first said that the stream is there already, which it is not on any link of ours; barred
	// says that its holder is being looked for.
	exists time.Time
	barred bool
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
	call *applyCall
	own  bool
	// trial says that it is one of those kept apart.
	trial   bool
	closing bool
	// bystander says that its call failed as a whole, with its connection: nothing is known against its vbucket.
	bystander bool
}

// applyCall is a request that is answered once, when all its vbuckets are settled.
type applyCall struct {
	id   callID
	open int
	errs map[uint16]error
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
	// startLink starts the link's supervisor; it is answered by linkStarted.
	startLink struct{ key linkKey }
	// stopLink shuts the link and then terminates it; it is answered by linkStopped.
	stopLink struct{ key linkKey }
	// callLink hands operations to the link's replicator; it is answered by linkAnswered.
	callLink struct {
		id      callID
		key     linkKey
		changes []streamChange
	}
	// cancelLink answers the calls that wait for the link to be connected.
	cancelLink struct{ key linkKey }
	// resetLink rebuilds the link's connections, because a call of an older epoch does not end or because they are
	// outdated.
	resetLink struct{ key linkKey }
	// fenceTakeover is answered by takeoverFenced, fenceLink by fenced. Without a link that runs, the consumer is opened by
	// name.
	fenceTakeover struct {
		key    linkKey
		after  uint64
		byName bool
	}
	fenceLink struct {
		call   callID
		key    linkKey
		byName bool
	}
	// nukeStrangers ends the replications into this node that the engine has and that are not named in ours; it is
	// answered by strangersNuked.
	nukeStrangers struct{ ours []string }
	// nukeLeftovers ends what connections of an earlier manager the consumer's engine has; it is answered by nuked.
	nukeLeftovers struct{}
	// answerManager answers a request.
	answerManager struct {
		call callID
		err  error
	}
	// publishManager tells whoever listens.
	publishManager struct{ event Event }
)

func (startLink) managerEffect()      {}
func (stopLink) managerEffect()       {}
func (callLink) managerEffect()       {}
func (cancelLink) managerEffect()     {}
func (resetLink) managerEffect()      {}
func (fenceTakeover) managerEffect()  {}
func (fenceLink) managerEffect()      {}
func (nukeLeftovers) managerEffect()  {}
func (nukeStrangers) managerEffect()  {}
func (answerManager) managerEffect()  {}
func (publishManager) managerEffect() {}

func newManagerMachine(bucket, consumer string, conns int, limits Limits) *managerMachine {
	return &managerMachine{
		bucket: bucket, consumer: consumer, conns: max(conns, 1), limits: limits.withDefaults(),
		replicas: map[uint16]*replica{},
		lost:     map[uint16]*replica{},
		links:    map[linkKey]*linkState{},
		calls:    map[callID]*applyCall{},
		fences:   map[callID]struct{}{},
		batches:  map[linkKey]*batch{},
		sent:     map[callID]*batch{},
		unfenced: map[linkKey]unfenced{},
	}
}

func (m *managerMachine) emit(e managerEffect) { m.out = append(m.out, e) }

// take sends what was collected and hands over the effects of the last event.
func (m *managerMachine) take() []managerEffect {
	if !m.unchanged {
		m.known = nil
	}
	m.unchanged = false
	m.flush()
	out := m.out
	m.out = nil
	return out
}

// flush turns the collected operations into one call per link. A link that does not run gets them once it does.
func (m *managerMachine) flush() {
	for _, key := range slices.SortedFunc(maps.Keys(m.batches), compareKeys) {
		b := m.batches[key]
		delete(m.batches, key)
		m.nextID++
		m.sent[m.nextID] = b
		l, call := m.links[key], callLink{id: m.nextID, key: key, changes: b.changes}
		if l.runs() {
			m.emit(call)
		} else {
			l.held = append(l.held, call)
		}
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
	slices.SortFunc(all, byVBucket)
	return all
}

func byVBucket(a, b *replica) int { return int(a.vb) - int(b.vb) }
