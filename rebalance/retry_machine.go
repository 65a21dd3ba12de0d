package rebalance

import "time"

// retryMachine decides whether and when a rebalance that failed is started again (rebalance.md §10): after a pause, and only
// if the cluster still is what it was when it failed. One waits at a time. It has no goroutine, clock or logger.
type retryMachine struct {
	config RetryConfig
	state  RetryState
	// wanted is what is started again, run the one of its runs that is under way.
	wanted retryOperation
	run    string
	// timer numbers the pauses: one that was overtaken means nothing.
	timer int
	// checking says that the state of the cluster is being read, to be put down with the failure, or to be compared with it.
	checking retryChecking
}

// retryOperation is a rebalance that is to be started again.
type retryOperation struct {
	// First is the rebalance that failed first, Attempts how often it was started again.
	First    string
	Attempts int
	Request  Request
	Type     RebalanceType
	Check    retryCheck
}

// retryCheck is what of a cluster must not change between a failure and the next try, as text.
type retryCheck struct {
	// Failed are the members that were failed over; Groups the server groups of the nodes that stay; Buckets names, UUIDs and
	// numbers of replicas of all buckets. Members are all that are known; only for a graceful failover.
	Failed, Groups, Buckets, Members string
}

type retryChecking uint8

const (
	notChecking retryChecking = iota
	checkingFailure
	checkingRetry
)

// retryEffect is something that a [retryMachine] wants done.
type retryEffect interface{ isRetryEffect() }

type (
	// readRetryCheck reads the state of the cluster. It comes back by retryMachine.checked.
	readRetryCheck struct{ Request Request }
	// armRetry calls retryMachine.due after the pause.
	armRetry struct {
		After time.Duration
		Timer int
	}
	// startRetry starts the rebalance again. What becomes of it comes back by retryMachine.started or refused.
	startRetry struct{ Operation retryOperation }
	// retryGivenUp tells that there will be no further try.
	retryGivenUp struct {
		First string
		Why   string
	}
)

func (readRetryCheck) isRetryEffect() {}
func (armRetry) isRetryEffect()       {}
func (startRetry) isRetryEffect()     {}
func (retryGivenUp) isRetryEffect()   {}

// Why there is no further try.
const (
	retryExhausted = "exhausted"
	retryCancelled = "cancelled"
	retryChanged   = "the cluster has changed"
	retryUnknown   = "the state of the cluster could not be read"
	retryRefused   = "refused"
)

func newRetryMachine(config RetryConfig) *retryMachine {
	return &retryMachine{config: config, state: RetryNotPending}
}

// ended takes the end of a rebalance.
func (m *retryMachine) ended(run string, outcome Outcome, request Request, kind RebalanceType) []retryEffect {
	mine := m.state == RetryInProgress && run == m.run
	if outcome != Failed || request.Plan != nil || !m.config.Enabled {
		if mine {
			m.forget()
		}
		return nil
	}
	if !mine {
		effects := m.cancel()
		m.wanted = retryOperation{First: run, Request: request, Type: kind}
		m.checking = checkingFailure
		return append(effects, readRetryCheck{request})
	}
	if m.wanted.Attempts >= m.config.MaxAttempts {
		return m.giveUp(retryExhausted)
	}
	return m.pause()
}

func (m *retryMachine) pause() []retryEffect {
	m.timer++
	m.state, m.run = RetryPending, ""
	return []retryEffect{armRetry{After: m.config.After, Timer: m.timer}}
}

// checked takes the state of the cluster: that in which the rebalance failed, or that in which it is to be tried again.
func (m *retryMachine) checked(check retryCheck, err error) []retryEffect {
	checking := m.checking
	m.checking = notChecking
	switch {
	case checking == notChecking:
		return nil
	case err != nil:
		return m.giveUp(retryUnknown)
	case checking == checkingFailure:
		m.wanted.Check = check
		return m.pause()
	case check != m.wanted.Check:
		return m.giveUp(retryChanged)
	}
	m.wanted.Attempts++
	return []retryEffect{startRetry{m.wanted}}
}

// due takes the end of a pause.
func (m *retryMachine) due(timer int) []retryEffect {
	if m.state != RetryPending || timer != m.timer || m.checking != notChecking {
		return nil
	}
	m.checking = checkingRetry
	return []retryEffect{readRetryCheck{m.wanted.Request}}
}

// retrying says that the wanted rebalance was started again as this run.
func (m *retryMachine) retrying(run string) { m.state, m.run = RetryInProgress, run }

// refused says that it could not be started again.
func (m *retryMachine) refused() []retryEffect { return m.giveUp(retryRefused) }

// started takes the start of another rebalance, or of a failover: what was to be tried again is overtaken.
func (m *retryMachine) started(run string) []retryEffect {
	if m.state == RetryInProgress && run == m.run {
		return nil
	}
	return m.cancel()
}

// cancel gives up what waits. A run that is under way goes on, but is not tried again.
func (m *retryMachine) cancel() []retryEffect {
	if m.state == RetryNotPending && m.checking == notChecking {
		return nil
	}
	return m.giveUp(retryCancelled)
}

func (m *retryMachine) giveUp(why string) []retryEffect {
	first := m.wanted.First
	m.forget()
	return []retryEffect{retryGivenUp{First: first, Why: why}}
}

func (m *retryMachine) forget() {
	m.timer++
	m.state, m.run, m.wanted, m.checking = RetryNotPending, "", retryOperation{}, notChecking
}

// pending tells what waits, nil if nothing does. When it is due the orchestrator knows.
func (m *retryMachine) pending() *PendingRetry {
	if m.state == RetryNotPending {
		return nil
	}
	return &PendingRetry{
		State: m.state, RebalanceID: m.wanted.First, Type: m.wanted.Type,
		AttemptsRemaining: m.config.MaxAttempts - m.wanted.Attempts,
		Keep:              m.wanted.Request.Keep, Buckets: m.wanted.Request.Buckets, Nodes: m.wanted.Request.giveUp,
	}
}
