package rebalance

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shearpin/shearpin/rebalance/store"
)

// publisherMachine decides which node is sent which configuration, and when, and who has waited long enough. It has no goroutine,
// clock or logger.
//
// Nodes take a configuration that is older than the one they have (kv-observed), so each has one attempt at a time. What an attempt
// left on the wire when it was given up may still arrive after its successor's, which is therefore sent once more later.
type publisherMachine struct {
	buckets map[string]*publication
	// timers counts those that were armed.
	timers  int
	effects []publisherEffect
}

// publication is one bucket's way out.
type publication struct {
	// reading says that the map is being read from the store; again that it has to be read once more after that, and rereading
	// that this is to happen later.
	reading, again, rereading bool
	// newest is what was read last.
	newest publishable
	lanes  map[string]*lane
	// late wait for the next reading, because the one that is under way may have begun before their change; early for this one.
	late, early []*publishAnswer
	waiters     []*publishWaiter
}

// lanePlace names a lane.
type lanePlace struct{ bucket, node string }

// lane is one node's way to get the configuration.
type lane struct {
	latest  publishable
	sent    int64
	sending bool
	// doubtful says that an attempt was abandoned whose configuration may yet arrive: this publisher's own, or one of the
	// publisher before it. repeat says that this cannot happen any more, and that latest is to be sent even if it was.
	doubtful, repeat bool
	// retryTimer and repeatTimer are the timers that count, 0 if there is none.
	retryTimer, repeatTimer int
	// leaving says that the node is no server any more: it is told of latest and then of nothing.
	leaving bool
}

// publishable is a configuration that can be sent.
type publishable struct {
	revision int64
	config   []byte
	servers  []string
	// byBucket are the servers of each bucket, of which the list of nodes was made.
	byBucket map[string][]string
}

// publishWaiter waits until every server has got a revision, or failed to get it or one before it.
type publishWaiter struct {
	answer   *publishAnswer
	revision int64
	left     []string
	failed   []*NodeError
}

// publishAnswer is owed to a caller, once all it waits for has come to an end.
type publishAnswer struct {
	id, open int
	err      error
}

// publishRetry is the pause before a node that refused or did not answer is tried again.
const publishRetry = time.Second

// publishLimit bounds one attempt.
const publishLimit = 10 * time.Second

// publisherEffect is something that a [publisherMachine] wants done.
type publisherEffect interface{ isPublisherEffect() }

type (
	// readMap reads what there is to publish. It comes back by publisherMachine.mapRead.
	readMap struct{ Bucket string }
	// armReread calls publisherMachine.reread after a time.
	armReread struct {
		After  time.Duration
		Bucket string
	}
	// sendMap tries to give a node its configuration. The end comes back by publisherMachine.mapSent.
	sendMap struct {
		To  lanePlace
		Map publishable
	}
	// armLane calls publisherMachine.laneDue after a time.
	armLane struct {
		After time.Duration
		Lane  lanePlace
		Timer int
	}
	// dropLane ends the way to a node.
	dropLane struct{ Lane lanePlace }
	// answerPublish answers who asked by publisherMachine.asked, once.
	answerPublish struct {
		ID  int
		Err error
	}
)

func (readMap) isPublisherEffect()       {}
func (armReread) isPublisherEffect()     {}
func (sendMap) isPublisherEffect()       {}
func (armLane) isPublisherEffect()       {}
func (dropLane) isPublisherEffect()      {}
func (answerPublish) isPublisherEffect() {}

func newPublisherMachine() *publisherMachine {
	return &publisherMachine{buckets: map[string]*publication{}}
}

func (m *publisherMachine) emit(e publisherEffect) { m.effects = append(m.effects, e) }

// take is what there is to do now.
func (m *publisherMachine) take() []publisherEffect {
	effects := m.effects
	m.effects = nil
	return effects
}

// changed takes the news that a bucket's map has changed.
func (m *publisherMachine) changed(bucket string) []publisherEffect {
	m.read(bucket)
	return m.take()
}

// asked takes the request of somebody who wants to know when the nodes have what is in the store now: the map and the list.
func (m *publisherMachine) asked(id int, bucket string) []publisherEffect {
	answer := &publishAnswer{id: id, open: 2}
	for _, name := range []string{bucket, nodeList} {
		pub := m.publication(name)
		pub.late = append(pub.late, answer)
		m.read(name)
	}
	return m.take()
}

func (m *publisherMachine) settle(a *publishAnswer, err error) {
	a.open--
	if a.err == nil {
		a.err = err
	}
	if a.open == 0 {
		m.emit(answerPublish{a.id, a.err})
	}
}

func (m *publisherMachine) publication(bucket string) *publication {
	pub := m.buckets[bucket]
	if pub == nil {
		pub = &publication{lanes: map[string]*lane{}}
		m.buckets[bucket] = pub
	}
	return pub
}

func (m *publisherMachine) read(bucket string) {
	pub := m.publication(bucket)
	if pub.reading {
		pub.again = true
		return
	}
	pub.reading = true
	pub.early, pub.late = pub.late, nil
	m.emit(readMap{bucket})
}

// reread takes the end of the pause after a reading that failed.
func (m *publisherMachine) reread(bucket string) []publisherEffect {
	m.publication(bucket).rereading = false
	m.read(bucket)
	return m.take()
}

// mapRead takes what was read, or why it was not.
func (m *publisherMachine) mapRead(bucket string, ready publishable, err error) []publisherEffect {
	pub := m.publication(bucket)
	pub.reading = false
	if err == nil {
		m.fresh(bucket, pub, ready)
	} else {
		m.unread(bucket, pub, err)
	}
	if pub.again {
		pub.again = false
		m.read(bucket)
	}
	return m.take()
}

func (m *publisherMachine) unread(bucket string, pub *publication, err error) {
	for _, answer := range pub.early {
		m.settle(answer, err)
	}
	pub.early = nil
	if !errors.Is(err, store.ErrNotFound) && !pub.rereading {
		pub.rereading = true
		m.emit(armReread{publishRetry, bucket})
	}
}

// fresh gives every server the configuration. The list of nodes is only as new as its last change: every move of a vbucket makes a
// bucket newer, and is no news to who has chosen none.
//
// A node that was a server keeps the last map that it was in, which says where everything is: NOT_MY_VBUCKET brings the map, and if
// the node is not in it gocbcore closes the connection on which it is just learning, and never gets over that. The list of nodes
// comes in no such answer; a node that was a server is told of it once more, whoever asks it.
func (m *publisherMachine) fresh(bucket string, pub *publication, ready publishable) {
	if bucket == nodeList && slices.Equal(ready.servers, pub.newest.servers) {
		ready.revision, ready.config = pub.newest.revision, pub.newest.config
	}
	pub.newest = ready
	for _, node := range ready.servers {
		if pub.lanes[node] == nil {
			pub.lanes[node] = &lane{doubtful: true}
		}
	}
	for _, node := range slices.Sorted(maps.Keys(pub.lanes)) {
		l := pub.lanes[node]
		l.leaving = !slices.Contains(ready.servers, node)
		if !l.leaving || bucket == nodeList {
			l.latest = ready
		}
		m.advance(pub, lanePlace{bucket, node}, l)
	}
	for _, answer := range pub.early {
		w := &publishWaiter{answer: answer, revision: ready.revision}
		for _, node := range ready.servers {
			if pub.lanes[node].sent < ready.revision {
				w.left = append(w.left, node)
			}
		}
		pub.waiters = append(pub.waiters, w)
	}
	pub.early = nil
	m.answerWaiters(pub)
	if list := m.publication(nodeList); bucket != nodeList && (list.reading || !slices.Equal(ready.servers, list.newest.byBucket[bucket])) {
		m.read(nodeList)
	}
}

// advance does what is next for a node: an attempt, or the end, or nothing as long as it has one or has everything.
func (m *publisherMachine) advance(pub *publication, at lanePlace, l *lane) {
	behind := l.sent < l.latest.revision
	switch {
	case l.sending:
	case l.leaving && !behind:
		m.drop(pub, at)
	case behind || l.repeat:
		l.sending, l.repeat = true, false
		m.emit(sendMap{at, l.latest})
	}
}

func (m *publisherMachine) drop(pub *publication, at lanePlace) {
	delete(pub.lanes, at.node)
	m.emit(dropLane{at})
}

// mapSent takes the end of an attempt.
func (m *publisherMachine) mapSent(at lanePlace, revision int64, err error) []publisherEffect {
	pub := m.publication(at.bucket)
	l := pub.lanes[at.node]
	l.sending = false
	m.tell(pub, at.node, revision, err)
	switch {
	case err == nil:
		l.sent = revision
		if l.doubtful {
			l.doubtful = false
			l.repeatTimer = m.arm(publishLimit, at)
		}
		m.advance(pub, at, l)
	case l.leaving:
		// It holds nothing any more, and may be switched off.
		m.drop(pub, at)
	default:
		l.doubtful = true
		if l.retryTimer == 0 {
			l.retryTimer = m.arm(publishRetry, at)
		}
	}
	return m.take()
}

func (m *publisherMachine) arm(after time.Duration, at lanePlace) int {
	m.timers++
	m.emit(armLane{after, at, m.timers})
	return m.timers
}

// laneDue takes the end of a lane's pause. Timers of a lane that is gone, or that another has replaced, say nothing.
func (m *publisherMachine) laneDue(at lanePlace, timer int) []publisherEffect {
	pub := m.publication(at.bucket)
	l := pub.lanes[at.node]
	switch {
	case l == nil:
		return nil
	case timer == l.retryTimer:
		l.retryTimer = 0
	case timer == l.repeatTimer:
		l.repeatTimer, l.repeat = 0, true
	default:
		return nil
	}
	m.advance(pub, at, l)
	return m.take()
}

// tell marks a node as served, or failed, for whoever waits.
func (m *publisherMachine) tell(pub *publication, node string, revision int64, err error) {
	for _, w := range pub.waiters {
		at := slices.Index(w.left, node)
		if at < 0 || (err == nil && revision < w.revision) {
			continue
		}
		w.left = slices.Delete(w.left, at, at+1)
		if err != nil {
			w.failed = append(w.failed, &NodeError{Node: node, Err: err})
		}
	}
	m.answerWaiters(pub)
}

func (m *publisherMachine) answerWaiters(pub *publication) {
	pub.waiters = slices.DeleteFunc(pub.waiters, func(w *publishWaiter) bool {
		if len(w.left) > 0 {
			return false
		}
		var err error
		if len(w.failed) > 0 {
			slices.SortFunc(w.failed, func(a, b *NodeError) int { return strings.Compare(a.Node, b.Node) })
			err = &NodesError{Doing: "publishing the map", Failed: w.failed}
		}
		m.settle(w.answer, err)
		return true
	})
}
