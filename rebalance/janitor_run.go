package rebalance

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// janitorRun is the janitor's work on one bucket: ask all servers, decide each vbucket, carry the decisions out in two
// phases (rebalance.md §8.4). It runs beside the janitor's mailbox.
type janitorRun struct {
	env    *environment
	reason string
	// discard is that of the [cleanCall].
	discard []string
	report  JanitorBucketReport

	doc   store.BucketDoc
	stamp stamp
	// ready are the servers that are prepared for the run's epoch.
	ready []string
	// unfenced are the servers, per vbucket, on which an abandoned takeover may still come to its end.
	unfenced map[uint16][]string
	answers  map[string]queryAnswer
	logs     map[copyKey][]kv.FailoverEntry
}

// copyKey is one copy of one vbucket.
type copyKey struct {
	vb   uint16
	node string
}

// janitorRounds bounds how often a run decides anew: a second active that must first stop being one, or an active that
// must first come up, make it two.
const janitorRounds = 4

func (r *janitorRun) failed(err error) { r.report.Errs = append(r.report.Errs, err) }

func (r *janitorRun) bucket(ctx context.Context) {
	doc, err := r.env.buckets.Get(ctx, r.report.Name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return
	case err != nil:
		r.failed(err)
		return
	case doc.Map == nil:
		return
	}
	r.doc = doc
	// A periodic run first only looks. Whatever an older epoch may still be doing, nothing is to be changed if all is as
	// it shall be; and a run that takes an epoch writes the bucket's document.
	if r.reason == reasonPeriodic && r.allWell(ctx) {
		return
	}
	if !r.begin(ctx) {
		return
	}
	r.report.Discarded = map[uint16][]string{}
	again := true
	for round := 0; again && round < janitorRounds; round++ {
		again = r.round(ctx)
	}
	if again {
		r.failed(errNotSettled)
	}
	if len(r.report.Discarded) > 0 {
		r.env.log("janitor", "bucket", r.doc.Name, "epoch", r.stamp.Epoch).Warn("copies_discarded", "copies", r.report.Discarded)
	}
	r.end(ctx)
}

var errNotSettled = errors.New("vbuckets still change after several rounds")

// begin takes an epoch and makes the servers serve it. Servers that do not are left out: nothing is changed there, and
// vbuckets that depend on them are left alone.
func (r *janitorRun) begin(ctx context.Context) bool {
	if err := r.claim(ctx, "janitor"); err != nil {
		r.failed(err)
		return false
	}
	if err := r.env.ensureMembers(ctx, r.doc.Name, r.doc.Servers); err != nil {
		r.failed(err)
	}
	r.createAgain(ctx)
	r.prepare(ctx, r.doc.Servers)
	return true
}

// claim takes an epoch, and with it the bucket out of the hands of whatever else was at work on it.
func (r *janitorRun) claim(ctx context.Context, owner string) error {
	epoch, err := r.env.buckets.NextEpoch(ctx)
	if err != nil {
		return err
	}
	if err := r.env.buckets.Claim(ctx, r.report.Name, epoch); err != nil {
		return err
	}
	r.report.Epoch, r.stamp = epoch, stamp{Epoch: epoch, Owner: owner}
	r.doc, err = r.env.buckets.Get(ctx, r.report.Name)
	return err
}

// prepare makes servers serve the run's epoch.
func (r *janitorRun) prepare(ctx context.Context, servers []string) {
	prepared, err := r.env.prepareAgents(ctx, r.doc.Name, servers, r.stamp.Epoch)
	if err != nil {
		r.failed(err)
	}
	r.ready, r.unfenced = slices.Sorted(maps.Keys(prepared)), unfencedVBuckets(err)
}

// unfencedVBuckets takes out of a failed preparation what it says about takeovers.
func unfencedVBuckets(err error) map[uint16][]string {
	unfenced := map[uint16][]string{}
	var nodes *NodesError
	if errors.As(err, &nodes) {
		for _, failed := range nodes.Failed {
			var takeovers *dcp.UnfencedError
			if errors.As(failed, &takeovers) {
				for _, vb := range takeovers.VBs {
					unfenced[vb] = append(unfenced[vb], failed.Node)
				}
			}
		}
	}
	return unfenced
}

// allWell says that there is nothing to be changed.
func (r *janitorRun) allWell(ctx context.Context) bool {
	answers, err := r.env.queryAgents(ctx, r.doc.Name, r.doc.Servers)
	if err != nil || r.doc.Target != nil {
		return false
	}
	for node, answer := range answers {
		if !answer.Admits {
			return false
		}
		for vb := range answer.Copies {
			if int(vb) < len(r.doc.Map) && !r.doc.Map[vb].Contains(node) {
				return false
			}
		}
	}
	return len(differences(r.doc.Map, answers, nil)) == 0
}

// round asks, decides and repairs once. It reports whether vbuckets are not yet as they shall be although nothing stood
// in the way.
func (r *janitorRun) round(ctx context.Context) (again bool) {
	answers, err := r.env.queryAgents(ctx, r.doc.Name, r.ready)
	if err != nil {
		r.failed(err)
	}
	r.answers, r.logs = answers, map[copyKey][]kv.FailoverEntry{}
	r.report.Held, r.report.Kept = map[uint16]error{}, map[uint16][]string{}
	decisions := make([]janitorDecision, 0, len(r.doc.Map))
	for vb := range r.doc.Map {
		d := r.decide(ctx, uint16(vb))
		if d.Hold != nil {
			r.report.Held[d.VB] = d.Hold
		}
		if len(d.Kept) > 0 {
			r.report.Kept[d.VB] = d.Kept
		}
		if len(d.Discarded) > 0 {
			r.report.Discarded[d.VB] = d.Discarded
		}
		again = again || d.Again
		decisions = append(decisions, d)
	}
	if err := r.commit(ctx, decisions); err != nil {
		r.failed(err)
		return false
	}
	broken := r.applyStates(ctx, decisions)
	r.openStreams(ctx, decisions, broken)
	r.admit(ctx, broken)
	return again && len(broken) == 0
}

// decide decides one vbucket, reading failover logs if the decision depends on them.
func (r *janitorRun) decide(ctx context.Context, vb uint16) janitorDecision {
	for {
		d := decideVBucket(r.caseOf(vb))
		if !r.readNeeded(ctx, vb, d.Hold) {
			return d
		}
	}
}

// readNeeded reads the failover logs on which a decision depends. It reports whether there are new ones.
func (r *janitorRun) readNeeded(ctx context.Context, vb uint16, hold error) (unread bool) {
	var need *HistoryNeeded
	if !errors.As(hold, &need) {
		return false
	}
	for _, node := range need.Nodes {
		if _, known := r.logs[copyKey{vb, node}]; !known {
			unread = true
			r.logs[copyKey{vb, node}] = r.readHistory(ctx, vb, node)
		}
	}
	return unread
}

// readHistory is a copy's failover log, empty if it cannot be read: then nothing is concluded from it.
func (r *janitorRun) readHistory(ctx context.Context, vb uint16, node string) []kv.FailoverEntry {
	value, err := r.env.ask(ctx, r.env.config.Limits.Query, r.doc.Name, node, readHistory{VB: vb})
	answer, ok := value.(historyAnswer)
	if err != nil || !ok || answer.Entries == nil {
		return []kv.FailoverEntry{}
	}
	return answer.Entries
}

func (r *janitorRun) caseOf(vb uint16) janitorCase {
	c := janitorCase{
		VB: vb, Chain: r.doc.Map[vb], Servers: r.doc.Servers, Discard: r.discard, Unfenced: r.unfenced[vb], Copies: map[string]janitorCopy{},
	}
	if r.doc.Target != nil {
		c.FastForward = r.doc.Target[vb]
	}
	for node, answer := range r.answers {
		info := answer.Copies[vb]
		c.Copies[node] = janitorCopy{
			State: info.State, Topology: info.Topology, HighSeqno: info.HighSeqno, HighPrepared: info.HighPrepared, UUID: info.UUID,
			FailoverLog: r.logs[copyKey{vb, node}],
		}
	}
	return c
}

// commit writes the chains that the decisions change. It comes before any action.
func (r *janitorRun) commit(ctx context.Context, decisions []janitorDecision) error {
	var changes []store.ChainChange
	for _, d := range decisions {
		if old := r.doc.Map[d.VB]; d.Hold == nil && !d.Chain.Equal(old) {
			changes = append(changes, store.ChainChange{VB: int(d.VB), Old: old, New: d.Chain})
		}
	}
	if len(changes) == 0 {
		return nil
	}
	if err := r.env.updateChains(ctx, r.doc.Name, r.stamp.Epoch, changes...); err != nil {
		return err
	}
	for _, change := range changes {
		r.doc.Map[change.VB] = change.New
	}
	r.report.Chains += len(changes)
	r.env.publish(r.doc.Name)
	return nil
}

// applyStates is the first phase, on all ready nodes at the same time, in two parts. It gives the nodes on which it failed.
//
// Streams are closed everywhere before any state is set: an engine that has lost its copy gets an empty one, from which a stream
// that is being restored at that moment would roll its consumer's copy back to nothing.
func (r *janitorRun) applyStates(ctx context.Context, decisions []janitorDecision) (broken map[string]bool) {
	retained := map[string]*applyStates{}
	for _, node := range r.ready {
		retained[node] = &applyStates{stamp: r.stamp, Retain: map[uint16]string{}}
	}
	for _, d := range decisions {
		r.retain(retained, d)
	}
	broken = map[string]bool{}
	_, err := onNodes(r.ready, "closing streams", func(node string) (struct{}, error) {
		_, err := r.env.ask(ctx, r.env.config.Limits.Apply, r.doc.Name, node, *retained[node])
		return struct{}{}, err
	})
	r.note(err, broken)
	orders := map[string]*applyStates{}
	for _, node := range without(r.ready, sortedKeys(broken)...) {
		orders[node] = &applyStates{stamp: r.stamp, Retain: retained[node].Retain}
	}
	for _, d := range decisions {
		if r.streamed(d, broken) {
			continue
		}
		for _, action := range d.Actions {
			order := orders[action.Node]
			if action.State == mcbp.VBucketMissing {
				order.Delete = append(order.Delete, d.VB)
				continue
			}
			order.States = append(order.States, vbucketState{VB: d.VB, State: action.State, Topology: action.Topology})
		}
	}
	done, err := onNodes(sortedKeys(orders), "applying states", func(node string) (struct{}, error) {
		_, err := r.env.ask(ctx, r.env.config.Limits.Apply, r.doc.Name, node, *orders[node])
		return struct{}{}, err
	})
	r.note(err, broken)
	for node := range done {
		r.report.States += len(orders[node].States)
		r.report.Deletions += len(orders[node].Delete)
	}
	return broken
}

// streamed reports whether a decision is about one of the nodes, or one of them may have a stream of its vbucket.
func (r *janitorRun) streamed(d janitorDecision, nodes map[string]bool) bool {
	for node := range nodes {
		_, live := r.answers[node].Streams[d.VB]
		_, wanted := r.answers[node].Wanted[d.VB]
		if live || wanted {
			return true
		}
	}
	return touches(d, nodes)
}

// retain says which streams of a vbucket survive the first phase: those that are wanted, and of a vbucket that is left
// alone all that are live, or that their managers want and will open again.
func (r *janitorRun) retain(orders map[string]*applyStates, d janitorDecision) {
	if d.Hold != nil {
		for node, order := range orders {
			if producer, live := r.answers[node].Streams[d.VB]; live {
				order.Retain[d.VB] = producer
			} else if producer, wanted := r.answers[node].Wanted[d.VB]; wanted {
				order.Retain[d.VB] = producer
			}
		}
		return
	}
	for _, s := range d.Streams {
		if order := orders[s.Consumer]; order != nil {
			order.Retain[d.VB] = s.Producer
		}
	}
}

// note puts down the nodes that failed.
func (r *janitorRun) note(err error, broken map[string]bool) {
	var nodes *NodesError
	if err == nil {
		return
	}
	r.failed(err)
	if errors.As(err, &nodes) {
		for _, failed := range nodes.Failed {
			broken[failed.Node] = true
		}
	}
}

// openStreams is the second phase. A vbucket takes part if the first phase has succeeded on every node that its decision
// is about: no stream may be opened towards a node that still thinks it is active.
func (r *janitorRun) openStreams(ctx context.Context, decisions []janitorDecision, broken map[string]bool) {
	orders := map[string]*openStreams{}
	opened := map[string]int{}
	for _, d := range decisions {
		if d.Hold != nil || touches(d, broken) {
			continue
		}
		for _, s := range d.Streams {
			if !slices.Contains(r.ready, s.Consumer) || !slices.Contains(r.ready, s.Producer) {
				continue
			}
			if orders[s.Consumer] == nil {
				orders[s.Consumer] = &openStreams{stamp: r.stamp, Streams: map[uint16]string{}}
			}
			orders[s.Consumer].Streams[d.VB] = s.Producer
			if r.answers[s.Consumer].Streams[d.VB] != s.Producer {
				opened[s.Consumer]++
			}
		}
	}
	done, err := onNodes(sortedKeys(orders), "opening streams", func(node string) (struct{}, error) {
		_, err := r.env.ask(ctx, r.env.config.Limits.Apply, r.doc.Name, node, *orders[node])
		return struct{}{}, err
	})
	r.note(err, map[string]bool{})
	for node := range done {
		r.report.Streams += opened[node]
	}
}

func touches(d janitorDecision, nodes map[string]bool) bool {
	return slices.ContainsFunc(d.Chain, func(node string) bool { return nodes[node] }) ||
		slices.ContainsFunc(d.Actions, func(a copyAction) bool { return nodes[a.Node] })
}

// end lets go of the bucket. If nothing is left to repair, what the last rebalance wanted does not matter any more.
func (r *janitorRun) end(ctx context.Context) {
	r.release(ctx)
	if r.doc.Target != nil && len(r.report.Errs) == 0 && len(r.report.Held) == 0 {
		_, err := r.env.updateClaimed(ctx, r.doc.Name, r.stamp.Epoch, func(d *store.BucketDoc) error {
			d.Target = vbmap.Map(nil)
			return nil
		})
		if err != nil {
			r.failed(err)
		} else {
			r.env.events.Publish(TargetReset{Bucket: r.doc.Name, At: time.Now()})
		}
	}
	r.env.publish(r.doc.Name)
}

func (r *janitorRun) release(ctx context.Context) {
	if err := r.env.releaseAgents(ctx, r.doc.Name, r.ready, r.stamp); err != nil {
		r.failed(err)
	}
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
