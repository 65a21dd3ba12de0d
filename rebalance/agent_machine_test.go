package rebalance

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/dcp"
)

func orderOn(epoch uint64, vb uint16) order { return deleteCopy{stamp: stamp{Epoch: epoch}, VB: vb} }

func orderOnAll(epoch uint64) order { return releaseOwner{stamp{Epoch: epoch}} }

func preparedAgent(t *testing.T, epoch uint64) *agentMachine {
	m := newAgentMachine()
	require.Equal(t, []agentEffect{settleReplications{epoch}, armGrace{epoch}}, m.prepare(-1, epoch))
	require.Equal(t, []agentEffect{nowServing{epoch}, answerRequest{ID: -1}}, m.replicationsSettled(epoch, nil))
	return m
}

func stale(id int, got, current uint64) agentEffect {
	return answerRequest{ID: id, Err: &dcp.StaleEpoch{Got: got, Current: current}}
}

func TestAgentThatWasNeverPreparedRunsNoOrder(t *testing.T) {
	m := newAgentMachine()
	assert.Equal(t, []agentEffect{stale(1, 0, 0)}, m.submit(1, orderOn(0, 7)))
	assert.Equal(t, []agentEffect{stale(2, 4, 0)}, m.submit(2, orderOn(4, 7)))
	assert.Equal(t, []agentEffect{stale(3, 0, 0)}, m.prepare(3, 0))
}

func TestAgentRunsAnOrderOnlyInItsEpoch(t *testing.T) {
	m := preparedAgent(t, 5)
	assert.Equal(t, []agentEffect{stale(1, 4, 5)}, m.submit(1, orderOn(4, 7)))
	assert.Equal(t, []agentEffect{stale(2, 6, 5)}, m.submit(2, orderOn(6, 7)))
	assert.Equal(t, []agentEffect{runOrder{3, orderOn(5, 7)}}, m.submit(3, orderOn(5, 7)))
	assert.Equal(t, []agentEffect{stale(4, 4, 5)}, m.prepare(4, 4))
	assert.Equal(t, []agentEffect{answerRequest{ID: 5}}, m.prepare(5, 5), "the epoch is served already")
}

func TestAgentOrdersPerVBucketOnly(t *testing.T) {
	m := preparedAgent(t, 5)
	assert.Equal(t, []agentEffect{runOrder{1, orderOn(5, 7)}}, m.submit(1, orderOn(5, 7)))
	assert.Empty(t, m.submit(2, orderOn(5, 7)))
	assert.Equal(t, []agentEffect{runOrder{3, orderOn(5, 8)}}, m.submit(3, orderOn(5, 8)), "vb 8 does not wait for vb 7")
	assert.Empty(t, m.submit(4, orderOnAll(5)))
	assert.Empty(t, m.submit(5, orderOn(5, 9)), "comes after an order on all")

	assert.Empty(t, m.ended(3))
	assert.Equal(t, []agentEffect{runOrder{2, orderOn(5, 7)}}, m.ended(1))
	assert.Equal(t, []agentEffect{runOrder{4, orderOnAll(5)}}, m.ended(2))
	assert.Equal(t, []agentEffect{runOrder{5, orderOn(5, 9)}}, m.ended(4))
	assert.Empty(t, m.ended(5))
}

func TestPrepareWaitsForWhatRunsAndRefusesWhatWaits(t *testing.T) {
	m := preparedAgent(t, 5)
	m.submit(1, orderOn(5, 7))
	m.submit(2, orderOn(5, 7))
	assert.Equal(t, []agentEffect{stale(2, 5, 6), settleReplications{6}, armGrace{6}}, m.prepare(3, 6))
	assert.Equal(t, []agentEffect{stale(4, 5, 6)}, m.submit(4, orderOn(5, 8)), "the old epoch is over")
	assert.Equal(t, []agentEffect{stale(5, 6, 6)}, m.submit(5, orderOn(6, 8)), "the new one has not begun")
	assert.Empty(t, m.prepare(6, 6))
	assert.Empty(t, m.replicationsSettled(6, nil), "an order of the old epoch still runs")
	assert.Equal(t, []agentEffect{nowServing{6}, answerRequest{ID: 3}, answerRequest{ID: 6}}, m.ended(1))
	assert.Equal(t, []agentEffect{runOrder{7, orderOn(6, 8)}}, m.submit(7, orderOn(6, 8)))
}

func TestPrepareResetsTheNodeOnlyAfterTheGraceAndOnlyIfSomethingRuns(t *testing.T) {
	m := preparedAgent(t, 5)
	m.submit(1, orderOn(5, 7))
	m.prepare(2, 6)
	assert.Empty(t, m.graceOver(5), "an earlier epoch's timer")
	assert.Equal(t, []agentEffect{resetNode{}}, m.graceOver(6))
	assert.Empty(t, m.ended(1))
	assert.Empty(t, m.graceOver(6))
	assert.Equal(t, []agentEffect{nowServing{6}, answerRequest{ID: 2}}, m.replicationsSettled(6, nil))
	assert.Empty(t, m.graceOver(6))
}

func TestPrepareIsOvertakenByAHigherEpoch(t *testing.T) {
	m := preparedAgent(t, 5)
	m.prepare(1, 6)
	assert.Equal(t, []agentEffect{stale(1, 6, 7), settleReplications{7}, armGrace{7}}, m.prepare(2, 7))
	assert.Empty(t, m.replicationsSettled(6, nil), "the answer of the epoch that was overtaken")
	assert.Equal(t, []agentEffect{nowServing{7}, answerRequest{ID: 2}}, m.replicationsSettled(7, nil))
}

func TestAgentServesOnlyReadsWhenItsReplicationsCannotBeSettled(t *testing.T) {
	m := preparedAgent(t, 5)
	m.prepare(1, 6)
	broken := errors.New("broken")
	assert.Equal(t, []agentEffect{answerRequest{ID: 1, Err: broken}}, m.replicationsSettled(6, broken))
	assert.Equal(t, []agentEffect{stale(2, 5, 0)}, m.submit(2, orderOn(5, 7)))
	assert.Equal(t, []agentEffect{stale(3, 6, 0)}, m.submit(3, orderOn(6, 7)))
}

// TestAgentFencing runs random histories and checks on each that no order of another epoch than the prepared one starts,
// that no two orders on one vbucket overlap, that orders on a vbucket start as they came, that nothing of a lower epoch
// runs once an epoch is prepared, and that every request is answered exactly once.
func TestAgentFencing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &agentHistory{t: t, machine: newAgentMachine(), open: map[int]bool{}, running: map[int]order{}}
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			h.event()
		}
		h.drain()
		require.Empty(t, h.open, "every request is answered")
	})
}

type agentHistory struct {
	t        *rapid.T
	machine  *agentMachine
	lastID   int
	open     map[int]bool
	running  map[int]order
	started  []int
	settling []uint64
	serving  uint64
}

func (h *agentHistory) event() {
	h.lastID++
	id := h.lastID
	epoch := uint64(rapid.IntRange(1, 5).Draw(h.t, "epoch"))
	vb := uint16(rapid.IntRange(0, 2).Draw(h.t, "vb"))
	switch rapid.IntRange(0, 5).Draw(h.t, "kind") {
	case 0, 1:
		h.open[id] = true
		h.perform(h.machine.submit(id, orderOn(max(epoch, h.serving), vb)))
	case 2:
		h.open[id] = true
		h.perform(h.machine.submit(id, orderOnAll(epoch)))
	case 3:
		h.open[id] = true
		h.perform(h.machine.prepare(id, epoch))
	case 4:
		h.settle()
	case 5:
		h.end()
	}
}

func (h *agentHistory) settle() {
	if len(h.settling) > 0 {
		epoch := h.settling[0]
		h.settling = h.settling[1:]
		h.perform(h.machine.replicationsSettled(epoch, nil))
	}
}

func (h *agentHistory) end() {
	if len(h.started) > 0 {
		i := rapid.IntRange(0, len(h.started)-1).Draw(h.t, "which")
		id := h.started[i]
		h.started = slices.Delete(h.started, i, i+1)
		delete(h.running, id)
		require.True(h.t, h.open[id])
		delete(h.open, id)
		h.perform(h.machine.ended(id))
	}
}

func (h *agentHistory) drain() {
	for len(h.settling) > 0 || len(h.started) > 0 {
		h.settle()
		h.end()
	}
}

func (h *agentHistory) perform(effects []agentEffect) {
	for _, effect := range effects {
		switch e := effect.(type) {
		case answerRequest:
			require.True(h.t, h.open[e.ID], "answered once")
			delete(h.open, e.ID)
		case settleReplications:
			h.settling = append(h.settling, e.Epoch)
		case nowServing:
			require.Greater(h.t, e.Epoch, h.serving)
			require.Empty(h.t, h.running, "nothing of a lower epoch runs")
			h.serving = e.Epoch
		case runOrder:
			require.Equal(h.t, h.serving, e.Order.epoch())
			vb, all := e.Order.scope()
			for id, other := range h.running {
				otherVB, otherAll := other.scope()
				require.False(h.t, all || otherAll || vb == otherVB, "overlaps")
				if !all && vb == otherVB {
					require.Less(h.t, id, e.ID)
				}
			}
			h.running[e.ID] = e.Order
			h.started = append(h.started, e.ID)
		}
	}
}
