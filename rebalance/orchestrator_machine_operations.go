package rebalance

// A failover comes before everything else: it stops a rebalance, and interrupts the janitor, which may be waiting for the
// very nodes that are given up (history 26). A change of members only happens when nothing else does.

// operation is a failover or a change of members; the ID is its caller's.
type operation struct {
	ID    int
	State State // FailingOver or ChangingMembers
	// Run is the graceful failover that this one completes, empty for any other.
	Run string
}

type (
	// interruptJanitor ends a run of the janitor that is under way. What follows comes back by
	// orchestratorMachine.janitorInterrupted, also if there is none.
	interruptJanitor struct{}
	// startOperation begins a failover, or a change of members, and answers its caller when it ends; that comes back by
	// orchestratorMachine.operationEnded.
	startOperation struct{ Operation operation }
)

func (interruptJanitor) isOrchestratorEffect() {}
func (startOperation) isOrchestratorEffect()   {}

// failover takes the request for a failover. There is one at a time.
func (m *orchestratorMachine) failover(caller int) []orchestratorEffect {
	wanted := operation{ID: caller, State: FailingOver}
	if m.state == FailingOver || m.waiting.ID != 0 {
		return []orchestratorEffect{answerCaller{ID: caller, Err: ErrFailoverRunning}}
	}
	if m.state == Idle {
		return m.begin(wanted)
	}
	m.waiting = wanted
	if !m.moving() {
		return nil
	}
	m.state = Stopping
	return []orchestratorEffect{stopRebalance{m.run}}
}

// giveUp takes the end of a graceful failover's rebalance: its nodes hold only replicas now, and are failed over. It reports
// false if the rebalance was asked to stop meanwhile, and has ended for good.
func (m *orchestratorMachine) giveUp(caller int, run string) ([]orchestratorEffect, bool) {
	if !m.moving() || m.run != run {
		return nil, false
	}
	return m.begin(operation{ID: caller, State: FailingOver, Run: run}), true
}

// change takes the request for a change of members.
func (m *orchestratorMachine) change(caller int) []orchestratorEffect {
	if m.state != Idle {
		return []orchestratorEffect{answerCaller{ID: caller, Err: m.busy()}}
	}
	return m.begin(operation{ID: caller, State: ChangingMembers})
}

// begin gets the janitor out of the way. Who waits for it waits for the next run, which comes afterwards.
func (m *orchestratorMachine) begin(o operation) []orchestratorEffect {
	m.state, m.operation = o.State, o
	if m.cleaning {
		m.nextFor = append(m.cleaningFor, m.nextFor...)
		m.cleaningFor = nil
	}
	m.again = reasonFailover
	if o.State == ChangingMembers {
		m.again = reasonMembers
	}
	return []orchestratorEffect{interruptJanitor{}}
}

func (m *orchestratorMachine) beginWaiting() []orchestratorEffect {
	o := m.waiting
	m.waiting = operation{}
	return m.begin(o)
}

// janitorInterrupted says that nothing of the janitor is under way.
func (m *orchestratorMachine) janitorInterrupted() []orchestratorEffect {
	if m.operation.ID == 0 || m.begun {
		return nil
	}
	m.begun = true
	return []orchestratorEffect{startOperation{m.operation}}
}

// operationEnded takes the end of a failover or of a change.
func (m *orchestratorMachine) operationEnded(id int) []orchestratorEffect {
	if m.operation.ID == 0 || m.operation.ID != id {
		return nil
	}
	m.state, m.run, m.operation, m.begun = Idle, "", operation{}, false
	if m.waiting.ID != 0 {
		return m.beginWaiting()
	}
	return m.next()
}
