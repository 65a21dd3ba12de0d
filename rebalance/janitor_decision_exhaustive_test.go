package rebalance

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// The janitor must be right in states that nobody thought of. So every state of three nodes, and of four with fewer
// histories, is tried: every chain, every fast-forward chain, every state and one of a few histories for each copy, every
// set of nodes that do not answer. The decisions are carried out on a model of the nodes, whole and in part, and what is asserted is what must
// never happen (history.md 22).

// modelCopy is a copy as a node has it. Unlike the janitor the model knows each single write.
type modelCopy struct {
	janitorCopy
	writes writes
}

// writes is a set of (branch, seqno), one bit each.
type writes uint64

func (w writes) with(uuid, seqno uint64) writes { return w | 1<<(uuid*8+seqno) }

// modelCopies is every copy that a node may have at the beginning, the missing one first. Pending copies are those of
// takeovers; they have no branch of their own.
func modelCopies() []modelCopy {
	histories := []struct {
		high uint64
		log  []kv.FailoverEntry
	}{
		{0, []kv.FailoverEntry{{UUID: 1, Seqno: 0}}},
		{2, []kv.FailoverEntry{{UUID: 1, Seqno: 0}}},
		{4, []kv.FailoverEntry{{UUID: 1, Seqno: 0}}},
		{3, []kv.FailoverEntry{{UUID: 2, Seqno: 2}, {UUID: 1, Seqno: 0}}},
		{2, []kv.FailoverEntry{{UUID: 3, Seqno: 2}, {UUID: 1, Seqno: 0}}},
	}
	copies := []modelCopy{{}}
	for _, state := range []mcbp.VBucketState{mcbp.VBucketActive, mcbp.VBucketReplica, mcbp.VBucketPending, mcbp.VBucketDead} {
		for i, h := range histories {
			if state == mcbp.VBucketPending && i > 2 {
				continue
			}
			c := modelCopy{janitorCopy: copyOf(state, h.high, h.log)}
			upper := h.high
			for _, branch := range h.log {
				for seqno := branch.Seqno + 1; seqno <= upper; seqno++ {
					c.writes = c.writes.with(branch.UUID, seqno)
				}
				upper = branch.Seqno
			}
			copies = append(copies, c)
		}
	}
	return copies
}

// chainsOf is every chain over nodes with a length, undefined members last.
func chainsOf(nodes []string, length int) []vbmap.Chain {
	chains := []vbmap.Chain{vbmap.Chain{}.Aligned(length)}
	var extend func(vbmap.Chain)
	extend = func(c vbmap.Chain) {
		if len(c) == length {
			return
		}
		for _, node := range nodes {
			if !c.Contains(node) {
				longer := append(c.Clone(), node)
				chains = append(chains, longer.Aligned(length))
				extend(longer)
			}
		}
	}
	extend(nil)
	return chains
}

// chainsInForce has every chain of up to three members. Names mean nothing, so that one order stands for all.
func chainsInForce() []vbmap.Chain {
	return []vbmap.Chain{
		{"A"},
		{""},
		{"A", "B"},
		{"A", ""},
		{"", ""},
		{"A", "B", "C"},
		{"A", "B", ""},
		{"A", "", ""},
		{"", "", ""},
	}
}

// Three nodes hold the bucket; a fourth one has nothing.
func TestJanitorDecisionExhaustively(t *testing.T) {
	t.Parallel()
	candidates := modelCopies()
	n := len(candidates)
	for _, chain := range chainsInForce() {
		for _, fast := range append(chainsOf(modelNodes[:3], len(chain)), nil) {
			t.Run(fmt.Sprintf("%v to %v", chain, fast), func(t *testing.T) {
				t.Parallel()
				for i := 0; i < n*n*n; i += exhaustiveStride {
					m := janitorModel{chain: chain, fast: fast, copies: [4]modelCopy{candidates[i%n], candidates[i/n%n], candidates[i/n/n]}}
					if err := m.check(); err != nil {
						require.NoErrorf(t, err, "%v", &m)
					}
				}
			})
		}
	}
}

// allOfFour makes TestHistory_22 leave out nothing, which takes minutes.
var allOfFour = flag.Bool("janitor.all", false, "try every state of four nodes")

// After an interrupted move the states of the copies and the map belong to different times. Whatever they are: exactly one
// copy is active in the end, no data is lost that may have been acknowledged, the chain has the length that it had, and a
// second run changes nothing.
func TestHistory_22(t *testing.T) {
	t.Parallel()
	var candidates []modelCopy
	for i, c := range modelCopies() {
		// Of each state: empty, all of the first branch, and a branch of its own; pending has none.
		if kept := [...]int{0, 1, 3, 4, 6, 8, 9, 13, 14, 16, 17}; slices.Contains(kept[:], i) {
			candidates = append(candidates, c)
		}
	}
	stride := fourNodesStride
	if *allOfFour {
		stride = 1
	}
	n := len(candidates)
	for _, chain := range chainsInForce() {
		for _, fast := range append(chainsOf(modelNodes[:], len(chain)), nil) {
			if !namesInOrder(chain, fast) {
				continue
			}
			t.Run(fmt.Sprintf("%v to %v", chain, fast), func(t *testing.T) {
				t.Parallel()
				for i := 0; i < n*n*n*n; i += stride {
					m := janitorModel{chain: chain, fast: fast, copies: [4]modelCopy{
						candidates[i%n], candidates[i/n%n], candidates[i/n/n%n], candidates[i/n/n/n],
					}}
					if err := m.check(); err != nil {
						require.NoErrorf(t, err, "%v", &m)
					}
				}
			})
		}
	}
}

// namesInOrder says that the members of fast that are not in chain come by name: the other orders are the same again.
func namesInOrder(chain, fast vbmap.Chain) bool {
	others := without(fast, chain...)
	for i, node := range others {
		if node != without(modelNodes[:], chain...)[i] {
			return false
		}
	}
	return true
}

// modelNodes is the servers of the model.
var modelNodes = [4]string{"A", "B", "C", "D"}

// janitorModel is one vbucket of a cluster.
type janitorModel struct {
	chain, fast vbmap.Chain
	copies      [4]modelCopy // of modelNodes
	// branches numbers the failover entries that the model makes.
	branches uint64
}

func (m *janitorModel) String() string {
	text := fmt.Sprintf("chain %v, fast-forward %v:", m.chain, m.fast)
	for i, node := range modelNodes {
		c := m.copies[i]
		text += fmt.Sprintf(" %s %v %d %v;", node, c.State, c.HighSeqno, c.FailoverLog)
	}
	return text
}

// on is a node's copy. The undefined node has none.
func (m *janitorModel) on(node string) *modelCopy {
	for i := range modelNodes {
		if modelNodes[i] == node {
			return &m.copies[i]
		}
	}
	return &modelCopy{}
}

// decide lets all nodes answer but the silent ones.
func (m *janitorModel) decide(silent ...string) janitorDecision {
	c := janitorCase{Chain: m.chain, FastForward: m.fast, Servers: modelNodes[:], Copies: make(map[string]janitorCopy, len(modelNodes))}
	for i, node := range modelNodes {
		if !slices.Contains(silent, node) {
			c.Copies[node] = m.copies[i].janitorCopy
		}
	}
	return decideVBucket(c)
}

// check decides, carries out, and says what went wrong.
func (m *janitorModel) check() error {
	reported := *m
	m.feed()
	decision := m.decide()
	if err := m.checkWithoutLogs(decision); err != nil {
		return err
	}
	if decision.Hold != nil {
		return reported.checkHold(decision)
	}
	after := *m
	for round := 0; ; round++ {
		if err := after.checkParts(decision); err != nil {
			return err
		}
		after = after.carryOut(decision)
		if !decision.Again {
			break
		}
		if round == 3 {
			return errors.New("no end")
		}
		decision = after.decide()
		if decision.Hold != nil {
			return fmt.Errorf("then held: %w", decision.Hold)
		}
	}
	if err := m.checkOutcome(&after); err != nil {
		return err
	}
	again := after.decide()
	if again.Hold != nil || again.Again || len(again.Actions) > 0 || !again.Chain.Equal(decision.Chain) || !slices.Equal(again.Streams, decision.Streams) {
		return fmt.Errorf("not idempotent: %+v, then %+v", decision, again)
	}
	return nil
}

// feed makes the only active, if it is the chain's, have what its replicas can only have from it: it was asked a moment
// earlier.
func (m *janitorModel) feed() {
	source := m.on(m.chain.Active())
	if source.State != mcbp.VBucketActive || m.actives() > 1 {
		return
	}
	for _, c := range m.copies {
		if c.UUID == source.UUID && (c.State == mcbp.VBucketReplica || c.State == mcbp.VBucketPending) {
			source.writes |= c.writes
		}
	}
}

// checkWithoutLogs decides with what the statistics alone tell: the same, or the logs are asked for.
func (m *janitorModel) checkWithoutLogs(want janitorDecision) error {
	bare := *m
	for i := range bare.copies {
		bare.copies[i].FailoverLog = nil
	}
	got := bare.decide()
	var needed *HistoryNeeded
	switch {
	case errors.As(want.Hold, &needed):
		return errors.New("logs asked for that were read")
	case errors.As(got.Hold, &needed):
		if len(needed.Nodes) == 0 || slices.ContainsFunc(needed.Nodes, func(node string) bool { return !m.on(node).hasData() }) {
			return fmt.Errorf("useless question for logs of %v", needed.Nodes)
		}
		return nil
	case (got.Hold == nil) != (want.Hold == nil), !got.Chain.Equal(want.Chain), !slices.Equal(got.Streams, want.Streams),
		!slices.EqualFunc(got.Actions, want.Actions, equalActions), !slices.Equal(got.Kept, want.Kept), got.Again != want.Again:
		return fmt.Errorf("with logs %+v, without %+v", want, got)
	}
	return nil
}

func equalActions(a, b copyAction) bool {
	return a.Node == b.Node && a.State == b.State && slices.EqualFunc(a.Topology, b.Topology, slices.Equal)
}

func (m *janitorModel) checkHold(d janitorDecision) error {
	if len(d.Actions) > 0 || len(d.Streams) > 0 || d.Again || !d.Chain.Equal(m.chain) {
		return fmt.Errorf("held and changed: %+v", d)
	}
	// Nothing but contradicting data may keep a vbucket from being repaired when all nodes answered.
	var all writes
	for _, c := range m.copies {
		all |= c.writes
	}
	var conflict *Conflict
	if errors.As(d.Hold, &conflict) {
		for i, node := range modelNodes {
			c := m.copies[i]
			if c.writes == all && c.State == mcbp.VBucketActive && node == m.chain.Active() {
				return fmt.Errorf("%s is active, is the map's and has everything, yet: %w", node, d.Hold)
			}
		}
	}
	return nil
}

// checkParts carries out every subset of the actions.
func (m *janitorModel) checkParts(d janitorDecision) error {
	if len(d.Chain) != len(m.chain) {
		return fmt.Errorf("chain length changed: %v", d.Chain)
	}
	if err := vbmap.Validate(vbmap.Map{d.Chain}, vbmap.Rules{Nodes: modelNodes[:]}); err != nil {
		return err
	}
	before := m.actives()
	for subset := range 1 << len(d.Actions) {
		part := *m
		part.chain = d.Chain
		for i, action := range d.Actions {
			if subset&(1<<i) != 0 {
				part.act(action)
			}
		}
		if part.actives() > max(1, before) {
			return fmt.Errorf("%d actives after part %b of %+v", part.actives(), subset, d.Actions)
		}
		if lost := m.all() &^ part.all(); lost != 0 {
			return fmt.Errorf("writes %b lost after part %b of %+v", lost, subset, d.Actions)
		}
	}
	return nil
}

// checkOutcome compares the beginning with the end.
func (m *janitorModel) checkOutcome(after *janitorModel) error {
	node := after.chain.Active()
	active := after.on(node)
	if after.actives() != 1 || active.State != mcbp.VBucketActive {
		return fmt.Errorf("%d actives at the end, %q is %v", after.actives(), node, active.State)
	}
	if len(active.Topology) != 1 || !slices.Equal(active.Topology[0], after.chain) {
		return fmt.Errorf("topology %v of chain %v", active.Topology, after.chain)
	}
	members := distinct(m.chain.Members(), m.fast.Members())
	for i, member := range modelNodes {
		c := m.copies[i]
		// On the active's own branch nobody can be ahead of it: such a member was asked a moment later.
		if active.writes == 0 && c.writes != 0 && c.UUID != m.on(node).UUID && slices.Contains(members, member) {
			return fmt.Errorf("%s is active and empty, %s had data", node, member)
		}
		if c.State != mcbp.VBucketActive && c.State != mcbp.VBucketDead {
			continue
		}
		if lost := c.writes &^ after.all(); lost != 0 {
			return fmt.Errorf("writes %b of %s, which was or may have been active, are lost", lost, member)
		}
	}
	return nil
}

func (m *janitorModel) actives() int {
	n := 0
	for _, c := range m.copies {
		if c.State == mcbp.VBucketActive {
			n++
		}
	}
	return n
}

// all is every write that some copy has.
func (m *janitorModel) all() writes {
	var all writes
	for _, c := range m.copies {
		all |= c.writes
	}
	return all
}

// carryOut is the cluster after all actions and streams.
func (m *janitorModel) carryOut(d janitorDecision) janitorModel {
	after := *m
	after.chain = d.Chain
	for _, action := range d.Actions {
		after.act(action)
	}
	for _, stream := range d.Streams {
		source, consumer := after.on(stream.Producer), after.on(stream.Consumer)
		consumer.HighSeqno, consumer.UUID, consumer.FailoverLog = source.HighSeqno, source.UUID, source.FailoverLog
		consumer.writes = source.writes
	}
	return after
}

// act is SET_VBUCKET or DEL_VBUCKET.
func (m *janitorModel) act(a copyAction) {
	c := m.on(a.Node)
	if a.State == mcbp.VBucketMissing {
		*c = modelCopy{}
		return
	}
	if !c.exists() || a.State == mcbp.VBucketActive && c.State != mcbp.VBucketActive {
		m.branches++
		c.UUID = 100 + m.branches
		c.FailoverLog = append([]kv.FailoverEntry{{UUID: c.UUID, Seqno: c.HighSeqno}}, c.FailoverLog...)
	}
	c.State, c.Topology = a.State, a.Topology
}

// Whoever is in one of the chains must have answered; if none of them is active, everybody must have.
func TestJanitorDecisionWaits(t *testing.T) {
	states := []mcbp.VBucketState{mcbp.VBucketMissing, mcbp.VBucketActive, mcbp.VBucketReplica, mcbp.VBucketPending, mcbp.VBucketDead}
	for _, chain := range chainsOf(modelNodes[:3], 2) {
		for _, fast := range append(chainsOf(modelNodes[:3], 2), nil) {
			members := distinct(chain.Members(), fast.Members())
			for i := range 5 * 5 * 5 {
				m := janitorModel{chain: chain, fast: fast}
				for node, state := range []mcbp.VBucketState{states[i%5], states[i/5%5], states[i/25]} {
					m.copies[node] = modelCopy{janitorCopy: copyOf(state, 5, first)}
				}
				for silent := range 1 << len(modelNodes) {
					m.checkSilence(t, members, silent)
				}
			}
		}
	}
}

func (m *janitorModel) checkSilence(t *testing.T, members []string, mask int) {
	t.Helper()
	var silent, missed []string
	memberActive := false
	for i, node := range modelNodes {
		switch {
		case mask&(1<<i) != 0:
			silent = append(silent, node)
			if slices.Contains(members, node) {
				missed = append(missed, node)
			}
		case slices.Contains(members, node) && m.copies[i].State == mcbp.VBucketActive:
			memberActive = true
		}
	}
	if len(missed) == 0 && !memberActive {
		missed = silent
	}
	decision := m.decide(silent...)
	var waiting *WaitingForNodes
	if errors.As(decision.Hold, &waiting) != (len(missed) > 0) || waiting != nil && !slices.Equal(waiting.Nodes, missed) {
		require.Failf(t, "wrong nodes waited for", "%v: %v silent: %+v", m, silent, decision)
	}
	for _, action := range decision.Actions {
		if slices.Contains(silent, action.Node) {
			require.Failf(t, "a silent node is to change", "%v: %v silent: %+v", m, silent, decision)
		}
	}
}

// A node that was given up is as if it did not exist, whether it answers or not.
func TestJanitorDecisionWithoutANodeThatWasGivenUp(t *testing.T) {
	states := []mcbp.VBucketState{mcbp.VBucketMissing, mcbp.VBucketActive, mcbp.VBucketReplica, mcbp.VBucketPending, mcbp.VBucketDead}
	nodes := modelNodes[:3]
	for _, chain := range chainsOf(nodes, 2) {
		for _, fast := range append(chainsOf(nodes, 2), nil) {
			for i := range 5 * 5 * 5 {
				copies := map[string]janitorCopy{}
				for node, state := range []mcbp.VBucketState{states[i%5], states[i/5%5], states[i/25]} {
					copies[nodes[node]] = copyOf(state, uint64(5-node), first)
				}
				for _, gone := range nodes {
					answers := janitorCase{Chain: chain, FastForward: fast, Servers: nodes, FailedOver: []string{gone}, Copies: copies}
					silent := answers
					silent.Copies = maps.Clone(copies)
					delete(silent.Copies, gone)
					reduced := janitorCase{
						Chain: chain.Without(gone), FastForward: fast.Without(gone), Servers: without(nodes, gone), Copies: silent.Copies,
					}
					want := decideVBucket(reduced)
					if want.Hold != nil {
						want.Chain = chain // the one in force is not touched
					}
					if !assert.ObjectsAreEqual(want, decideVBucket(answers)) || !assert.ObjectsAreEqual(want, decideVBucket(silent)) {
						require.Failf(t, "it counts", "%+v: %+v, not %+v", answers, decideVBucket(answers), want)
					}
					for _, action := range want.Actions {
						require.NotEqual(t, gone, action.Node)
					}
				}
			}
		}
	}
}
