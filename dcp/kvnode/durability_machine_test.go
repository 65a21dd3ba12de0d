package kvnode

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

var (
	allLevels = []mcbp.DurabilityLevel{mcbp.DurabilityMajority, mcbp.DurabilityMajorityAndPersist, mcbp.DurabilityPersistToMajority}
	someday   = time.Unix(1000, 0)
)

// smallChains are all chains of up to three members that begin with a.
func smallChains() []chain {
	all := []chain{{"a"}}
	for _, second := range []string{"", "b", "c"} {
		all = append(all, chain{"a", second})
		for _, third := range []string{"", "b", "c"} {
			if third == "" || third != second {
				all = append(all, chain{"a", second, third})
			}
		}
	}
	return all
}

// enough is the rule in other words: fewer are missing than would make half of the chain, rounded up.
func enough(c chain, have map[string]bool) bool {
	missing := 0
	for _, name := range c {
		if !have[name] {
			missing++
		}
	}
	return 2*missing < len(c)
}

// One write, every topology of one or two small chains, every level, everything that the copies may have: it is committed if and only
// if its copy and a majority of each chain have it.
func TestAWriteIsCommittedByTheMajorityOfEachChain(t *testing.T) {
	var topologies [][]chain
	for _, first := range smallChains() {
		topologies = append(topologies, []chain{first})
		for _, second := range append(smallChains(), chain{"b", "c"}, chain{"c", ""}, chain{"b", "c", ""}) {
			topologies = append(topologies, []chain{first, second})
		}
	}
	for _, chains := range topologies {
		for _, level := range allLevels {
			for bits := range 8 {
				persisted, b, c := uint64(bits&1), bits&2 != 0, bits&4 != 0
				onDisk := level == mcbp.DurabilityMajority || persisted == 1
				d := newDurability("a")
				d.assume(true, chains)
				d.prepare(preparedWrite{seqno: 1, level: level, deadline: someday})
				d.reached(1, persisted)
				if b {
					d.acknowledged("b", 1)
				}
				if c {
					d.acknowledged("c", 1)
				}
				have := map[string]bool{"a": onDisk, "b": b, "c": c}
				want, possible := onDisk, true
				for _, c := range chains {
					want = want && enough(c, have)
					possible = possible && enough(c, map[string]bool{"a": true, "b": true, "c": true})
				}
				name := fmt.Sprintf("%q, %d, persisted %d, %v", chains, level, persisted, have)
				require.Equal(t, possible, d.possible(), name)
				ends := d.decide(someday.Add(-1))
				switch {
				case want:
					require.Len(t, ends, 1, name)
					require.True(t, ends[0].commit, name)
				case !possible:
					require.Len(t, ends, 1, name)
					require.False(t, ends[0].commit, name)
				default:
					require.Empty(t, ends, name)
					ends = d.decide(someday)
					require.Len(t, ends, 1, name)
					require.False(t, ends[0].commit, "its time is over: %s", name)
				}
				require.Empty(t, d.queue)
				require.EqualValues(t, 1, d.highCompleted)
			}
		}
	}
}

// A write whose client's connection has gone is ended by the node.
func TestTheNodeEndsWhatNobodyWaitsFor(t *testing.T) {
	n, err := Start(Options{Name: "n0"})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	require.NoError(t, n.CreateBucket("b", 8))
	b := n.bucket("b")
	require.Equal(t, mcbp.StatusSuccess, b.setVBucket(7, mcbp.VBucketActive, []byte(`[["n0","n1"]]`)))
	it := &item{key: "k", level: mcbp.DurabilityMajority}
	w, status := b.vb(7).prepare(mcbp.OpSet, it, 0, time.Now(), time.Now().Add(time.Millisecond))
	require.Equal(t, mcbp.StatusSuccess, status)
	select {
	case <-w.done:
		assert.Equal(t, mcbp.StatusSyncWriteAmbiguous, w.status)
		assert.Zero(t, b.undecided.Load())
	case <-time.After(10 * time.Second):
		assert.Fail(t, "it goes on for ever")
	}
}

// How far a copy has what was prepared counts what has ended, in whatever order, but nothing of a snapshot that is not whole: that there is an
// end of one write says nothing of others, which something newer may have replaced.
func TestWhatHasEndedIsPreparedToo(t *testing.T) {
	d := newDurability("a")
	for seqno := uint64(1); seqno <= 3; seqno++ {
		d.prepare(preparedWrite{seqno: seqno, level: mcbp.DurabilityPersistToMajority})
	}
	d.reached(9, 0)
	d.completed(2)
	require.Equal(t, []uint64{0, 2}, []uint64{d.highPrepared, d.highCompleted}, "1 is not here")
	d.completed(1)
	require.Equal(t, []uint64{2, 2}, []uint64{d.highPrepared, d.highCompleted})
	d.reached(9, 9)
	require.EqualValues(t, 3, d.highPrepared)

	d = newDurability("b")
	d.reached(4, 4)
	d.completed(6)
	require.Equal(t, []uint64{0, 6}, []uint64{d.highPrepared, d.highCompleted}, "5 may be on its way")
	d.reached(9, 4)
	require.EqualValues(t, 6, d.highPrepared)
	d.ended(20)
	require.EqualValues(t, 6, d.highPrepared)
	d.rolledBack(3)
	require.Equal(t, []uint64{3, 3}, []uint64{d.highPrepared, d.highCompleted})
}

func TestWithoutATopologyNothingIsPossible(t *testing.T) {
	d := newDurability("a")
	d.assume(true, nil)
	assert.False(t, d.possible())
	d.prepare(preparedWrite{seqno: 1, level: mcbp.DurabilityMajority})
	d.reached(1, 1)
	assert.Empty(t, d.decide(someday), "what may have been committed before waits for one")
}

// deciding is an active with what is known of its copies, all writes that ever were, and how they ended.
type deciding struct {
	d         durability
	high      uint64
	persisted uint64
	acks      map[string]uint64
	writes    map[uint64]preparedWrite
	ends      map[uint64]bool
	now       time.Time
	committed uint64
}

func (m *deciding) has(w preparedWrite) bool {
	return w.level == mcbp.DurabilityMajority || w.seqno <= m.persisted
}

func (m *deciding) allows(w preparedWrite) bool {
	for _, other := range m.writes {
		if _, ended := m.ends[other.seqno]; !ended && other.seqno <= w.seqno && !m.has(other) {
			return false
		}
	}
	for _, c := range m.d.chains {
		if !enough(c, map[string]bool{"a": true, "b": m.acks["b"] >= w.seqno, "c": m.acks["c"] >= w.seqno}) {
			return false
		}
	}
	return len(m.d.chains) > 0
}

func (m *deciding) decide(t *rapid.T) {
	open := 0
	for _, w := range m.writes {
		if _, ended := m.ends[w.seqno]; !ended {
			open++
		}
	}
	for _, e := range m.d.decide(m.now) {
		_, twice := m.ends[e.seqno]
		require.False(t, twice, "%d ends once", e.seqno)
		w := m.writes[e.seqno]
		require.Equal(t, w.seqno, e.seqno)
		if e.commit {
			require.True(t, m.allows(w), "%d is committed", e.seqno)
			require.Greater(t, e.seqno, m.committed, "in order")
			for _, other := range m.writes {
				_, ended := m.ends[other.seqno]
				require.True(t, ended || other.seqno >= e.seqno, "%d was before", other.seqno)
			}
			m.committed = e.seqno
		} else {
			require.False(t, w.deadline.IsZero(), "nobody waits for %d", e.seqno)
			require.True(t, !m.now.Before(w.deadline) || !m.d.possible(), "%d is aborted", e.seqno)
		}
		m.ends[e.seqno] = e.commit
		open--
	}
	require.Len(t, m.d.queue, open, "what has no end is kept")
	if len(m.d.queue) > 0 {
		require.False(t, m.allows(m.d.queue[0]), "the first could have been committed")
	}
	for _, w := range m.d.queue {
		require.True(t, w.deadline.IsZero() || m.now.Before(w.deadline) && m.d.possible(), "%d could have been aborted", w.seqno)
	}
}

// Whatever happens, writes end once, are committed in order and only if they may be, and those that can end do.
func TestEveryDurableWriteEndsOnceAndInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &deciding{
			d: newDurability("a"), acks: map[string]uint64{}, writes: map[uint64]preparedWrite{}, ends: map[uint64]bool{}, now: someday,
		}
		chains := append(smallChains(), chain{"b", "c", ""})
		m.d.assume(true, []chain{{"a", "b"}})
		other := func(t *rapid.T) string { return rapid.SampledFrom([]string{"b", "c"}).Draw(t, "copy") }
		t.Repeat(map[string]func(*rapid.T){
			"prepare": func(t *rapid.T) {
				m.high += rapid.Uint64Range(1, 2).Draw(t, "by")
				w := preparedWrite{seqno: m.high, level: rapid.SampledFrom(allLevels).Draw(t, "level")}
				w.deadline = m.now.Add(time.Duration(rapid.IntRange(1, 9).Draw(t, "timeout")))
				m.writes[w.seqno] = w
				m.d.prepare(w)
				m.d.reached(m.high, m.persisted)
			},
			"acknowledged": func(t *rapid.T) {
				name, seqno := other(t), rapid.Uint64Range(0, m.high).Draw(t, "seqno")
				m.acks[name] = max(m.acks[name], seqno)
				m.d.acknowledged(name, seqno)
			},
			"left": func(t *rapid.T) {
				name := other(t)
				m.acks[name] = 0
				m.d.left(name)
			},
			"persisted": func(t *rapid.T) {
				m.persisted = rapid.Uint64Range(m.persisted, m.high).Draw(t, "seqno")
				m.d.reached(m.high, m.persisted)
			},
			"time": func(t *rapid.T) { m.now = m.now.Add(time.Duration(rapid.IntRange(1, 4).Draw(t, "passes"))) },
			"topology": func(t *rapid.T) {
				m.d.assume(true, rapid.SliceOfN(rapid.SampledFrom(chains), 0, 2).Draw(t, "chains"))
			},
			"demoted and promoted": func(t *rapid.T) {
				list := m.d.chains
				m.d.assume(false, nil)
				require.Empty(t, m.d.decide(m.now.Add(time.Hour)), "only an active decides")
				m.d.assume(true, list)
				clear(m.acks)
				for seqno, w := range m.writes {
					if _, ended := m.ends[seqno]; !ended {
						w.deadline = time.Time{}
						m.writes[seqno] = w
					}
				}
				m.d.reached(m.high, m.persisted)
			},
			"": m.decide,
		})
	})
}

// A replica acknowledges a write only if it has it and all before it, each as its level demands, in a snapshot that is whole.
func TestAReplicaSaysWhatItHas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDurability("b")
		var high, complete, persisted, said uint64
		levels := map[uint64]mcbp.DurabilityLevel{}
		t.Repeat(map[string]func(*rapid.T){
			"prepare": func(t *rapid.T) {
				high += rapid.Uint64Range(1, 2).Draw(t, "by")
				levels[high] = rapid.SampledFrom(allLevels).Draw(t, "level")
				d.prepare(preparedWrite{seqno: high, level: levels[high]})
			},
			"complete":  func(t *rapid.T) { complete = high },
			"persisted": func(t *rapid.T) { persisted = rapid.Uint64Range(persisted, high).Draw(t, "seqno") },
			"completed": func(t *rapid.T) {
				if len(d.queue) == 0 {
					return
				}
				w := rapid.SampledFrom(d.queue).Draw(t, "which")
				d.completed(w.seqno)
				delete(levels, w.seqno)
			},
			"rollback": func(t *rapid.T) {
				to := rapid.Uint64Range(0, high).Draw(t, "to")
				d.rolledBack(to)
				high, complete, persisted, said = to, min(complete, to), min(persisted, to), min(said, to)
				for seqno := range levels {
					if seqno > to {
						delete(levels, seqno)
					}
				}
			},
			"": func(t *rapid.T) {
				d.reached(complete, persisted)
				require.Len(t, d.queue, len(levels))
				require.GreaterOrEqual(t, d.highPrepared, said)
				require.True(t, d.highPrepared == said || d.highPrepared <= complete, "%d of a whole copy up to %d", d.highPrepared, complete)
				said = d.highPrepared
				has := func(seqno uint64) bool {
					return seqno <= complete && (levels[seqno] != mcbp.DurabilityPersistToMajority || seqno <= persisted)
				}
				for i, w := range d.queue {
					if w.seqno <= said {
						require.True(t, has(w.seqno), "%d is here", w.seqno)
					} else {
						require.True(t, slices.ContainsFunc(d.queue[:i+1], func(w preparedWrite) bool { return !has(w.seqno) }), "%d could be said", w.seqno)
					}
				}
				require.Empty(t, d.decide(someday))
			},
		})
	})
}
