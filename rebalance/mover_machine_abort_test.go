package rebalance

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/rebalance/schedule"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// Whatever else happens, everybody who asks for the abort of a move is answered once, and truly: a move is either done or
// aborted, and the mover ends with all of them one or the other.
func TestEveryMoveIsDoneOrAborted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newMoverModel(t)
		caller := 0
		asked := map[int]uint16{}
		answers := map[int]error{}
		var asking, done, aborted []uint16
		p.spy = func(effects []moverEffect) {
			for _, effect := range effects {
				switch e := effect.(type) {
				case askAbort:
					require.Contains(t, p.flying, e.VB)
					asking = append(asking, e.VB)
				case answerAbort:
					_, twice := answers[e.ID]
					require.False(t, twice)
					require.Contains(t, asked, e.ID)
					answers[e.ID] = e.Err
					if e.Err == nil {
						require.Contains(t, p.m.aborted, asked[e.ID])
					}
					if errors.Is(e.Err, ErrSwitchBegun) {
						require.NotContains(t, aborted, asked[e.ID])
					}
				case moverFinished:
					require.Len(t, answers, caller, "everybody is answered before the end")
				}
			}
		}
		actions := p.actions()
		actions["moved"] = func(t *rapid.T) {
			vb, flies := p.take(t)
			if !flies {
				return
			}
			asking = slices.DeleteFunc(asking, func(other uint16) bool { return other == vb })
			if p.ended == 0 {
				done = append(done, vb)
			}
			p.perform(p.m.moveEnded(vb, nil, nil))
		}
		actions["abort"] = func(t *rapid.T) {
			caller++
			asked[caller] = uint16(rapid.IntRange(0, 13).Draw(t, "vb"))
			p.perform(p.m.abort(caller, asked[caller]))
		}
		actions["decided"] = func(t *rapid.T) {
			if len(asking) == 0 {
				return
			}
			vb := asking[0]
			asking = asking[1:]
			if rapid.Bool().Draw(t, "refused") {
				p.perform(p.m.abortRefused(vb))
				return
			}
			asking = slices.DeleteFunc(asking, func(other uint16) bool { return other == vb })
			if at := slices.Index(p.flying, vb); at >= 0 {
				p.flying = slices.Delete(p.flying, at, at+1)
				if p.ended == 0 {
					aborted = append(aborted, vb)
				}
				p.perform(p.m.moveEnded(vb, &MoveError{VB: vb, Err: ErrMoveAborted}, nil))
			}
		}
		p.perform(p.m.begin())
		t.Repeat(actions)
		p.paused = false
		p.perform(p.m.pause(false))
		for len(p.flying) > 0 {
			vb := p.flying[0]
			p.flying = p.flying[1:]
			if p.ended == 0 {
				done = append(done, vb)
			}
			p.perform(p.m.moveEnded(vb, nil, nil))
		}
		require.Equal(t, 1, p.ended)
		require.Len(t, answers, caller)
		require.Subset(t, p.m.aborted, aborted)
		for _, vb := range done {
			require.NotContains(t, p.m.aborted, vb)
		}
		require.Len(t, slices.Compact(slices.Sorted(slices.Values(p.m.aborted))), len(p.m.aborted))
		if !p.crashed && !p.stopped {
			require.NoError(t, p.err)
			require.Equal(t, len(p.plans), p.m.done+len(p.m.aborted))
		}
	})
}

func TestAMoveThatWaitsIsTakenOffThePlan(t *testing.T) {
	var plans []movePlan
	for vb := range uint16(3) {
		plan, err := planMove(vb, vbmap.Chain{"n0"}, vbmap.Chain{"n1"})
		require.NoError(t, err)
		plans = append(plans, plan)
	}
	m := newMoverMachine(plans, schedule.Limits{MovesPerNode: 1})
	m.begin()
	require.Contains(t, m.flying, uint16(2))
	effects := m.abort(1, 1)
	assert.Equal(t, answerAbort{ID: 1}, effects[0])
	assert.IsType(t, moverProgressed{}, effects[1])
	assert.Equal(t, []moverEffect{answerAbort{ID: 2}}, m.abort(2, 1), "once more")
	assert.Equal(t, []moverEffect{answerAbort{3, ErrNotMoving}}, m.abort(3, 9))
	assert.Equal(t, []moverEffect{askAbort{2}}, m.abort(4, 2))
	assert.Equal(t, []moverEffect{answerAbort{4, ErrSwitchBegun}}, m.abortRefused(2))
	effects = m.moveEnded(2, nil, nil)
	assert.Equal(t, startMove{plans[0]}, effects[len(effects)-1])
	assert.Equal(t, []moverEffect{answerAbort{5, ErrNotMoving}}, m.abort(5, 2), "it is done")
	effects = m.moveEnded(0, &MoveError{VB: 0, Err: ErrMoveAborted}, nil)
	assert.Equal(t, moverFinished{}, effects[len(effects)-1], "that is no failure")
	assert.Equal(t, []uint16{1, 0}, m.aborted)
	assert.Equal(t, []moverEffect{answerAbort{6, ErrNotRunning}}, m.abort(6, 2))
}

// An abort that is under way when the rebalance ends is answered with that.
func TestAnAbortThatIsOvertakenByAFailure(t *testing.T) {
	m := beganMover(t)
	m.abort(1, 2)
	effects := m.linkCrashed(crashOf("n0", "n3", earlyEnd(1)))
	require.Len(t, effects, 2)
	answer, ok := effects[0].(answerAbort)
	require.True(t, ok)
	require.ErrorIs(t, answer.Err, ErrNotRunning)
	assert.Contains(t, answer.Err.Error(), "unexpected_stream_end")
	var crash *dcp.UnexpectedStreamEnd
	require.ErrorAs(t, effects[1].(moverFinished).Err, &crash)
}

// On the way back, streams to replicas that stay are nobody's again: the replications look after them. Those that are closed
// are still the rebalance's, so that nobody opens them.
func TestAnAbortedMoveHandsItsStreamsBack(t *testing.T) {
	m := newMoveMachine(planned(t, vbmap.Chain{"n0", "n1"}, vbmap.Chain{"n3", "n1"}), stamp{Epoch: 5, Owner: "rebalance r"}, MoveLimits{})
	runUntil(m, m.begin(), StepPersist)
	effects, possible := m.abort()
	require.True(t, possible)
	streams := map[string]setStream{}
	for _, effect := range effects {
		if ask, ok := effect.(moveAsk); ok {
			streams[ask.Node] = ask.Request.(setStream)
		}
	}
	assert.Equal(t, map[string]setStream{
		"n1": {stamp: stamp{Epoch: 5}, VB: 17, Producer: "n0"},
		"n3": {stamp: stamp{Epoch: 5, Owner: "rebalance r"}, VB: 17},
	}, streams)
}
