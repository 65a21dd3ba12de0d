package serve

import (
	"context"
	"net/http"

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
)

// failover gives nodes up, at once or gracefully.
func (m *Manager) failover(ctx context.Context, r *http.Request) (any, error) {
	in, err := read[control.FailoverRequest](r)
	if err != nil {
		return nil, err
	}
	if in.Graceful {
		if in.AllowUnsafe {
			return nil, &control.FieldError{Field: "allow_unsafe", Value: true, Why: "cannot be together with graceful"}
		}
		run, err := m.begin(ctx, func(ctx context.Context) (*rebalance.Run, error) { return m.cluster.GracefulFailover(ctx, in.Nodes) })
		if err != nil {
			return nil, err
		}
		return control.Started{ID: run.ID()}, nil
	}
	report, err := m.cluster.Failover(ctx, in.FailoverRequest)
	if err != nil {
		return nil, err
	}
	out := control.Failover{FailoverReport: report, Problems: map[string][]string{}}
	for _, b := range report.Buckets {
		note(out.Problems, b.Name, b.Errs, b.Refused)
	}
	return out, nil
}

// addBack makes a node active again that was failed over.
func (m *Manager) addBack(ctx context.Context, r *http.Request) (any, error) {
	in, err := read[control.AddBack](r)
	if err != nil {
		return nil, err
	}
	var options []rebalance.AddBackOption
	if in.DiscardDiverged {
		options = append(options, rebalance.DiscardDiverged())
	}
	return struct{}{}, m.cluster.AddBack(ctx, r.PathValue("name"), options...)
}
