package rebalance

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/rebalance/store"
)

func mapOf(revision int64, servers ...string) publishable {
	return publishable{revision: revision, servers: servers}
}

// publishing has a map of revision 1 with nodes a and b under way to both of them.
func publishing(t *testing.T) *publisherMachine {
	t.Helper()
	m := newPublisherMachine()
	require.Equal(t, []publisherEffect{readMap{"orders"}}, m.changed("orders"))
	require.Equal(t, []publisherEffect{
		sendMap{lanePlace{"orders", "a"}, mapOf(1, "a", "b")}, sendMap{lanePlace{"orders", "b"}, mapOf(1, "a", "b")}, readMap{nodeList},
	}, m.mapRead("orders", mapOf(1, "a", "b"), nil))
	return m
}

func TestWhoAsksAboutABucketThatIsNotThereIsAnswered(t *testing.T) {
	m := newPublisherMachine()
	assert.Equal(t, []publisherEffect{readMap{"orders"}, readMap{nodeList}}, m.asked(1, "orders"))
	assert.Empty(t, m.mapRead("orders", publishable{}, store.ErrNotFound))
	assert.Equal(t, []publisherEffect{answerPublish{1, store.ErrNotFound}}, m.mapRead(nodeList, publishable{}, nil), "no servers, no bucket")
}

func TestAReadingThatBeganBeforeTheQuestionIsNoAnswer(t *testing.T) {
	m := newPublisherMachine()
	m.changed("orders")
	assert.Equal(t, []publisherEffect{readMap{nodeList}}, m.asked(1, "orders"))
	assert.Equal(t, []publisherEffect{readMap{"orders"}}, m.mapRead("orders", mapOf(1), nil))
	assert.NotContains(t, m.mapRead(nodeList, mapOf(1), nil), answerPublish{ID: 1})
	assert.Contains(t, m.mapRead("orders", mapOf(1), nil), answerPublish{ID: 1})
}

func TestReadingsThatFailAreRepeatedOnce(t *testing.T) {
	m := newPublisherMachine()
	m.changed("orders")
	assert.Equal(t, []publisherEffect{armReread{publishRetry, "orders"}}, m.mapRead("orders", publishable{}, errInjected))
	assert.Equal(t, []publisherEffect{readMap{"orders"}}, m.changed("orders"))
	assert.Empty(t, m.mapRead("orders", publishable{}, errInjected), "is armed")
	assert.Equal(t, []publisherEffect{readMap{"orders"}}, m.reread("orders"))
	assert.Equal(t, []publisherEffect{armReread{publishRetry, "orders"}}, m.mapRead("orders", publishable{}, errInjected))
}

// A node that leaves while it lacks a map that it is in is given that one, and no other.
func TestTheLastMapOfANodeThatLeaves(t *testing.T) {
	a, b := lanePlace{"orders", "a"}, lanePlace{"orders", "b"}
	m := publishing(t)
	m.mapSent(a, 1, nil)
	m.changed("orders")
	m.mapRead("orders", mapOf(2, "a", "b"), nil)
	m.mapSent(a, 2, nil)
	m.changed("orders")
	assert.Equal(t, []publisherEffect{sendMap{a, mapOf(3, "a")}}, m.mapRead("orders", mapOf(3, "a"), nil))
	assert.Equal(t, []publisherEffect{
		armLane{publishLimit, b, 2}, sendMap{b, mapOf(2, "a", "b")},
	}, m.mapSent(b, 1, nil))
	assert.Equal(t, []publisherEffect{dropLane{b}}, m.mapSent(b, 2, nil))
	assert.Empty(t, m.laneDue(b, 2), "gone")
}

func TestAnAttemptOfBeforeThePauseIsNoRepetition(t *testing.T) {
	a := lanePlace{"orders", "a"}
	m := publishing(t)
	assert.Equal(t, []publisherEffect{armLane{publishLimit, a, 1}}, m.mapSent(a, 1, nil))
	m.changed("orders")
	m.mapRead("orders", mapOf(2, "a", "b"), nil)
	assert.Empty(t, m.laneDue(a, 1), "revision 2 is under way")
	assert.Equal(t, []publisherEffect{sendMap{a, mapOf(2, "a", "b")}}, m.mapSent(a, 2, nil))
	assert.Empty(t, m.mapSent(a, 2, nil))
}

// The list of nodes may be read when a bucket has other servers that no reading of the bucket sees.
func TestAListThatKnowsMoreThanTheBucketDidIsReadAgain(t *testing.T) {
	list := func(revision int64, servers ...string) publishable {
		return publishable{revision: revision, servers: servers, byBucket: map[string][]string{"orders": servers}}
	}
	for name, again := range map[string]func(m *publisherMachine) []publisherEffect{
		"the bucket first": func(m *publisherMachine) []publisherEffect {
			m.mapRead("orders", mapOf(3, "a", "b"), nil)
			return m.mapRead(nodeList, list(2, "c"), nil)
		},
		"the list first": func(m *publisherMachine) []publisherEffect {
			m.mapRead(nodeList, list(2, "c"), nil)
			return m.mapRead("orders", mapOf(3, "a", "b"), nil)
		},
	} {
		m := publishing(t)
		m.mapRead(nodeList, list(1, "a", "b"), nil)
		m.asked(1, "orders")
		assert.Contains(t, again(m), readMap{nodeList}, name)
	}
	m := publishing(t)
	m.mapRead(nodeList, list(1, "a", "b"), nil)
	m.changed("orders")
	assert.NotContains(t, m.mapRead("orders", mapOf(2, "a", "b"), nil), readMap{nodeList}, "as it was read")
}

// Whatever changes, fails and dies in whatever order: everybody who asks is answered once and truly, and in the end every server
// has the newest, also if what was given up arrives late.
func TestPublisherMachineInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &publisherHistory{t: t, open: map[int]question{}, held: map[lanePlace]int64{}, taken: map[lanePlace]int64{}}
		h.change()
		h.die()
		for range rapid.IntRange(1, 80).Draw(t, "events") {
			h.event()
		}
		h.drain()
		require.Empty(t, h.open, "every request is answered")
		for _, node := range h.store.servers {
			require.Equal(t, h.store.revision, h.held[lanePlace{"orders", node}], node)
			require.Equal(t, h.machine.buckets[nodeList].newest.revision, h.held[lanePlace{nodeList, node}], node)
		}
		require.Equal(t, h.store.servers, h.machine.buckets[nodeList].newest.servers)
		for name, pub := range h.machine.buckets {
			require.ElementsMatch(t, h.store.servers, slices.Collect(maps.Keys(pub.lanes)), "lanes of %q", name)
			require.Empty(t, pub.waiters)
		}
	})
}

// publisherHistory is a publisher's world: a store, nodes, and a clock.
type publisherHistory struct {
	t       *rapid.T
	machine *publisherMachine
	now     time.Duration
	store   publishable
	// held is what the nodes have, taken the newest that they told this publisher that they have.
	held, taken map[lanePlace]int64

	lastID int
	open   map[int]question
	reads  []string
	sends  []sendMap
	timers []publisherTimer
	late   []arrival
}

// question is what a caller may be told: that the nodes have what was in the store when it asked, or newer.
type question struct {
	revision int64
	// seen are the readings since then.
	seen map[string][]publishable
}

type publisherTimer struct {
	due  time.Duration
	arm  publisherEffect
	gone bool // its lane was dropped
}

// arrival is what is left of an attempt that was given up.
type arrival struct {
	due  time.Duration
	sent sendMap
}

var publisherNodes = []string{"a", "b", "c"}

func (h *publisherHistory) change() {
	h.store.revision++
	h.store.servers = nil
	which := rapid.IntRange(1, 1<<len(publisherNodes)-1).Draw(h.t, "servers")
	for i, node := range publisherNodes {
		if which&(1<<i) != 0 {
			h.store.servers = append(h.store.servers, node)
		}
	}
}

// die begins with a new machine: what the old one was doing is given up, and may arrive late.
func (h *publisherHistory) die() {
	for len(h.sends) > 0 {
		h.giveUp(h.pickSend())
	}
	h.machine, h.reads, h.timers = newPublisherMachine(), nil, nil
	clear(h.open)
	clear(h.taken)
	h.perform(h.machine.changed("orders"))
}

func (h *publisherHistory) event() {
	switch rapid.IntRange(0, 12).Draw(h.t, "kind") {
	case 0, 1:
		h.change()
		h.perform(h.machine.changed("orders"))
	case 2, 3:
		h.lastID++
		h.open[h.lastID] = question{h.store.revision, map[string][]publishable{}}
		h.perform(h.machine.asked(h.lastID, "orders"))
	case 4, 5, 6:
		h.endRead(rapid.IntRange(0, 3).Draw(h.t, "fails") == 0)
	case 7, 8, 9:
		if len(h.sends) > 0 {
			h.endSend(h.pickSend(), rapid.IntRange(0, 2).Draw(h.t, "fails") == 0)
		}
	case 10, 11:
		h.pass(time.Duration(rapid.IntRange(1, 12000).Draw(h.t, "pause")) * time.Millisecond)
	case 12:
		if rapid.IntRange(0, 4).Draw(h.t, "dies") == 0 {
			h.die()
		}
	}
}

func (h *publisherHistory) endRead(fails bool) {
	if len(h.reads) == 0 {
		return
	}
	i := rapid.IntRange(0, len(h.reads)-1).Draw(h.t, "which read")
	bucket := h.reads[i]
	h.reads = slices.Delete(h.reads, i, i+1)
	if fails {
		h.perform(h.machine.mapRead(bucket, publishable{}, errInjected))
		return
	}
	ready := publishable{revision: h.store.revision, servers: slices.Clone(h.store.servers)}
	if bucket == nodeList {
		ready.byBucket = map[string][]string{"orders": ready.servers}
	}
	effects := h.machine.mapRead(bucket, ready, nil)
	for _, q := range h.open {
		q.seen[bucket] = append(q.seen[bucket], h.machine.buckets[bucket].newest)
	}
	h.perform(effects)
}

func (h *publisherHistory) pickSend() sendMap {
	i := rapid.IntRange(0, len(h.sends)-1).Draw(h.t, "which send")
	sent := h.sends[i]
	h.sends = slices.Delete(h.sends, i, i+1)
	return sent
}

func (h *publisherHistory) endSend(sent sendMap, fails bool) {
	if fails {
		h.giveUp(sent)
		h.perform(h.machine.mapSent(sent.To, sent.Map.revision, errInjected))
		return
	}
	h.held[sent.To], h.taken[sent.To] = sent.Map.revision, sent.Map.revision
	h.perform(h.machine.mapSent(sent.To, sent.Map.revision, nil))
}

func (h *publisherHistory) giveUp(sent sendMap) {
	if rapid.Bool().Draw(h.t, "arrives") {
		due := h.now + time.Duration(rapid.IntRange(0, int(publishLimit/time.Millisecond)).Draw(h.t, "late"))*time.Millisecond
		h.late = append(h.late, arrival{due, sent})
	}
}

// pass lets time go by, to whatever is due first.
func (h *publisherHistory) pass(pause time.Duration) {
	end := h.now + pause
	for {
		for i := 0; i < len(h.late); {
			if a := h.late[i]; a.due <= h.now {
				h.held[a.sent.To] = a.sent.Map.revision
				h.late = slices.Delete(h.late, i, i+1)
			} else {
				i++
			}
		}
		next := slices.IndexFunc(h.timers, func(t publisherTimer) bool { return t.due <= h.now })
		if next >= 0 {
			timer := h.timers[next]
			h.timers = slices.Delete(h.timers, next, next+1)
			h.fire(timer)
			continue
		}
		if h.now == end {
			return
		}
		h.now += min(time.Millisecond, end-h.now)
	}
}

func (h *publisherHistory) fire(timer publisherTimer) {
	switch arm := timer.arm.(type) {
	case armReread:
		h.perform(h.machine.reread(arm.Bucket))
	case armLane:
		effects := h.machine.laneDue(arm.Lane, arm.Timer)
		if timer.gone {
			require.Empty(h.t, effects, "the timer of a lane that is gone")
		}
		h.perform(effects)
	}
}

func (h *publisherHistory) perform(effects []publisherEffect) {
	for _, effect := range effects {
		switch e := effect.(type) {
		case readMap:
			require.NotContains(h.t, h.reads, e.Bucket, "is being read")
			h.reads = append(h.reads, e.Bucket)
		case sendMap:
			for _, other := range h.sends {
				require.NotEqual(h.t, other.To, e.To, "two attempts at a time")
			}
			if e.To.bucket != nodeList {
				require.Contains(h.t, e.Map.servers, e.To.node, "a map without the node")
			}
			h.sends = append(h.sends, e)
		case armReread:
			h.arm(e.After, e)
		case armLane:
			h.arm(e.After, e)
		case dropLane:
			for i := range h.timers {
				if arm, ok := h.timers[i].arm.(armLane); ok && arm.Lane == e.Lane {
					h.timers[i].gone = true
				}
			}
		case answerPublish:
			h.answered(e)
		}
	}
}

func (h *publisherHistory) arm(after time.Duration, arm publisherEffect) {
	what := func(effect publisherEffect) string {
		switch e := effect.(type) {
		case armReread:
			return e.Bucket
		case armLane:
			return fmt.Sprint(e.After, e.Lane)
		}
		return ""
	}
	if after == publishRetry {
		for _, timer := range h.timers {
			require.False(h.t, !timer.gone && what(timer.arm) == what(arm), "a second retry: %v", what(arm))
		}
	}
	h.timers = append(h.timers, publisherTimer{due: h.now + after, arm: arm})
}

func (h *publisherHistory) answered(e answerPublish) {
	q, ok := h.open[e.ID]
	require.True(h.t, ok, "answered twice, or never asked")
	delete(h.open, e.ID)
	if e.Err != nil {
		require.ErrorIs(h.t, e.Err, errInjected)
		return
	}
	for _, bucket := range []string{"orders", nodeList} {
		require.True(h.t, slices.ContainsFunc(q.seen[bucket], func(ready publishable) bool {
			if bucket != nodeList && ready.revision < q.revision {
				return false
			}
			return !slices.ContainsFunc(ready.servers, func(node string) bool {
				return h.taken[lanePlace{bucket, node}] < ready.revision
			})
		}), "%q has not come to the nodes", bucket)
	}
}

// drain lets everything succeed until there is nothing left to do.
func (h *publisherHistory) drain() {
	for rounds := 0; len(h.reads)+len(h.sends)+len(h.timers)+len(h.late) > 0; rounds++ {
		require.Less(h.t, rounds, 1000, "it goes on for ever")
		switch {
		case len(h.reads) > 0:
			h.endRead(false)
		case len(h.sends) > 0:
			h.endSend(h.pickSend(), false)
		default:
			h.pass(time.Second)
		}
	}
}
