package rebalance

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// starting is what comes of a request for a rebalance.
func starting(m *orchestratorMachine, caller int, run string) []orchestratorEffect {
	effects, _ := m.start(caller, run)
	return effects
}

func TestOneRebalanceAtATime(t *testing.T) {
	m := newOrchestratorMachine()
	assert.Equal(t, []orchestratorEffect{startRebalance{"r1"}, answerCaller{ID: 1}}, starting(m, 1, "r1"))
	assert.Equal(t, []orchestratorEffect{answerCaller{ID: 2, Err: ErrRebalanceRunning}}, starting(m, 2, "r2"))
	assert.Equal(t, []orchestratorEffect{answerCaller{ID: 3}, stopRebalance{"r1"}}, m.stop(3, "r1"))
	assert.Equal(t, Stopping, m.state)
	_, accepted := m.start(6, "r3")
	assert.False(t, accepted)
	assert.Equal(t, []orchestratorEffect{answerCaller{ID: 4, Err: ErrRebalanceRunning}}, starting(m, 4, "r2"))
	assert.Equal(t, []orchestratorEffect{answerCaller{ID: 5}}, m.stop(5, "r1"), "stopping already")
	assert.Equal(t, []orchestratorEffect{runJanitor{reasonStopped}}, m.ended("r1", Stopped))
	assert.Equal(t, Idle, m.state)
	_, accepted = m.start(7, "r4")
	assert.True(t, accepted)
}

// Stop racing with completion gives exactly one of the two (history 20).
func TestStopOfARebalanceThatHasEnded(t *testing.T) {
	m := newOrchestratorMachine()
	m.start(1, "r1")
	assert.Empty(t, m.ended("r1", Complete))
	assert.Equal(t, []orchestratorEffect{answerCaller{ID: 2}}, m.stop(2, "r1"))
	assert.Equal(t, Idle, m.state)
	m.start(3, "r2")
	assert.Equal(t, []orchestratorEffect{answerCaller{ID: 4}}, m.stop(4, "r1"), "not the one that runs")
	assert.Equal(t, Rebalancing, m.state)
	assert.Empty(t, m.ended("r1", Stopped))
	assert.Equal(t, Rebalancing, m.state)
}

func TestARebalanceThatDoesNotStopIsKilled(t *testing.T) {
	m := newOrchestratorMachine()
	m.start(1, "r1")
	assert.Empty(t, m.stopOverdue("r1"), "nobody asked it to stop")
	m.stop(2, "r1")
	assert.Equal(t, []orchestratorEffect{killRebalance{"r1"}}, m.stopOverdue("r1"))
	m.ended("r1", Stopped)
	assert.Empty(t, m.stopOverdue("r1"))
}

func TestTheJanitorRunsOnlyBetweenRebalances(t *testing.T) {
	m := newOrchestratorMachine()
	m.start(1, "r1")
	assert.Empty(t, m.clean(0, reasonPeriodic))
	assert.Empty(t, m.clean(0, reasonLinkLost))
	assert.Equal(t, []orchestratorEffect{answerCaller{ID: 2, Err: ErrRebalanceRunning}}, m.clean(2, reasonDemand))
	assert.Equal(t, []orchestratorEffect{runJanitor{reasonFailed}}, m.ended("r1", Failed))
}

func TestReasonsThatComeWhileTheJanitorRunsMakeItRunOnceMore(t *testing.T) {
	m := newOrchestratorMachine()
	assert.Equal(t, []orchestratorEffect{runJanitor{reasonDemand}}, m.clean(1, reasonDemand))
	assert.Empty(t, m.clean(2, reasonDemand))
	assert.Empty(t, m.clean(0, reasonLinkLost))
	assert.Empty(t, m.clean(0, reasonPeriodic), "no reason of its own")
	broken := errors.New("broken")
	assert.Equal(t, []orchestratorEffect{answerCaller{ID: 1, Err: broken}, runJanitor{reasonLinkLost}}, m.cleaned(broken))
	assert.Equal(t, []orchestratorEffect{answerCaller{ID: 2}}, m.cleaned(nil))
	assert.Empty(t, m.cleaned(nil))
}

func TestARebalanceStartsWhileTheJanitorRuns(t *testing.T) {
	m := newOrchestratorMachine()
	m.clean(1, reasonDemand)
	m.clean(2, reasonDemand)
	assert.Equal(t, []orchestratorEffect{startRebalance{"r1"}, answerCaller{ID: 3}, answerCaller{ID: 2, Err: ErrRebalanceRunning}},
		starting(m, 3, "r1"))
	assert.Equal(t, []orchestratorEffect{answerCaller{ID: 1}}, m.cleaned(nil), "and does not run again")
}

// TestEveryCallerIsAnsweredOnce runs random histories to their end.
func TestEveryCallerIsAnsweredOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newOrchestratorMachine()
		open := map[int]bool{}
		running, cleaning := "", false
		perform := func(effects []orchestratorEffect) {
			for _, effect := range effects {
				switch e := effect.(type) {
				case startRebalance:
					require.Empty(t, running)
					running = e.Run
				case runJanitor:
					require.False(t, cleaning)
					require.Empty(t, running)
					cleaning = true
				case answerCaller:
					require.True(t, open[e.ID])
					delete(open, e.ID)
				}
			}
		}
		end := func() {
			run := running
			running = ""
			perform(m.ended(run, rapid.SampledFrom([]Outcome{Complete, Stopped, Failed}).Draw(t, "outcome")))
		}
		cleaned := func() {
			cleaning = false
			perform(m.cleaned(nil))
		}
		for id := 1; id <= 40; id++ {
			switch rapid.IntRange(0, 5).Draw(t, "event") {
			case 0:
				open[id] = true
				perform(starting(m, id, "r"+string(rune('0'+id))))
			case 1:
				open[id] = true
				perform(m.stop(id, running))
			case 2:
				open[id] = true
				perform(m.clean(id, reasonDemand))
			case 3:
				perform(m.clean(0, rapid.SampledFrom([]string{reasonPeriodic, reasonLinkLost}).Draw(t, "reason")))
			case 4:
				if running != "" {
					end()
				}
			case 5:
				if cleaning {
					cleaned()
				}
			}
		}
		for running != "" || cleaning {
			if running != "" {
				end()
			}
			if cleaning {
				cleaned()
			}
		}
		require.Empty(t, open)
	})
}
