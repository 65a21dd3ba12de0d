package rebalance

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// parallelFailovers is how many buckets are failed over at a time (rebalance.md §8.7).
const parallelFailovers = 8

var (
	errUntouched         = errors.New("the nodes that are given up have no part in the vbucket")
	errNothingToFailOver = errors.New("rebalance: a failover of no nodes")
)

// checkFailover refuses what must not even be begun.
func (e *environment) checkFailover(ctx context.Context, request FailoverRequest) error {
	if _, err := e.nodes.named(request.Nodes); err != nil {
		return err
	}
	if len(without(namesOf(e.nodes.active()), request.Nodes...)) == 0 {
		return ErrNoNodesLeft
	}
	docs, err := e.buckets.List(ctx)
	if err != nil || request.AllowUnsafe {
		return err
	}
	unsafe := &UnsafeFailover{Nodes: request.Nodes, Lost: map[string][]uint16{}}
	for _, doc := range docs {
		for vb, chain := range doc.Map {
			if len(chain.Members()) > 0 && len(without(chain, request.Nodes...)) == 0 {
				unsafe.Lost[doc.Name] = append(unsafe.Lost[doc.Name], uint16(vb))
			}
		}
	}
	if len(unsafe.Lost) > 0 {
		return unsafe
	}
	return nil
}

// failOver carries a failover out, beside the mailbox of the orchestrator. That the nodes are given up, and that it has to
// be gone on with, is in the store before anything is changed.
func (e *environment) failOver(ctx context.Context, request FailoverRequest) (*FailoverReport, error) {
	if err := e.checkFailover(ctx, request); err != nil {
		return nil, err
	}
	report := &FailoverReport{ID: newRunID(), Nodes: request.Nodes, AllowUnsafe: request.AllowUnsafe, Started: time.Now()}
	log := e.log("failover", "failover_id", report.ID)
	log.Info("failover_started", "nodes", request.Nodes, "allow_unsafe", request.AllowUnsafe)
	if err := e.intend(ctx, request); err != nil {
		return nil, err
	}
	e.events.Publish(FailoverStarted{ID: report.ID, Nodes: request.Nodes, At: report.Started})
	report.Err = e.failOverBuckets(ctx, request, report)
	if report.Err == nil {
		report.Err = e.changeCluster(ctx, func(doc *clusterDocument) error {
			doc.Failover = nil
			return nil
		})
	}
	if report.Err == nil {
		report.Err = report.problem()
	}
	report.Ended, report.Cause = time.Now(), Causes(report.Err)
	if report.Err != nil {
		log.Warn("failover_incomplete", "err", report.Err)
	} else {
		log.Info("failover_complete")
	}
	e.events.Publish(FailoverEnded{*report})
	return report, nil
}

// intend makes the nodes failed over members.
func (e *environment) intend(ctx context.Context, request FailoverRequest) error {
	return e.changeCluster(ctx, func(doc *clusterDocument) error {
		for _, name := range request.Nodes {
			i, err := doc.known(name)
			if err != nil {
				return err
			}
			doc.Members[i].Membership, doc.Members[i].DiscardDiverged = FailedOver, false
		}
		doc.Failover = &request
		return nil
	})
}

// failOverBuckets fails only if a bucket's document could not be read; what happened to each is in the report.
func (e *environment) failOverBuckets(ctx context.Context, request FailoverRequest, report *FailoverReport) error {
	docs, err := e.buckets.List(ctx)
	if err != nil {
		return err
	}
	docs = slices.DeleteFunc(docs, func(doc store.BucketDoc) bool {
		return !slices.ContainsFunc(request.Nodes, func(node string) bool { return needs(doc, node) })
	})
	report.Buckets = make([]BucketFailover, len(docs))
	var group errgroup.Group
	group.SetLimit(parallelFailovers)
	for i, doc := range docs {
		group.Go(func() error {
			run := &failoverRun{
				janitorRun: janitorRun{env: e, reason: reasonFailover, report: JanitorBucketReport{Name: doc.Name}},
				nodes:      namesOf(e.nodes.failedOver()), unsafe: request.AllowUnsafe,
				done: &report.Buckets[i],
			}
			run.bucket(ctx)
			return nil
		})
	}
	_ = group.Wait() // they report, and do not fail
	return ctx.Err()
}

// failoverRun is a failover's work on one bucket. It is the janitor's: ask, decide, change the map, carry out; but of the
// nodes that are given up nothing is expected.
type failoverRun struct {
	janitorRun
	nodes  []string
	unsafe bool
	done   *BucketFailover
}

func (f *failoverRun) bucket(ctx context.Context) {
	f.done.Name, f.done.Refused = f.report.Name, map[uint16]error{}
	f.done.Promoted, f.done.Overruled = map[uint16]string{}, map[uint16]string{}
	if f.begin(ctx) {
		f.replace(ctx)
		f.finish(ctx)
	}
	f.done.Epoch, f.done.Errs = f.report.Epoch, f.report.Errs
	f.done.describe()
	f.env.log("failover", "bucket", f.done.Name, "epoch", f.done.Epoch).Info("bucket_failed_over", "nodes", f.nodes,
		"promoted", len(f.done.Promoted), "shortened", f.done.Shortened, "lost", len(f.done.Lost), "refused", len(f.done.Refused),
		"errors", len(f.done.Errs))
}

// begin takes the bucket. The trees of the nodes that are given up end: their connections are closed, nothing is said to them.
func (f *failoverRun) begin(ctx context.Context) bool {
	err := f.claim(ctx, "failover")
	survivors := without(f.doc.Servers, f.nodes...)
	for _, node := range f.nodes {
		if err == nil {
			err = f.env.endMember(ctx, f.report.Name, node)
		}
	}
	if err == nil {
		err = f.env.ensureMembers(ctx, f.report.Name, survivors)
	}
	if err != nil {
		f.failed(err)
		return false
	}
	f.prepare(ctx, survivors)
	return true
}

// replace ends the streams from the nodes, so that what the survivors have is settled, and replaces the nodes in all chains.
func (f *failoverRun) replace(ctx context.Context) {
	f.cut(ctx)
	answers, err := f.env.queryAgents(ctx, f.doc.Name, f.ready)
	if err != nil {
		f.failed(err)
	}
	f.answers, f.logs = answers, map[copyKey][]kv.FailoverEntry{}
	old := f.doc.Map.Clone()
	decisions := make([]failoverDecision, len(f.doc.Map))
	plain := make([]janitorDecision, len(f.doc.Map))
	for vb := range f.doc.Map {
		decisions[vb] = f.decide(ctx, uint16(vb))
		plain[vb] = decisions[vb].janitorDecision
	}
	if err := f.commit(ctx, plain); err != nil {
		f.failed(err)
		return
	}
	for _, d := range decisions {
		f.account(d)
	}
	f.calm(ctx, old)
	broken := f.applyStates(ctx, plain)
	f.openStreams(ctx, plain, broken)
}

// cut ends the streams from the nodes. A survivor that cannot is as good as silent: what it has is not settled.
func (f *failoverRun) cut(ctx context.Context) {
	settled, err := onNodes(f.ready, "ending streams", func(node string) (struct{}, error) {
		_, err := f.env.ask(ctx, f.env.config.Limits.Query, f.doc.Name, node, endStreams{stamp: f.stamp, Producers: f.nodes})
		return struct{}{}, err
	})
	if err != nil {
		f.failed(err)
	}
	f.ready = slices.Sorted(maps.Keys(settled))
}

// decide decides one vbucket, reading failover logs if the decision depends on them.
func (f *failoverRun) decide(ctx context.Context, vb uint16) failoverDecision {
	for {
		c := failoverCase{janitorCase: f.caseOf(vb), AllowUnsafe: f.unsafe, Fed: map[string]string{}}
		c.FailedOver = f.nodes
		for node, answer := range f.answers {
			if producer := answer.Streams[vb]; slices.Contains(f.nodes, producer) {
				c.Fed[node] = producer
			}
		}
		d := decideFailover(c)
		if !f.readNeeded(ctx, vb, d.Hold) {
			return d
		}
	}
}

// account puts down what was done to a vbucket.
func (f *failoverRun) account(d failoverDecision) {
	switch {
	case errors.Is(d.Hold, errUntouched):
	case d.Hold != nil:
		f.done.Refused[d.VB] = d.Hold
	case d.Lost:
		f.done.Lost = append(f.done.Lost, d.VB)
	case d.Promoted:
		f.done.Promoted[d.VB] = d.Chain.Active()
	default:
		f.done.Shortened++
	}
	if d.Overruled {
		f.done.Overruled[d.VB] = d.Chain.Active()
	}
}

// calm makes the nodes, if they live, stop being the active of what they were given up for, before somebody else becomes
// it. Whoever does not answer at once is not waited for.
func (f *failoverRun) calm(ctx context.Context, before vbmap.Map) {
	_, _ = onNodes(f.nodes, "calming", func(node string) (struct{}, error) {
		return struct{}{}, f.env.calm(ctx, f.doc.Name, node, func(vb uint16) bool {
			return int(vb) < len(before) && !f.doc.Map[vb].Contains(node)
		})
	})
}

// finish lets go of the bucket. The nodes that no chain names any more are no servers of it either.
func (f *failoverRun) finish(ctx context.Context) {
	f.release(ctx)
	_, err := f.env.updateClaimed(ctx, f.doc.Name, f.stamp.Epoch, func(d *store.BucketDoc) error {
		named := d.Map.Nodes()
		gone := slices.DeleteFunc(slices.Clone(f.nodes), func(node string) bool { return slices.Contains(named, node) })
		d.Servers = without(d.Servers, gone...)
		if d.Target != nil {
			d.Target = vbmap.Failover(d.Target, gone...)
		}
		return nil
	})
	if err != nil {
		f.failed(err)
	}
	f.env.publishNow(ctx, f.doc.Name, f.env.log("failover", "bucket", f.doc.Name))
}
