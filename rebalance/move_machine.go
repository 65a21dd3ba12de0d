package rebalance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// moveMachine decides the move of one vbucket (rebalance.md §4, design §6). It takes events (begin, answered, fired,
// streamEnded, stop) and returns what to do about them, in order. It has no goroutine, clock or logger; the move
// process around it performs the effects. After a [moveFinished] it returns nothing any more.
//
// A move never undoes anything: what a failed one leaves behind is the janitor's.
type moveMachine struct {
	plan   movePlan
	stamp  stamp
	limits MoveLimits

	steps []Step
	at    int // index of the current step; len(steps) when finished

	lastID  int
	pending map[int]ask
	probes  map[int]string
	watches []*backfillWatch
	seqnos  map[string]seqnoAnswer // last answers to probes, by node
	lost    map[string]*StreamLost // streams that ended before their set-up was answered, by consumer
	left    []*NodeError
	over    bool

	// verification is what is compared in StepVerify: found are the answers of a round, floor the active's seqno in the first.
	verification Verification
	round        int
	found        map[string]digestAnswer
	floor        uint64

	// aborted says that the steps lead back; abortedAt is where they turned.
	aborted   bool
	abortedAt Step
}

// ask is a request that has not been answered. The zero node stands for the commit of the chain.
type ask struct {
	node    string
	request agentRequest
}

// String says who is waited for, and for what.
func (a ask) String() string {
	if a.request == nil {
		return "the store: commit of the chain"
	}
	return a.node + ": " + a.request.String()
}

// probePause lies between two looks at the seqnos that show the progress of a long wait.
const probePause = 5 * time.Second

func newMoveMachine(plan movePlan, epoch stamp, limits MoveLimits) *moveMachine {
	m := &moveMachine{
		plan: plan, stamp: epoch, limits: limits.withDefaults(), at: -1,
		pending: map[int]ask{}, probes: map[int]string{}, seqnos: map[string]seqnoAnswer{}, lost: map[string]*StreamLost{},
	}
	build := []Step{StepReplica, StepStream, StepBackfill, StepPersist, StepTopology, StepBarrier}
	switch {
	case plan.fromNothing():
		m.steps = []Step{StepActivate, StepCommit, StepState, StepOpen}
	case plan.movesActive():
		m.steps = append(build, StepTakeover, StepActivate, StepCommit, StepClose, StepState, StepOpen, StepDelete)
	default:
		m.steps = append(build, StepCommit, StepActivate, StepClose, StepOpen, StepDelete)
	}
	return m
}

// step is the current one; empty before the first and after the last.
func (m *moveMachine) step() Step {
	if m.at < 0 || m.at >= len(m.steps) {
		return ""
	}
	return m.steps[m.at]
}

// begin starts the move. It is called once.
func (m *moveMachine) begin() []moveEffect { return m.advance() }

// advance goes to the next step that has something to do.
func (m *moveMachine) advance() (effects []moveEffect) {
	for {
		if m.step() == StepPersist {
			effects = append(effects, moveBackfillDone{})
		}
		m.at++
		clear(m.seqnos)
		if m.at >= len(m.steps) {
			m.over = true
			if m.aborted {
				return append(effects, m.finishAborted())
			}
			return append(effects, moveFinished{Leftovers: m.left})
		}
		if asks := m.enter(); len(asks) > 0 {
			effects = append(effects, moveStep{m.step()}, m.watchdog())
			if m.probed() {
				effects = append(effects, m.timer(timerProbe, "", probePause))
			}
			return append(effects, asks...)
		}
	}
}

// enter gives the requests that the current step begins with.
func (m *moveMachine) enter() (asks []moveEffect) {
	p := m.plan
	each := func(nodes vbmap.Chain, r agentRequest) []moveEffect {
		for _, node := range nodes {
			asks = append(asks, m.ask(node, r))
		}
		return asks
	}
	stream := func(from string) setStream { return setStream{stamp: m.stamp, VB: p.VB, Producer: from} }
	replica := setState{stamp: m.stamp, VB: p.VB, State: mcbp.VBucketReplica}
	active := func(chains ...vbmap.Chain) setState {
		s := setState{stamp: m.stamp, VB: p.VB, State: mcbp.VBucketActive}
		for _, chain := range chains {
			s.Topology = append(s.Topology, chain)
		}
		return s
	}
	switch m.step() {
	case StepReplica:
		return each(p.Build, replica)
	case StepStream:
		return each(p.Build, stream(p.From))
	case StepBackfill:
		for _, node := range p.Build {
			m.watches = append(m.watches, &backfillWatch{consumer: node})
			asks = append(asks, m.askEstimate(node))
		}
		return asks
	case StepPersist, StepBarrier:
		if len(p.Build) > 0 {
			asks = append(asks, m.ask(p.From, readSeqno{VB: p.VB}))
		}
		return asks
	case StepVerify:
		return m.verifyRound()
	case StepTopology:
		return each(vbmap.Chain{p.From}, active(p.Old, p.New))
	case StepTakeover:
		return each(vbmap.Chain{p.To}, takeover{stamp: m.stamp, VB: p.VB, Producer: p.From})
	case StepActivate:
		return each(vbmap.Chain{p.To}, active(p.New))
	case StepCommit:
		m.lastID++
		m.pending[m.lastID] = ask{}
		return []moveEffect{moveCommit{ID: m.lastID}}
	case StepClose:
		return each(p.Fed, stream(""))
	case StepState:
		if p.fromNothing() {
			return each(p.Follow, replica)
		}
		if slices.Contains(p.Follow, p.From) {
			return each(vbmap.Chain{p.From}, replica)
		}
		return nil
	case StepOpen:
		// Nobody's: from now on the replications look after them. Streams that are live stay as they are.
		return each(p.Follow, setStream{stamp: stamp{Epoch: m.stamp.Epoch}, VB: p.VB, Producer: p.To})
	case StepDelete:
		return each(p.Drop, deleteCopy{stamp: m.stamp, VB: p.VB})
	}
	return m.enterUndo()
}

func (m *moveMachine) ask(node string, r agentRequest) moveEffect {
	m.lastID++
	m.pending[m.lastID] = ask{node, r}
	return moveAsk{ID: m.lastID, Node: node, Request: r}
}

func (m *moveMachine) askEstimate(consumer string) moveEffect {
	return m.ask(m.plan.From, readEstimate{VB: m.plan.VB, Consumer: consumer})
}

// answered takes the answer to an effect with an ID. Answers to what is no longer waited for are ignored.
func (m *moveMachine) answered(id int, value any, err error) []moveEffect {
	if node, ok := m.probes[id]; ok {
		delete(m.probes, id)
		return m.probeAnswered(node, value, err)
	}
	a, ok := m.pending[id]
	if !ok || m.over {
		return nil
	}
	delete(m.pending, id)
	switch {
	case err == nil:
	case m.step() == StepDelete:
		m.leave(a, err)
	case errors.Is(err, context.DeadlineExceeded):
		return m.fail(&StepUnanswered{VB: m.plan.VB, Step: m.step(), WaitedFor: a.String(), Err: err})
	default:
		return m.fail(atNode(a.node, err))
	}
	if lost := m.lost[a.node]; lost != nil && m.step() == StepStream {
		return m.fail(lost)
	}
	more, progressed, err := m.digest(a, value)
	if err != nil {
		return m.fail(err)
	}
	if len(m.pending) == 0 && len(more) == 0 {
		return m.advance()
	}
	if progressed {
		more = append(more, m.watchdog())
	}
	return more
}

// digest takes a good answer and gives what the step does next, nothing if a has no sequel.
func (m *moveMachine) digest(a ask, value any) (more []moveEffect, progressed bool, err error) {
	switch r := a.request.(type) {
	case readEstimate:
		estimate, ok := value.(estimateAnswer)
		if !ok {
			return nil, false, atNode(a.node, errWrongAnswer)
		}
		w := m.watch(r.Consumer)
		progressed, err = w.observe(m.plan.From, estimate, m.limits)
		if err != nil {
			return nil, false, err
		}
		if !w.done {
			return []moveEffect{m.timer(timerPoll, r.Consumer, w.next())}, progressed, nil
		}
		return m.stillPolling(), false, nil
	case readSeqno:
		seqnos, ok := value.(seqnoAnswer)
		if !ok {
			return nil, false, atNode(a.node, errWrongAnswer)
		}
		for _, node := range m.plan.Build {
			more = append(more, m.ask(node, awaitPersisted{VB: m.plan.VB, Seqno: seqnos.High}))
		}
		return more, true, nil
	case readDigest:
		answer, ok := value.(digestAnswer)
		if !ok {
			return nil, false, atNode(a.node, errWrongAnswer)
		}
		more, err = m.verifyAnswered(a.node, answer)
		return more, true, err
	case awaitPersisted:
		if answer, ok := value.(persistedAnswer); ok && answer.Again {
			more = append(more, m.ask(a.node, r))
		}
		return more, true, nil
	}
	return nil, true, nil
}

// stillPolling keeps the step open while any consumer's next question is only a timer.
func (m *moveMachine) stillPolling() []moveEffect {
	for _, w := range m.watches {
		if !w.done {
			return []moveEffect{m.watchdog()}
		}
	}
	return nil
}

func (m *moveMachine) watch(consumer string) *backfillWatch {
	i := slices.IndexFunc(m.watches, func(w *backfillWatch) bool { return w.consumer == consumer })
	return m.watches[i]
}

// fired takes a timer. One of an earlier step is ignored.
func (m *moveMachine) fired(t moveTimer) []moveEffect {
	if m.over || t.Step != m.step() {
		return nil
	}
	switch t.Kind {
	case timerPoll:
		if t.Step == StepVerify {
			return m.verifyRound()
		}
		return []moveEffect{m.askEstimate(t.Node)}
	case timerProbe:
		return m.probe()
	}
	if t.Late > lateWatchdog {
		return []moveEffect{m.watchdog()}
	}
	return m.stuck()
}

// lateWatchdog is from when on a watchdog says nothing about the nodes: this process was stopped meanwhile, and their
// answers may wait behind it (history 27).
const lateWatchdog = 5 * time.Second

// stuck ends a step that makes no progress, and with it the move. A copy that is not deleted is left over and fails
// nothing (rebalance.md §4.7).
func (m *moveMachine) stuck() []moveEffect {
	timeout := &StepTimeout{VB: m.plan.VB, Step: m.step(), WaitedFor: m.waitedFor(), Limit: m.limits.of(m.step())}
	if m.step() != StepDelete {
		return m.fail(timeout)
	}
	for _, id := range m.pendingIDs() {
		one := *timeout
		one.WaitedFor = m.pending[id].String()
		m.leave(m.pending[id], &one)
		delete(m.pending, id)
	}
	return m.advance()
}

// leave notes a copy that could not be deleted.
func (m *moveMachine) leave(a ask, err error) {
	m.left = append(m.left, &NodeError{Node: a.node, Err: err})
}

// streamEnded takes the end of a stream of this vbucket that nobody asked for. It is fatal while the copies are built;
// from the takeover on the streams' own calls tell.
func (m *moveMachine) streamEnded(producer, consumer string, cause error) []moveEffect {
	if m.over || producer != m.plan.From || !slices.Contains(m.plan.Build, consumer) {
		return nil
	}
	lost := &StreamLost{Producer: producer, Consumer: consumer, Err: cause}
	switch m.step() {
	case StepBackfill, StepPersist, StepTopology, StepBarrier, StepVerify:
		return m.fail(lost)
	case StepStream:
		if !m.waitsFor(consumer) {
			return m.fail(lost)
		}
		// The news may overtake the answer that says the stream is up.
		m.lost[consumer] = lost
	}
	return nil
}

func (m *moveMachine) waitsFor(node string) bool {
	for _, a := range m.pending {
		if a.node == node {
			return true
		}
	}
	return false
}

// stop ends the move unless its switch has begun: then it goes on to its end, which is near.
func (m *moveMachine) stop() []moveEffect {
	if m.over || m.switching() {
		return nil
	}
	return m.fail(ErrStopped)
}

func (m *moveMachine) fail(err error) []moveEffect {
	m.over = true
	return []moveEffect{moveFinished{
		Err:       &MoveError{VB: m.plan.VB, From: m.plan.From, To: m.plan.destination(), Step: m.step(), Err: err},
		Leftovers: m.left,
	}}
}

func (m *moveMachine) watchdog() moveEffect {
	return m.timer(timerWatchdog, "", m.limits.of(m.step()))
}

func (m *moveMachine) timer(kind timerKind, node string, after time.Duration) moveEffect {
	return moveSetTimer{Timer: moveTimer{Step: m.step(), Kind: kind, Node: node}, After: after}
}

// probed says whether the step's progress shows in seqnos: only, or also.
func (m *moveMachine) probed() bool {
	switch m.step() {
	case StepBackfill, StepPersist, StepBarrier, StepTakeover:
		return true
	}
	return false
}

// probe asks every node that is waited for how far it is.
func (m *moveMachine) probe() []moveEffect {
	effects := []moveEffect{m.timer(timerProbe, "", probePause)}
	for _, node := range m.waitedNodes() {
		m.lastID++
		m.probes[m.lastID] = node
		effects = append(effects, moveAsk{ID: m.lastID, Node: node, Request: readSeqno{VB: m.plan.VB}})
	}
	return effects
}

// waitedNodes are the nodes that have not done yet what the step is about.
func (m *moveMachine) waitedNodes() (nodes []string) {
	if m.step() == StepBackfill {
		for _, w := range m.watches {
			if !w.done {
				nodes = append(nodes, w.consumer)
			}
		}
		return nodes
	}
	for _, id := range m.pendingIDs() {
		nodes = append(nodes, m.pending[id].node)
	}
	return nodes
}

func (m *moveMachine) probeAnswered(node string, value any, err error) []moveEffect {
	seqnos, ok := value.(seqnoAnswer)
	if m.over || !m.probed() || err != nil || !ok {
		return nil
	}
	switch m.step() {
	case StepPersist, StepBarrier:
		// A disk that stands still makes no progress, however much is written meanwhile.
		seqnos.High = 0
	case StepBackfill:
		seqnos.Persisted = 0 // it may be far behind what has arrived
	}
	before, again := m.seqnos[node]
	if again && seqnos == before {
		return nil
	}
	m.seqnos[node] = seqnos
	if !again {
		return nil
	}
	return []moveEffect{m.watchdog()}
}

func (m *moveMachine) pendingIDs() []int {
	ids := make([]int, 0, len(m.pending))
	for id := range m.pending {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// waitedFor says what is missing, node by node.
func (m *moveMachine) waitedFor() string {
	if m.step() == StepBackfill {
		var waits []string
		for _, w := range m.watches {
			if !w.done {
				waits = append(waits, fmt.Sprintf("%s: backfill from %s (status %q, %d items left)",
					w.consumer, m.plan.From, w.last.Status, w.last.Items))
			}
		}
		return strings.Join(waits, ", ")
	}
	var waits []string
	for _, id := range m.pendingIDs() {
		waits = append(waits, m.pending[id].String())
	}
	return strings.Join(waits, ", ")
}

var errWrongAnswer = errors.New("answer of a wrong type")

// atNode says where err happened, unless it already names a replication, which has both of its nodes in it.
func atNode(node string, err error) error {
	var link *dcp.LinkError
	if node == "" || errors.As(err, &link) {
		return err
	}
	return &NodeError{Node: node, Err: err}
}
