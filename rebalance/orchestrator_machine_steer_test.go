package rebalance

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

func TestAPausedRebalanceIsTheOneThatRuns(t *testing.T) {
	m := newOrchestratorMachine()
	refused := func(caller int) []orchestratorEffect {
		return []orchestratorEffect{answerCaller{ID: caller, Err: ErrNotRunning}}
	}
	assert.Equal(t, refused(1), m.steer(1, "r1", pauseMoves{true}), "nothing runs")
	m.start(2, "r1")
	assert.Equal(t, refused(3), m.steer(3, "r0", pauseMoves{true}), "another one")
	assert.Equal(t, []orchestratorEffect{steerRebalance{4, pauseMoves{true}}}, m.steer(4, "r1", pauseMoves{true}))
	assert.Equal(t, Paused, m.state)
	assert.Equal(t, []orchestratorEffect{steerRebalance{5, pauseMoves{true}}}, m.steer(5, "r1", pauseMoves{true}), "once more")
	assert.Equal(t, Paused, m.state)
	assert.Equal(t, []orchestratorEffect{answerCaller{ID: 6, Err: ErrRebalanceRunning}}, starting(m, 6, "r2"))
	assert.Equal(t, []orchestratorEffect{answerCaller{ID: 7, Err: ErrRebalanceRunning}}, m.clean(7, reasonDemand))
	assert.Empty(t, m.clean(0, reasonPeriodic))
	assert.Equal(t, []orchestratorEffect{steerRebalance{8, abortMove{"orders", 3}}}, m.steer(8, "r1", abortMove{"orders", 3}))
	assert.Equal(t, Paused, m.state, "an abort resumes nothing")
	assert.Equal(t, []orchestratorEffect{steerRebalance{9, pauseMoves{}}}, m.steer(9, "r1", pauseMoves{}))
	assert.Equal(t, Rebalancing, m.state)

	m.steer(10, "r1", pauseMoves{true})
	assert.Equal(t, []orchestratorEffect{answerCaller{ID: 11}, stopRebalance{"r1"}}, m.stop(11, "r1"), "it can be stopped")
	assert.Equal(t, refused(12), m.steer(12, "r1", pauseMoves{}))
	assert.Equal(t, Stopping, m.state)
	m.ended("r1", Stopped)
	assert.Equal(t, Idle, m.state)
	m.cleaned(nil)

	m.start(13, "r2")
	m.steer(14, "r2", pauseMoves{true})
	assert.Equal(t, []orchestratorEffect{runJanitor{reasonFailed}}, m.ended("r2", Failed), "a pause does not outlive its rebalance")
	assert.Equal(t, Idle, m.state)
	m.start(15, "r3")
	assert.Equal(t, Rebalancing, m.state)
}

// A failover waits for nobody, least of all for somebody to resume a rebalance.
func TestAFailoverStopsAPausedRebalance(t *testing.T) {
	m := newOrchestratorMachine()
	m.start(1, "r1")
	m.steer(2, "r1", pauseMoves{true})
	assert.Equal(t, []orchestratorEffect{stopRebalance{"r1"}}, m.failover(3))
	assert.Equal(t, Stopping, m.state)
	assert.Equal(t, []orchestratorEffect{interruptJanitor{}}, m.ended("r1", Stopped))

	m = newOrchestratorMachine()
	m.start(1, "r1")
	m.steer(2, "r1", pauseMoves{true})
	_, begun := m.giveUp(3, "r1")
	assert.True(t, begun, "all moves of a graceful failover were under way when it was paused")
}

// Whatever is asked for: every caller is answered once, or the order is passed on to the one rebalance that runs.
func TestEveryCallerOfASteeredRebalanceIsAnswered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, caller, running, stopping := newOrchestratorMachine(), 0, "", false
		answered := map[int]int{}
		perform := func(effects []orchestratorEffect) {
			for _, effect := range effects {
				switch e := effect.(type) {
				case answerCaller:
					answered[e.ID]++
				case steerRebalance:
					answered[e.ID]++
					assert.NotEmpty(t, running)
					assert.False(t, stopping)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"start": func(*rapid.T) {
				caller++
				if running == "" {
					running, stopping = "r", false
				}
				perform(starting(m, caller, "r"))
			},
			"steer": func(t *rapid.T) {
				caller++
				perform(m.steer(caller, "r", pauseMoves{rapid.Bool().Draw(t, "paused")}))
			},
			"stop": func(*rapid.T) {
				caller++
				stopping = true
				perform(m.stop(caller, "r"))
			},
			"ended": func(*rapid.T) {
				running = ""
				perform(m.ended("r", Complete))
				perform(m.cleaned(nil))
			},
			"": func(t *rapid.T) {
				for id := 1; id <= caller; id++ {
					assert.Equal(t, 1, answered[id], "caller %d", id)
				}
				assert.Equal(t, running != "", m.state != Idle)
			},
		})
	})
}
