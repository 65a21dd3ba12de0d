package rebalance

import (
	"context"
	"slices"
)

// openAccount chooses the buckets, says which nodes take part, and puts down that the rebalance runs. Nothing is changed
// anywhere before.
func (e *environment) openAccount(ctx context.Context, report Report, request Request) ([]string, Report, error) {
	names, err := e.chooseBuckets(ctx, request.Buckets)
	if request.Plan != nil {
		names = request.Plan.bucketNames()
	}
	if err != nil {
		return nil, report, err
	}
	var servers []string
	for _, name := range names {
		doc, err := e.buckets.Get(ctx, name)
		if err != nil {
			return nil, report, err
		}
		servers = distinct(servers, doc.Servers)
	}
	keep, err := e.nodes.keepers(request.Keep)
	if err != nil {
		return nil, report, err
	}
	kept := namesOf(keep)
	switch {
	case request.Plan != nil:
		kept = request.Plan.names()
	case len(request.giveUp) > 0:
		kept = without(servers, request.giveUp...)
	}
	report.Nodes.Failed = namesOf(e.nodes.failedOver())
	report.describeNodes(servers, kept)
	if len(request.giveUp) > 0 {
		report.Type = GracefulFailoverType
	}
	return names, report, e.saveRunning(ctx, report)
}

// account puts down how many moves the bucket needs, so that a manager that takes over knows how many were done.
func (w *bucketWork) account(ctx context.Context, report Report) {
	report.Buckets = slices.Clone(report.Buckets)
	b := &report.Buckets[len(report.Buckets)-1]
	b.Epoch, b.MovesPlanned = w.stamp.Epoch, len(w.plans)
	report.MovesPlanned += b.MovesPlanned
	if err := w.env.updateRunning(ctx, report); err != nil {
		w.env.log("rebalancer", "rebalance_id", report.ID, "bucket", w.name).Info("account_not_saved", "err", err)
	}
}
