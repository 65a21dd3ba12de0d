package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/workload"
)

// bucket is the name of the bucket that is rebalanced.
const bucket = "demo"

// closeLimit bounds what is done after a run was told to end, such as stopping a rebalance and closing the cluster.
const closeLimit = 15 * time.Second

// Demo is one run. Create it with [New]; call Run once, then, if it holds the cluster, Held and Close. The methods must
// not overlap.
type Demo struct {
	opts   Options
	log    *slog.Logger
	expiry expiry
	report Reporter

	credentials *kv.Credentials
	plan        *fault.Plan // nil without a fault
	nodes       []*kvnode.Node
	cluster     *rebalance.Cluster
	watcher     *watcher
	corpus      *workload.Corpus
	clients     []*workload.Client
	// acked is the file that Held has written.
	acked string
	// doing is the step that the run is at.
	doing string
}

// TimeoutError is the cause of a run that took longer than it may.
type TimeoutError struct{ Limit time.Duration }

func (e *TimeoutError) Error() string { return fmt.Sprintf("--timeout %v ran out", e.Limit) }

// New prepares a run of opts, which must be valid.
func New(opts Options, log *slog.Logger, report Reporter) *Demo {
	expiry := newExpiry()
	return &Demo{
		opts: opts, log: slog.New(slog.NewMultiHandler(log.Handler(), expiry)), expiry: expiry, report: report,
		corpus: workload.NewCorpus(workload.NewContent(opts.Seed, opts.ValueSize), opts.Docs),
	}
}

// Run does everything and returns what it came to. When ctx ends, the rebalance that may be running is stopped, and the
// result says why. The cluster is closed at the end, unless hold is set: then it stays up, if it came up at all.
func (d *Demo) Run(ctx context.Context, hold bool) *Result {
	began := time.Now()
	limited, cancel := context.WithTimeoutCause(ctx, d.opts.Timeout, &TimeoutError{d.opts.Timeout})
	defer cancel()
	seen := &observations{opts: d.opts}
	err := d.run(limited, seen)
	seen.acked = d.corpus.Ledger.AckedWrites()
	if err != nil {
		seen.err = d.explain(limited, err)
	}
	if d.cluster != nil {
		seen.janitorRuns = d.cluster.JanitorRuns()
	}
	if !hold || d.cluster == nil || ctx.Err() != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
		defer cancel()
		if err := d.Close(ctx); err != nil && seen.err == nil {
			seen.err = fmt.Errorf("close: %w", err)
		}
	}
	if seen.err == nil && ctx.Err() != nil {
		seen.err = context.Cause(ctx)
	}
	return result(seen, time.Since(began))
}

// explain says what the run was doing when it failed, and puts the reason why it had to end before what that led to.
func (d *Demo) explain(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case cause == nil:
		return fmt.Errorf("%s: %w", d.doing, err)
	case errors.Is(err, cause) || errors.Is(err, ctx.Err()):
		return fmt.Errorf("%w while %s", cause, d.doing)
	}
	return fmt.Errorf("%w while %s: %w", cause, d.doing, err)
}

// step says what the run does next.
func (d *Demo) step(text string, args ...any) {
	d.doing = fmt.Sprintf(text, args...)
	d.report.Step(d.doing)
}

// run is the sequence. Whatever it has seen is in seen, also when it fails.
func (d *Demo) run(ctx context.Context, seen *observations) error {
	d.step("starting %d nodes, %d vbuckets, %d replicas", d.opts.Nodes, d.opts.VBuckets, d.opts.Replicas)
	if err := d.open(ctx); err != nil {
		return err
	}
	d.watcher = watch(d.cluster.ReplicationEvents(), d.cluster.SupervisorEvents())
	defer d.watched(seen)
	if err := d.cluster.CreateBucket(ctx, rebalance.BucketConfig{
		Name: bucket, VBuckets: d.opts.VBuckets, Replicas: d.opts.Replicas,
	}); err != nil {
		return err
	}

	d.connectClients()
	d.doing = "loading documents"
	task := d.report.Begin(d.doing, d.opts.Docs)
	err := workload.Load(ctx, d.clients, d.corpus, task.Set)
	task.End()
	if err != nil {
		return err
	}

	if err := d.disturbed(ctx, seen); err != nil {
		return err
	}
	return d.verify(ctx, seen)
}

// disturbed is the part of the run during which writers write.
func (d *Demo) disturbed(ctx context.Context, seen *observations) error {
	writers := workload.StartWriters(ctx, d.clients[:d.opts.Writers], d.corpus, d.opts.Seed)
	defer func() { seen.writers = writers.Stop() }()

	for _, name := range d.opts.nodeNames()[d.opts.Nodes:] {
		d.step("adding node %s", name)
		node, err := d.startNode(name)
		if err != nil {
			return err
		}
		if err := d.cluster.AddNode(ctx, node); err != nil {
			return err
		}
	}
	if d.plan != nil {
		d.watcher.arm()
		d.plan.Arm()
	}
	if err := d.rebalances(ctx, seen); err != nil {
		return err
	}
	d.step("stopping %d writers", d.opts.Writers)
	return nil
}

// watched puts down what only events tell.
func (d *Demo) watched(seen *observations) {
	d.watcher.close()
	seen.restarts = d.watcher.restartCount()
	seen.exits = d.watcher.abnormalExits()
	seen.eventsLost = d.watcher.lost()
}

// Close takes everything down that is up. It may be called more than once.
func (d *Demo) Close(ctx context.Context) error {
	var errs []error
	for _, client := range d.clients {
		client.Close()
	}
	d.clients = nil
	if d.cluster != nil {
		errs = append(errs, d.cluster.Close(ctx))
		d.cluster = nil
	}
	for _, node := range d.nodes {
		errs = append(errs, node.Close())
	}
	d.nodes = nil
	return errors.Join(append(errs, d.removeAcked())...)
}

// result judges what was seen.
func result(seen *observations, took time.Duration) *Result {
	r := &Result{
		Status:             StatusComplete,
		Failures:           seen.failures(),
		Rebalances:         []Rebalance{},
		AckedWrites:        seen.acked,
		LostWrites:         len(seen.losses),
		MismatchedReplicas: len(seen.mismatches),
		ConnectionRestarts: seen.restarts,
		JanitorRuns:        seen.janitorRuns,
		Seconds:            Seconds(took),
	}
	if len(r.Failures) > 0 {
		r.Status = StatusFailed
	}
	if seen.err != nil {
		text := seen.err.Error()
		r.Error = &text
	}
	for _, report := range seen.reports {
		r.Rebalances = append(r.Rebalances, Rebalance{
			Outcome:      string(report.Outcome),
			MovesPlanned: report.MovesPlanned,
			Moves:        report.Moves,
			Seconds:      Seconds(report.Ended.Sub(report.Started)),
			Cause:        append([]string{}, report.Cause...),
		})
	}
	if f := seen.fault; f != nil {
		r.Fault = &Fault{Kind: f.Kind.String(), VB: int(f.VB), Producer: f.Producer, Consumer: f.Consumer}
		if seen.abort != nil {
			ms := Milliseconds(*seen.abort)
			r.Fault.AbortMS = &ms
		}
	}
	return r
}
