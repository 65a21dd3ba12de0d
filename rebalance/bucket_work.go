package rebalance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// bucketWork is what a rebalance does with one bucket before and after its moves (rebalance.md §9.4). It runs beside the
// rebalancer's mailbox; every wait ends with its context.
type bucketWork struct {
	env  *environment
	name string
	run  string
	// keep are the nodes that shall hold the bucket; empty means all active members.
	keep []string
	// giveUp are the nodes of a graceful failover: they keep their copies, and none stays active.
	giveUp []string
	// planned is a plan that is to be executed as it is, nil if there is none.
	planned *Plan

	// kept is what keep came to when the work began: a node that becomes known later has no part in it.
	kept  []Node
	stamp stamp
	plans []movePlan
	// aborted are the vbuckets whose moves were aborted; they are not in plans any more.
	aborted []uint16
}

// chooseBuckets is the buckets named, which must exist, or all.
func (e *environment) chooseBuckets(ctx context.Context, names []string) ([]string, error) {
	if len(names) > 0 {
		for _, name := range names {
			if _, err := e.buckets.Get(ctx, name); err != nil {
				return nil, fmt.Errorf("rebalance: Request.Buckets: %w", err)
			}
		}
		return names, nil
	}
	docs, err := e.buckets.List(ctx)
	for _, doc := range docs {
		names = append(names, doc.Name)
	}
	return names, err
}

// resolve decides once which nodes shall hold the bucket.
func (w *bucketWork) resolve(ctx context.Context) (err error) {
	switch {
	case w.planned != nil:
		w.kept, err = w.env.plannedNodes(w.planned)
	case len(w.giveUp) > 0:
		var doc store.BucketDoc
		if doc, err = w.env.buckets.Get(ctx, w.name); err == nil {
			w.kept, err = w.env.nodes.named(doc.Servers)
		}
	default:
		w.kept, err = w.env.nodes.keepers(w.keep)
	}
	return err
}

// prepare brings the bucket to its new nodes, repairs it, decides the map that it shall have, and takes an epoch for the
// moves.
func (w *bucketWork) prepare(ctx context.Context) error {
	if err := w.resolve(ctx); err != nil {
		return err
	}
	if err := w.fits(ctx); err != nil {
		return err
	}
	names := namesOf(w.kept)
	if err := w.enlarge(ctx, names); err != nil {
		return err
	}
	report, err := w.env.clean(ctx, cleanCall{reason: "rebalance", buckets: []string{w.name}, discard: w.discarding()})
	if err != nil {
		return err
	}
	if err := w.repaired(report); err != nil {
		return err
	}
	epoch, err := w.env.buckets.NextEpoch(ctx)
	if err != nil {
		return err
	}
	w.stamp = stamp{Epoch: epoch, Owner: "rebalance " + w.run}
	target, err := w.aim(ctx, w.kept)
	if err != nil {
		return err
	}
	w.env.publish(w.name)
	if err := w.plan(target); err != nil {
		return err
	}
	return w.spare(report, without(target.Servers, names...))
}

// fits refuses a plan before anything has been done for its bucket.
func (w *bucketWork) fits(ctx context.Context) error {
	if w.planned == nil {
		return nil
	}
	doc, err := w.env.buckets.Get(ctx, w.name)
	if err != nil {
		return err
	}
	bucket := w.planned.bucket(w.name)
	if err := bucket.fits(doc); err != nil {
		return err
	}
	return bucket.startsFrom(doc, w.planned.names())
}

// target is the map that the moves shall lead to. A plan's is not made anew: the repair that came before must have left
// what the plan starts from.
func (w *bucketWork) target(ctx context.Context, doc store.BucketDoc, kept []Node) (vbmap.Map, error) {
	if len(w.giveUp) > 0 {
		return gracefulTarget(doc, w.giveUp)
	}
	if w.planned == nil {
		return w.env.target(ctx, doc, kept, w.env.countItems(ctx, doc))
	}
	bucket := w.planned.bucket(w.name)
	return bucket.Target, bucket.startsFrom(doc, w.planned.names())
}

// spare refuses a rebalance that would lose what the janitor has kept: copies with data that the active lacks, on nodes
// that are to leave or whose copy is to be built anew.
func (w *bucketWork) spare(report JanitorReport, leaving []string) error {
	lost := &KeptCopies{Bucket: w.name, ByVB: map[uint16][]string{}}
	for _, b := range report.Buckets {
		if b.Name != w.name {
			continue
		}
		for vb, nodes := range b.Kept {
			endangered := slices.Clone(leaving)
			for _, plan := range w.plans {
				if plan.VB == vb {
					endangered = append(endangered, plan.Build...)
				}
			}
			for _, node := range nodes {
				if slices.Contains(endangered, node) {
					lost.ByVB[vb] = append(lost.ByVB[vb], node)
				}
			}
		}
	}
	if len(lost.ByVB) > 0 {
		return lost
	}
	return nil
}

// enlarge makes the nodes that shall hold the bucket servers of it, besides those that are.
func (w *bucketWork) enlarge(ctx context.Context, names []string) error {
	doc, err := w.env.buckets.Get(ctx, w.name)
	if err != nil {
		return err
	}
	config, err := w.env.bucketConfig(ctx, w.name)
	if err != nil {
		return err
	}
	joining := without(names, doc.Servers...)
	if err := w.env.createBucketOnAll(ctx, joining, config); err != nil {
		return err
	}
	if err := w.join(ctx, doc, joining); err != nil {
		return err
	}
	return w.env.ensureMembers(ctx, w.name, distinct(doc.Servers, joining))
}

// aim claims the bucket, prepares its agents, and stores the map that the moves shall lead to.
func (w *bucketWork) aim(ctx context.Context, kept []Node) (store.BucketDoc, error) {
	if err := w.env.buckets.Claim(ctx, w.name, w.stamp.Epoch); err != nil {
		return store.BucketDoc{}, err
	}
	doc, err := w.env.buckets.Get(ctx, w.name)
	if err != nil {
		return doc, err
	}
	if _, err := w.env.prepareAgents(ctx, w.name, doc.Servers, w.stamp.Epoch); err != nil {
		return doc, err
	}
	target, err := w.target(ctx, doc, kept)
	if err != nil {
		return doc, err
	}
	if len(w.giveUp) == 0 { // what only gets nodes ready to be given up is not balanced
		w.env.keepMap(ctx, doc, target, kept)
	}
	return w.env.updateClaimed(ctx, w.name, w.stamp.Epoch, func(d *store.BucketDoc) error {
		if w.planned != nil {
			if err := w.planned.bucket(w.name).startsFrom(*d, w.planned.names()); err != nil {
				return err
			}
		}
		d.Target = target
		return nil
	})
}

func (w *bucketWork) plan(doc store.BucketDoc) error {
	changes := vbmap.Diff(doc.Map, doc.Target)
	w.env.events.Publish(TargetSet{Bucket: w.name, Moves: len(changes), At: time.Now()})
	for _, change := range changes {
		plan, err := planMove(uint16(change.VB), change.Old, change.New)
		if err != nil {
			return err
		}
		w.plans = append(w.plans, plan)
	}
	return nil
}

// prepareAgents makes the agents of a bucket serve an epoch. The map has an entry for each that does.
func (e *environment) prepareAgents(ctx context.Context, bucket string, nodes []string, epoch uint64) (map[string]struct{}, error) {
	return onNodes(nodes, "preparing", func(node string) (struct{}, error) {
		_, err := e.ask(ctx, e.config.Limits.Prepare, bucket, node, prepare{Epoch: epoch})
		return struct{}{}, err
	})
}

// releaseAgents lets go of the bucket on servers.
func (e *environment) releaseAgents(ctx context.Context, bucket string, nodes []string, owner stamp) error {
	_, err := onNodes(nodes, "releasing", func(node string) (any, error) {
		return e.ask(ctx, e.config.Limits.Prepare, bucket, node, releaseOwner{owner})
	})
	return err
}

// updateClaimed changes a bucket's document, unless somebody has claimed it since.
func (e *environment) updateClaimed(
	ctx context.Context, bucket string, epoch uint64, edit func(d *store.BucketDoc) error,
) (store.BucketDoc, error) {
	return e.buckets.Update(ctx, bucket, func(d *store.BucketDoc) error {
		if d.Epoch != epoch {
			return &store.StaleEpochError{Bucket: bucket, Epoch: epoch, Current: d.Epoch}
		}
		return edit(d)
	})
}

// verifyTime is how long a bucket may take to look as the map wants it; streams that were just opened do at once.
const (
	verifyTime  = 5 * time.Second
	verifyPause = 50 * time.Millisecond
)

// lastMapPause keeps the last map of a rebalance apart from the one before. Moves make many maps at once, and gocbcore, which may take two
// at the same time, may then be left with the older, until there is a newer one: the last must not meet another.
const lastMapPause = 250 * time.Millisecond

// finish lets go of the bucket, checks that every copy and stream is as the map wants it, and takes the nodes that hold
// nothing any more out of the bucket.
func (w *bucketWork) finish(ctx context.Context) error {
	doc, err := w.env.buckets.Get(ctx, w.name)
	if err != nil {
		return err
	}
	names := w.staying(doc)
	leaving := without(doc.Servers, names...)
	// Released first, so that a stream which is lost now is opened again by its manager.
	if err := w.env.releaseAgents(ctx, w.name, doc.Servers, w.stamp); err != nil {
		return err
	}
	if err := w.verify(ctx, doc, leaving); err != nil {
		return err
	}
	w.publish(ctx) // the last map that the leaving nodes are told
	select {
	case <-time.After(lastMapPause):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if _, err := w.env.updateClaimed(ctx, w.name, w.stamp.Epoch, func(d *store.BucketDoc) error {
		d.Target, d.Servers = nil, names
		return nil
	}); err != nil {
		return err
	}
	w.env.events.Publish(TargetReset{Bucket: w.name, At: time.Now()})
	w.publish(ctx) // clients learn of the new map before the leaving nodes go
	for _, node := range leaving {
		if err := w.env.dropMember(ctx, w.name, node); err != nil {
			return err
		}
	}
	return nil
}

// leave takes the moves that were aborted out of what was to be done.
func (w *bucketWork) leave(aborted []uint16) {
	w.aborted = slices.Sorted(slices.Values(aborted))
	w.plans = slices.DeleteFunc(slices.Clone(w.plans), func(p movePlan) bool { return slices.Contains(w.aborted, p.VB) })
}

// staying are the nodes that shall hold the bucket, and those that still have to because a move was aborted.
func (w *bucketWork) staying(doc store.BucketDoc) []string {
	names := namesOf(w.kept)
	for _, vb := range w.aborted {
		names = distinct(names, doc.Map[vb].Members())
	}
	return names
}

func (w *bucketWork) publish(ctx context.Context) {
	w.env.publishNow(ctx, w.name, w.env.log("rebalancer", "bucket", w.name))
}

// verify asks all servers until nothing differs from the map. Copies that the moves were to delete are deleted once more;
// any other copy on a leaving node is not ours to delete, and a difference.
func (w *bucketWork) verify(ctx context.Context, doc store.BucketDoc, leaving []string) error {
	deadline := time.Now().Add(verifyTime)
	for {
		answers, err := w.env.queryAgents(ctx, w.name, doc.Servers)
		if err != nil {
			return err
		}
		problems := differences(doc.Map, answers, leaving)
		if len(problems) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return &Leftovers{Problems: problems}
		}
		for _, plan := range w.plans {
			for _, node := range plan.Drop {
				if _, left := answers[node].Copies[plan.VB]; left && slices.Contains(leaving, node) {
					_, _ = w.env.ask(ctx, w.env.config.Limits.Query, w.name, node, deleteCopy{stamp: w.stamp, VB: plan.VB})
				}
			}
		}
		select {
		case <-time.After(verifyPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// queryAgents asks the agents of a bucket for their copies and streams.
func (e *environment) queryAgents(ctx context.Context, bucket string, nodes []string) (map[string]queryAnswer, error) {
	return onNodes(nodes, "query", func(node string) (queryAnswer, error) {
		value, err := e.ask(ctx, e.config.Limits.Query, bucket, node, query{})
		answer, ok := value.(queryAnswer)
		if err == nil && !ok {
			err = errWrongAnswer
		}
		return answer, err
	})
}

// differences says what is not as a map wants it. Copies that are in no chain count only on nodes that are to hold
// nothing; elsewhere the janitor deletes them.
func differences(wanted vbmap.Map, answers map[string]queryAnswer, leaving []string) []string {
	var problems []string
	for vb, chain := range wanted {
		for i, node := range chain {
			if node == vbmap.Undefined {
				continue
			}
			state := mcbp.VBucketReplica
			if i == 0 {
				state = mcbp.VBucketActive
			}
			if is := answers[node].Copies[uint16(vb)].State; is != state {
				problems = append(problems, fmt.Sprintf("vb %d on %s is %v, not %v", vb, node, is, state))
			}
			if from := answers[node].Streams[uint16(vb)]; i > 0 && from != chain.Active() {
				problems = append(problems, fmt.Sprintf("vb %d on %s streams from %q, not %q", vb, node, from, chain.Active()))
			}
		}
	}
	for _, node := range leaving {
		for vb := range answers[node].Copies {
			problems = append(problems, fmt.Sprintf("vb %d is still on %s", vb, node))
		}
	}
	slices.Sort(problems)
	return problems
}

func namesOf(nodes []Node) []string {
	names := make([]string, len(nodes))
	for i, node := range nodes {
		names[i] = node.Name
	}
	return names
}

// createBucketOn creates a bucket on a node, unless it is there, and lets its clients in.
func (e *environment) createBucketOn(ctx context.Context, node string, config BucketConfig) error {
	ctx, cancel := context.WithTimeout(ctx, e.config.Limits.Ready)
	defer cancel()
	server, err := e.connect(node, "")
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	err = server.CreateBucket(ctx, config.Name, engineConfig(config))
	there := errors.Is(err, mcbp.StatusKeyExists)
	if err != nil && !there {
		return err
	}
	bucket, err := e.connect(node, config.Name)
	if err != nil {
		return err
	}
	defer func() { _ = bucket.Close() }()
	if there {
		if err := e.checkOwner(ctx, bucket, node, config.Name); err != nil {
			return err
		}
	}
	for {
		err := bucket.EnableTraffic(ctx)
		if !errors.Is(err, mcbp.StatusTemporaryFailure) {
			return err
		}
		select {
		case <-time.After(verifyPause):
		case <-ctx.Done():
			return err
		}
	}
}

// clean has the janitor run and waits for its report.
func (e *environment) clean(ctx context.Context, call cleanCall) (JanitorReport, error) {
	return actors.Call[JanitorReport](ctx, e.system.Whereis(janitorName), call)
}
