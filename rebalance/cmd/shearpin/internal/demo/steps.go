package demo

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/workload"
)

const (
	// repairLimit is how long the janitor may take to repair what a failed rebalance has left.
	repairLimit = 60 * time.Second
	// repairPause is the time between two looks at whether it has.
	repairPause = 50 * time.Millisecond
	// catchUpLimit is how long replicas may take to receive the last writes.
	catchUpLimit = 30 * time.Second
)

// rebalances runs the first rebalance and, if it failed as it was meant to, the repair and the second one.
func (d *Demo) rebalances(ctx context.Context, seen *observations) error {
	reported, err := d.rebalance(ctx, seen, "rebalance")
	if err != nil {
		return err
	}
	d.faulted(seen, reported)
	if seen.fault == nil || !expectations[seen.fault.Kind].fails || seen.reports[0].Outcome != rebalance.Failed {
		return nil
	}
	d.step("rebalance failed, the janitor repairs")
	if seen.repaired, err = d.repair(ctx); err != nil {
		return err
	}
	_, err = d.rebalance(ctx, seen, "second rebalance")
	return err
}

// rebalance runs one rebalance and returns when its end was reported. If ctx ends, the rebalance is stopped; its report
// is kept all the same.
func (d *Demo) rebalance(ctx context.Context, seen *observations, text string) (reported time.Time, err error) {
	d.step("%s to %v", text, d.opts.kept())
	run, err := d.cluster.Rebalance(ctx, rebalance.Request{Keep: d.opts.kept()})
	if err != nil {
		return time.Time{}, err
	}
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		d.follow(run, text)
	}()
	report, err := run.Wait(ctx)
	if err != nil && ctx.Err() != nil {
		report, err = stop(ctx, run)
	}
	reported = time.Now()
	if err != nil {
		return time.Time{}, err // what is shown of the run ends with the cluster
	}
	<-shown
	seen.reports = append(seen.reports, report)
	d.logAt(ctx, reported, "rebalance_reported", slog.String("rebalance_id", report.ID), slog.String("outcome", string(report.Outcome)))
	if cause := context.Cause(ctx); cause != nil {
		return time.Time{}, cause
	}
	return reported, nil
}

// stop ends a run whose time is up.
func stop(ctx context.Context, run *rebalance.Run) (*rebalance.Report, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
	defer cancel()
	if err := run.Stop(ctx); err != nil {
		return nil, fmt.Errorf("stop: %w", err)
	}
	report, err := run.Wait(ctx)
	if err != nil {
		return nil, fmt.Errorf("stop: %w", err)
	}
	return report, nil
}

// follow shows a run's progress until it ends.
func (d *Demo) follow(run *rebalance.Run, text string) {
	var task Task
	for p := range run.Progress() {
		if task == nil && p.MovesPlanned > 0 {
			task = d.report.Begin(text+", moves", p.MovesPlanned)
		}
		if task != nil {
			task.Set(p.MovesDone)
		}
	}
	if task != nil {
		task.End()
	}
}

// faulted puts down what is known about the fault after the first rebalance, which was reported then.
func (d *Demo) faulted(seen *observations, reported time.Time) {
	if d.plan == nil {
		return
	}
	record, happened := d.plan.Record()
	if !happened {
		return
	}
	seen.fault = &record
	if seen.reports[0].Outcome != rebalance.Failed {
		return
	}
	from, known := record.At, true
	if record.Kind == fault.NoAddResponse {
		from, known = d.expiry.at()
	}
	if known {
		abort := reported.Sub(from)
		seen.abort = &abort
	}
}

// logAt logs something that happened at a moment that was measured.
func (d *Demo) logAt(ctx context.Context, at time.Time, event string, attrs ...slog.Attr) {
	r := slog.NewRecord(at, slog.LevelInfo, event, 0)
	r.AddAttrs(slog.String("part", "demo"))
	r.AddAttrs(attrs...)
	// A log that cannot be written is nobody's concern here; the trace reports its own failures.
	_ = d.log.Handler().Handle(ctx, r)
}

// repair waits until a janitor run finds nothing left to do. It returns false if that takes too long.
func (d *Demo) repair(ctx context.Context) (bool, error) {
	limit := time.NewTimer(repairLimit)
	defer limit.Stop()
	for {
		report, err := d.cluster.Janitor(ctx)
		if err != nil {
			return false, err
		}
		if report.Problem() == nil && report.Fixes() == 0 {
			return true, nil
		}
		select {
		case <-time.After(repairPause):
		case <-limit.C:
			return false, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// verify reads everything back.
func (d *Demo) verify(ctx context.Context, seen *observations) error {
	d.doing = "reading documents back"
	task := d.report.Begin(d.doing, d.opts.Docs)
	var err error
	seen.losses, err = workload.VerifyDocuments(ctx, d.clients, d.corpus, task.Set)
	task.End()
	if err != nil {
		return err
	}
	seen.documents = true

	if seen.chains, err = d.cluster.Map(ctx, bucket); err != nil {
		return err
	}
	d.step("comparing replicas")
	limited, cancel := context.WithTimeout(ctx, catchUpLimit)
	defer cancel()
	chains := make([][]string, len(seen.chains))
	for vb, chain := range seen.chains {
		chains[vb] = chain
	}
	seen.mismatches, err = workload.VerifyReplicas(limited, d.reach(), *d.credentials, bucket, chains)
	seen.replicas = err == nil
	return err
}

// reach is how the verification finds the nodes.
func (d *Demo) reach() []workload.Node {
	var nodes []workload.Node
	for _, node := range d.nodes {
		nodes = append(nodes, workload.Node{Name: node.Name(), Addr: node.Addr()})
	}
	return nodes
}
