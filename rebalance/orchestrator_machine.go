package rebalance

import "slices"

// State is what the orchestrator is doing.
type State string

// The states. The janitor runs by itself only in [Idle].
const (
	Idle        State = "idle"
	Rebalancing State = "rebalancing"
	// Paused is a rebalance that begins no moves until it is resumed.
	Paused State = "paused"
	// Stopping is a rebalance that was asked to stop and has not ended.
	Stopping State = "stopping"
	// FailingOver is a failover that has begun. It cannot be stopped.
	FailingOver State = "failing over"
	// ChangingMembers is a change of members that must not meet anything else.
	ChangingMembers State = "changing members"
)

// orchestratorMachine decides what the orchestrator does next: one rebalance, failover or change of members at a time, the
// janitor only between two (rebalance.md §9.1; orchestrator_machine_operations.go has the failovers and changes).
// It has no goroutine, clock or logger.
type orchestratorMachine struct {
	state State
	// run is the rebalance that is not over.
	run string

	cleaning bool
	// cleaningFor are the requests that the janitor's current run answers; nextFor those that came too late for it.
	cleaningFor, nextFor []int
	// again says that the janitor has to run once more, and why.
	again string

	// operation is the failover, or the change of members, that is under way, begun as soon as the janitor is out of its way.
	operation operation
	begun     bool
	// waiting is the failover that begins when what is under way has ended; its ID is 0 if there is none.
	waiting operation
}

// orchestratorEffect is something that an [orchestratorMachine] wants done.
type orchestratorEffect interface{ isOrchestratorEffect() }

type (
	// startRebalance begins the rebalance. Its end comes back by orchestratorMachine.ended.
	startRebalance struct{ Run string }
	// stopRebalance asks it to stop and arms the timer after which orchestratorMachine.stopOverdue is called.
	stopRebalance struct{ Run string }
	// killRebalance ends it whatever it is doing.
	killRebalance struct{ Run string }
	// runJanitor begins a run. Its end comes back by orchestratorMachine.cleaned.
	runJanitor struct{ Reason string }
	// answerCaller answers a request; callers of the janitor get the report of the run that has just ended.
	answerCaller struct {
		ID  int
		Err error
	}
)

func (startRebalance) isOrchestratorEffect() {}
func (stopRebalance) isOrchestratorEffect()  {}
func (killRebalance) isOrchestratorEffect()  {}
func (runJanitor) isOrchestratorEffect()     {}
func (answerCaller) isOrchestratorEffect()   {}

// Why the janitor runs.
const (
	reasonDemand   = "demand"
	reasonPeriodic = "periodic"
	reasonFailed   = "rebalance failed"
	reasonStopped  = "rebalance stopped"
	reasonAborted  = "moves aborted"
	reasonLinkLost = "link lost"
	reasonStart    = "start"
	reasonCreated  = "bucket created"
	reasonFailover = "failover"
	reasonMembers  = "members changed"
)

func newOrchestratorMachine() *orchestratorMachine { return &orchestratorMachine{state: Idle} }

// start takes the request for a rebalance, and reports whether it is accepted. One that comes while the janitor runs is: the
// rebalance's own first step waits for the janitor.
func (m *orchestratorMachine) start(caller int, run string) (effects []orchestratorEffect, accepted bool) {
	if m.state != Idle {
		return []orchestratorEffect{answerCaller{ID: caller, Err: m.busy()}}, false
	}
	m.state, m.run, m.again = Rebalancing, run, ""
	effects = []orchestratorEffect{startRebalance{run}, answerCaller{ID: caller}}
	for _, late := range m.nextFor {
		effects = append(effects, answerCaller{ID: late, Err: ErrRebalanceRunning})
	}
	m.nextFor = nil
	return effects, true
}

// stop takes the request to stop a rebalance. One that has ended already is stopped.
func (m *orchestratorMachine) stop(caller int, run string) []orchestratorEffect {
	effects := []orchestratorEffect{answerCaller{ID: caller}}
	if m.moving() && m.run == run {
		m.state = Stopping
		effects = append(effects, stopRebalance{run})
	}
	return effects
}

// stopOverdue ends the patience with a rebalance that was asked to stop.
func (m *orchestratorMachine) stopOverdue(run string) []orchestratorEffect {
	if m.state == Stopping && m.run == run {
		return []orchestratorEffect{killRebalance{run}}
	}
	return nil
}

// ended takes the end of the rebalance.
func (m *orchestratorMachine) ended(run string, outcome Outcome) []orchestratorEffect {
	if m.state == Idle || m.run != run {
		return nil
	}
	if m.operation.ID != 0 && m.operation.Run == run {
		return m.operationEnded(m.operation.ID) // a graceful failover is at its end
	}
	m.state, m.run = Idle, ""
	if m.waiting.ID != 0 {
		return m.beginWaiting()
	}
	switch outcome {
	case Failed:
		return m.clean(0, reasonFailed)
	case Stopped:
		return m.clean(0, reasonStopped)
	case Partial:
		return m.clean(0, reasonAborted)
	}
	return m.next()
}

// busy is why something is refused that only goes on by itself; nil in [Idle].
func (m *orchestratorMachine) busy() error {
	switch m.state {
	case Idle:
		return nil
	case FailingOver:
		return ErrFailoverRunning
	case ChangingMembers:
		return ErrMembersChanging
	}
	return ErrRebalanceRunning
}

// clean takes a reason for the janitor to run; caller is 0 if nobody waits. Reasons that come while it runs make it run
// once more, however many they are: what they are about may have changed behind its back.
func (m *orchestratorMachine) clean(caller int, reason string) []orchestratorEffect {
	if m.state != Idle {
		if caller == 0 {
			return nil
		}
		return []orchestratorEffect{answerCaller{ID: caller, Err: m.busy()}}
	}
	if caller != 0 {
		m.nextFor = append(m.nextFor, caller)
	}
	if m.cleaning && reason == reasonPeriodic {
		return nil
	}
	m.again = reason
	return m.next()
}

// cleaned takes the end of a janitor run.
func (m *orchestratorMachine) cleaned(err error) (effects []orchestratorEffect) {
	for _, caller := range m.cleaningFor {
		effects = append(effects, answerCaller{ID: caller, Err: err})
	}
	m.cleaning, m.cleaningFor = false, nil
	return append(effects, m.next()...)
}

func (m *orchestratorMachine) next() []orchestratorEffect {
	if m.state != Idle || m.cleaning || m.again == "" {
		return nil
	}
	reason := m.again
	m.cleaning, m.again = true, ""
	m.cleaningFor, m.nextFor = slices.Clone(m.nextFor), nil
	return []orchestratorEffect{runJanitor{reason}}
}
