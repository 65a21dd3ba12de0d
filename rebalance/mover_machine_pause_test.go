package rebalance

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/rebalance/schedule"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// moverModel plays a mover around its machine, with everything that can happen to moves, and checks what must always hold.
type moverModel struct {
	t       *rapid.T
	m       *moverMachine
	plans   []movePlan
	flying  []uint16
	begun   map[uint16]bool
	paused  bool
	stopped bool
	crashed bool
	ended   int
	err     error
	// spy sees the effects too.
	spy func([]moverEffect)
}

func newMoverModel(t *rapid.T) *moverModel {
	model := &moverModel{t: t, begun: map[uint16]bool{}}
	nodes := []string{"n0", "n1", "n2", "n3"}
	for vb := range rapid.IntRange(1, 12).Draw(t, "vbuckets") {
		chain := func(label string) vbmap.Chain {
			return vbmap.Chain(slices.Clone(rapid.Permutation(nodes).Draw(t, label)[:2]))
		}
		plan, err := planMove(uint16(vb), chain("old"), chain("new"))
		require.NoError(t, err)
		if !plan.Old.Equal(plan.New) {
			model.plans = append(model.plans, plan)
		}
	}
	model.m = newMoverMachine(model.plans, schedule.Limits{
		BackfillsPerNode: rapid.IntRange(1, 3).Draw(t, "backfills"), MovesPerNode: rapid.IntRange(1, 3).Draw(t, "moves"),
	})
	return model
}

func (p *moverModel) perform(effects []moverEffect) {
	if p.spy != nil {
		p.spy(effects)
	}
	for _, effect := range effects {
		switch e := effect.(type) {
		case startMove:
			require.False(p.t, p.paused, "vb %d begins in a pause", e.Plan.VB)
			require.False(p.t, p.stopped, "vb %d begins after a stop", e.Plan.VB)
			require.False(p.t, p.begun[e.Plan.VB], "vb %d begins twice", e.Plan.VB)
			p.begun[e.Plan.VB] = true
			p.flying = append(p.flying, e.Plan.VB)
		case moverFinished:
			p.ended++
			p.err = e.Err
		}
	}
	require.LessOrEqual(p.t, p.ended, 1)
}

// take removes one of the moves that fly, if any does.
func (p *moverModel) take(t *rapid.T) (vb uint16, flies bool) {
	if len(p.flying) == 0 {
		return 0, false
	}
	at := rapid.IntRange(0, len(p.flying)-1).Draw(t, "move")
	vb = p.flying[at]
	p.flying = slices.Delete(p.flying, at, at+1)
	return vb, true
}

func (p *moverModel) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"pause": func(t *rapid.T) {
			p.paused = rapid.Bool().Draw(t, "paused")
			p.perform(p.m.pause(p.paused))
		},
		"backfilled": func(t *rapid.T) {
			if vb, flies := p.take(t); flies {
				p.flying = append(p.flying, vb)
				p.perform(p.m.backfillDone(vb))
			}
		},
		"moved": func(t *rapid.T) {
			if vb, flies := p.take(t); flies {
				p.perform(p.m.moveEnded(vb, nil, nil))
			}
		},
		"stop": func(t *rapid.T) {
			if rapid.IntRange(0, 9).Draw(t, "rarely") > 0 {
				return
			}
			p.stopped = p.stopped || p.ended == 0
			p.perform(p.m.stop())
			if p.stopped && len(p.flying) == 0 {
				require.Equal(t, 1, p.ended, "nothing flies: the stop has happened")
			}
		},
		"crash": func(t *rapid.T) {
			if p.stopped || rapid.IntRange(0, 9).Draw(t, "rarely") > 0 {
				return
			}
			p.crashed = p.crashed || p.ended == 0
			p.perform(p.m.linkCrashed(dcp.LinkCrashed{Link: dcp.Link{Producer: "n0", Consumer: "n1"}, Reason: dcp.ErrSocketClosed}))
			require.Equal(t, 1, p.ended, "a crash ends it at once, also in a pause")
		},
	}
}

func TestNothingBeginsInAPause(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newMoverModel(t)
		p.paused = rapid.Bool().Draw(t, "paused from the start")
		p.m.paused = p.paused
		p.perform(p.m.begin())
		t.Repeat(p.actions())
		if p.ended > 0 && !p.stopped && !p.crashed {
			require.NoError(t, p.err)
			require.Len(t, p.begun, len(p.plans))
		}
		// Whatever happened: resumed, it comes to its end.
		p.paused = false
		p.perform(p.m.pause(false))
		for len(p.flying) > 0 {
			vb := p.flying[0]
			p.flying = p.flying[1:]
			p.perform(p.m.moveEnded(vb, nil, nil))
		}
		require.Equal(t, 1, p.ended)
		switch {
		case p.crashed:
			require.ErrorIs(t, p.err, dcp.ErrSocketClosed)
		case p.stopped && len(p.begun) < len(p.plans):
			require.ErrorIs(t, p.err, ErrStopped)
		case !p.stopped:
			require.NoError(t, p.err)
			require.Equal(t, len(p.plans), p.m.done)
		}
	})
}

func TestAPausedMoverThatHasNothingLeftIsDone(t *testing.T) {
	m := beganMover(t)
	assert.Empty(t, m.pause(true))
	m.moveEnded(0, nil, nil)
	m.moveEnded(1, nil, nil)
	effects := m.moveEnded(2, nil, nil)
	assert.Equal(t, moverFinished{}, effects[len(effects)-1])
}
