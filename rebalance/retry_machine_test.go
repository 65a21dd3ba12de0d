package rebalance

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The table of rebalance.md §10: each row is a state, what happens in it, and what is done.
func TestRetryTable(t *testing.T) {
	config := RetryConfig{Enabled: true, After: time.Minute, MaxAttempts: 2}
	request := Request{Keep: []string{"n0", "n1"}}
	check := retryCheck{Buckets: "orders u1 1"}
	idle := func(*retryMachine) {}
	pending := func(m *retryMachine) {
		m.ended("r1", Failed, request, NormalRebalance)
		m.checked(check, nil)
	}
	running := func(m *retryMachine) {
		pending(m)
		m.due(m.timer)
		m.checked(check, nil)
		m.retrying("r2")
	}
	last := func(m *retryMachine) { // the last attempt runs
		running(m)
		m.ended("r2", Failed, request, NormalRebalance)
		m.due(m.timer)
		m.checked(check, nil)
		m.retrying("r3")
	}
	wanted := func(attempts int) retryOperation {
		return retryOperation{First: "r1", Attempts: attempts, Request: request, Type: NormalRebalance, Check: check}
	}
	for name, row := range map[string]struct {
		given func(*retryMachine)
		event func(*retryMachine) []retryEffect
		want  []retryEffect
		state RetryState
	}{
		"idle, failed: what the cluster is like is put down": {
			idle,
			func(m *retryMachine) []retryEffect { return m.ended("r1", Failed, request, NormalRebalance) },
			[]retryEffect{readRetryCheck{request}},
			RetryNotPending,
		},
		"idle, failed and put down: a pause": {
			func(m *retryMachine) { m.ended("r1", Failed, request, NormalRebalance) },
			func(m *retryMachine) []retryEffect { return m.checked(check, nil) },
			[]retryEffect{armRetry{After: time.Minute, Timer: 1}},
			RetryPending,
		},
		"idle, failed and not to be read: given up": {
			func(m *retryMachine) { m.ended("r1", Failed, request, NormalRebalance) },
			func(m *retryMachine) []retryEffect { return m.checked(retryCheck{}, errors.New("store")) },
			[]retryEffect{retryGivenUp{"r1", retryUnknown}},
			RetryNotPending,
		},
		"idle, complete": {
			idle,
			func(m *retryMachine) []retryEffect { return m.ended("r1", Complete, request, NormalRebalance) },
			nil,
			RetryNotPending,
		},
		"idle, stopped": {
			idle,
			func(m *retryMachine) []retryEffect { return m.ended("r1", Stopped, request, NormalRebalance) },
			nil,
			RetryNotPending,
		},
		"idle, a plan failed": {
			idle,
			func(m *retryMachine) []retryEffect {
				return m.ended("r1", Failed, Request{Plan: &Plan{}}, NormalRebalance)
			},
			nil,
			RetryNotPending,
		},
		"idle, nothing to cancel": {
			idle,
			(*retryMachine).cancel,
			nil,
			RetryNotPending,
		},
		"pending, due: the cluster is looked at": {
			pending,
			func(m *retryMachine) []retryEffect { return m.due(m.timer) },
			[]retryEffect{readRetryCheck{request}},
			RetryPending,
		},
		"pending, due and unchanged: started": {
			func(m *retryMachine) { pending(m); m.due(m.timer) },
			func(m *retryMachine) []retryEffect { return m.checked(check, nil) },
			[]retryEffect{startRetry{wanted(1)}},
			RetryPending,
		},
		"pending, due and changed: given up": {
			func(m *retryMachine) { pending(m); m.due(m.timer) },
			func(m *retryMachine) []retryEffect { return m.checked(retryCheck{Buckets: "orders u2 1"}, nil) },
			[]retryEffect{retryGivenUp{"r1", retryChanged}},
			RetryNotPending,
		},
		"pending, due and refused: given up": {
			func(m *retryMachine) { pending(m); m.due(m.timer); m.checked(check, nil) },
			(*retryMachine).refused,
			[]retryEffect{retryGivenUp{"r1", retryRefused}},
			RetryNotPending,
		},
		"pending, a pause that was overtaken": {
			pending,
			func(m *retryMachine) []retryEffect { return m.due(m.timer - 1) },
			nil,
			RetryPending,
		},
		"pending, cancelled": {
			pending,
			(*retryMachine).cancel,
			[]retryEffect{retryGivenUp{"r1", retryCancelled}},
			RetryNotPending,
		},
		"pending, somebody starts a rebalance or a failover": {
			pending,
			func(m *retryMachine) []retryEffect { return m.started("r9") },
			[]retryEffect{retryGivenUp{"r1", retryCancelled}},
			RetryNotPending,
		},
		"pending, another one failed: that one": {
			pending,
			func(m *retryMachine) []retryEffect { return m.ended("r9", Failed, request, NormalRebalance) },
			[]retryEffect{retryGivenUp{"r1", retryCancelled}, readRetryCheck{request}},
			RetryNotPending,
		},
		"cancelled while it is looked at: nothing comes of it": {
			func(m *retryMachine) { pending(m); m.due(m.timer); m.cancel() },
			func(m *retryMachine) []retryEffect { return m.checked(check, nil) },
			nil,
			RetryNotPending,
		},
		"in progress, its own start": {
			running,
			func(m *retryMachine) []retryEffect { return m.started("r2") },
			nil,
			RetryInProgress,
		},
		"in progress, failed: another pause": {
			running,
			func(m *retryMachine) []retryEffect { return m.ended("r2", Failed, request, NormalRebalance) },
			[]retryEffect{armRetry{After: time.Minute, Timer: 2}},
			RetryPending,
		},
		"in progress, failed for the last time: exhausted": {
			last,
			func(m *retryMachine) []retryEffect { return m.ended("r3", Failed, request, NormalRebalance) },
			[]retryEffect{retryGivenUp{"r1", retryExhausted}},
			RetryNotPending,
		},
		"in progress, complete": {
			running,
			func(m *retryMachine) []retryEffect { return m.ended("r2", Complete, request, NormalRebalance) },
			nil,
			RetryNotPending,
		},
		"in progress, stopped": {
			running,
			func(m *retryMachine) []retryEffect { return m.ended("r2", Stopped, request, NormalRebalance) },
			nil,
			RetryNotPending,
		},
		"in progress, cancelled: it goes on": {
			running,
			(*retryMachine).cancel,
			[]retryEffect{retryGivenUp{"r1", retryCancelled}},
			RetryNotPending,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newRetryMachine(config)
			row.given(m)
			assert.Equal(t, row.want, row.event(m))
			assert.Equal(t, row.state, m.state)
			if row.state == RetryNotPending {
				assert.Nil(t, m.pending())
			}
		})
	}
}

func TestRetryIsOffByDefault(t *testing.T) {
	m := newRetryMachine(RetryConfig{})
	assert.Empty(t, m.ended("r1", Failed, Request{}, NormalRebalance))
	assert.Nil(t, m.pending())
	c, err := RetryConfig{}.validate()
	require.NoError(t, err)
	assert.Equal(t, RetryConfig{After: 5 * time.Minute, MaxAttempts: 1}, c)
}

func TestRetryConfigIsChecked(t *testing.T) {
	for want, config := range map[string]RetryConfig{
		"rebalance: Config.Retry.After is 4s, must be 5 s to 1 h":     {After: 4 * time.Second},
		"rebalance: Config.Retry.After is 1h0m1s, must be 5 s to 1 h": {After: time.Hour + time.Second},
		"rebalance: Config.Retry.MaxAttempts is 4, must be 1 to 3":    {MaxAttempts: 4},
		"rebalance: Config.Retry.MaxAttempts is -1, must be 1 to 3":   {MaxAttempts: -1},
		"rebalance: Config.Retry.After is -1m0s, must be 5 s to 1 h":  {After: -time.Minute},
	} {
		_, err := Config{Nodes: []Node{fakeNodeNamed(0)}, Retry: config}.validate()
		require.EqualError(t, err, want)
	}
}
