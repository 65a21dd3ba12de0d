package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
)

// requestOf is what the cluster is asked for. Nodes that are to be removed are those that are not kept.
func requestOf(ctx context.Context, cluster *rebalance.Cluster, in control.RebalanceRequest) (rebalance.Request, error) {
	request := rebalance.Request{Keep: in.Keep, Buckets: in.Buckets, Plan: in.Plan}
	if in.Plan != nil && len(in.Keep)+len(in.Remove)+len(in.Buckets) > 0 {
		return request, &control.FieldError{Field: "plan", Value: "…", Why: "comes alone: it says itself which nodes and buckets"}
	}
	if len(in.Remove) == 0 {
		return request, nil
	}
	if len(in.Keep) > 0 {
		return request, &control.FieldError{Field: "remove", Value: in.Remove, Why: "cannot be together with keep"}
	}
	members, err := cluster.Members(ctx)
	if err != nil {
		return request, err
	}
	for _, name := range in.Remove {
		if !slices.ContainsFunc(members, func(member rebalance.Member) bool { return member.Name == name }) {
			return request, fmt.Errorf("%w %q", rebalance.ErrUnknownNode, name)
		}
	}
	for _, member := range members {
		if member.Membership == rebalance.Active && !slices.Contains(in.Remove, member.Name) {
			request.Keep = append(request.Keep, member.Name)
		}
	}
	if len(request.Keep) == 0 {
		return request, &control.FieldError{Field: "remove", Value: in.Remove, Why: "nobody would be left"}
	}
	return request, nil
}

func (m *Manager) plan(ctx context.Context, r *http.Request) (any, error) {
	in, err := read[control.RebalanceRequest](r)
	if err != nil {
		return nil, err
	}
	if len(in.Add) > 0 {
		return nil, &control.FieldError{Field: "add", Value: len(in.Add), Why: "a plan changes nothing; nodes have to be known before"}
	}
	request, err := requestOf(ctx, m.cluster, in)
	if err != nil {
		return nil, err
	}
	return m.cluster.Plan(ctx, request)
}

func (m *Manager) rebalance(ctx context.Context, r *http.Request) (any, error) {
	in, err := read[control.RebalanceRequest](r)
	if err != nil {
		return nil, err
	}
	run, err := m.begin(ctx, func(ctx context.Context) (*rebalance.Run, error) { return Begin(ctx, m.cluster, in) })
	if err != nil {
		return nil, err
	}
	if len(in.Remove) > 0 {
		m.work.Go(func() {
			if err := Forget(m.life, m.cluster, run, in.Remove); err != nil && m.life.Err() == nil {
				m.log.Warn("nodes_not_removed", "nodes", in.Remove, "err", err)
			}
		})
	}
	return control.Started{ID: run.ID()}, nil
}

// begin has a rebalance started, unless the manager is closing.
func (m *Manager) begin(ctx context.Context, start func(ctx context.Context) (*rebalance.Run, error)) (*rebalance.Run, error) {
	if !m.enter(&m.starts) {
		return nil, errClosing
	}
	defer m.starts.Done()
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	return start(ctx)
}

// Begin makes the nodes known that a request adds, and starts the rebalance.
func Begin(ctx context.Context, cluster *rebalance.Cluster, in control.RebalanceRequest) (*rebalance.Run, error) {
	for _, node := range in.Add {
		if err := addNode(ctx, cluster, node); err != nil {
			return nil, err
		}
	}
	request, err := requestOf(ctx, cluster, in)
	if err != nil {
		return nil, err
	}
	return cluster.Rebalance(ctx, request)
}

// Forget waits for a rebalance, and makes the cluster forget the nodes that it has emptied, if it is complete.
func Forget(ctx context.Context, cluster *rebalance.Cluster, run *rebalance.Run, nodes []string) error {
	report, err := run.Wait(ctx)
	if err != nil || report.Outcome != rebalance.Complete {
		return err
	}
	var errs []error
	for _, node := range nodes {
		errs = append(errs, cluster.RemoveNode(ctx, node))
	}
	return errors.Join(errs...)
}

// find is the rebalance of a request's path.
func (m *Manager) find(r *http.Request) (*rebalance.Run, error) {
	id := r.PathValue("id")
	if id == control.Current {
		if run := m.cluster.CurrentRun(); run != nil {
			return run, nil
		}
		return nil, &control.Problem{Code: control.CodeNoRebalance, Text: "no rebalance is running"}
	}
	if run := m.cluster.Run(id); run != nil {
		return run, nil
	}
	return nil, &control.Problem{Code: control.CodeNoRebalance, Text: fmt.Sprintf("no rebalance %q is running or has just ended", id), Field: "id", Value: id}
}

// follower is the one of a rebalance. It is made when somebody asks for the first time.
func (m *Manager) follower(run *rebalance.Run) *follower {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.followers[run.ID()]
	if f == nil {
		f = follow(run)
		m.followers[run.ID()] = f
		m.work.Go(func() {
			f.watch(m.life)
			m.mu.Lock()
			delete(m.followers, run.ID()) // who asks again gets another, which ends at once
			m.mu.Unlock()
		})
	}
	return f
}

func (m *Manager) progress(w http.ResponseWriter, r *http.Request) {
	run, err := m.find(r)
	if err != nil {
		control.Refuse(w, err)
		return
	}
	if !m.enter(&m.streams) {
		control.Refuse(w, errClosing)
		return
	}
	defer m.streams.Done()
	m.follower(run).stream(w, r)
}

func (m *Manager) stop(ctx context.Context, r *http.Request) (any, error) {
	run, err := m.find(r)
	if err != nil {
		return nil, err
	}
	if err := run.Stop(ctx); err != nil {
		return nil, err
	}
	return run.Wait(ctx)
}

// steer has a rebalance paused or resumed.
func (m *Manager) steer(how func(*rebalance.Run, context.Context) error) func(context.Context, *http.Request) (any, error) {
	return func(ctx context.Context, r *http.Request) (any, error) {
		run, err := m.find(r)
		if err != nil {
			return nil, err
		}
		return control.Started{ID: run.ID()}, how(run, ctx)
	}
}

// abortMove ends one move of a rebalance; the others go on.
func (m *Manager) abortMove(ctx context.Context, r *http.Request) (any, error) {
	move, err := read[control.Move](r)
	if err != nil {
		return nil, err
	}
	run, err := m.find(r)
	if err != nil {
		return nil, err
	}
	return move, run.AbortMove(ctx, move.Bucket, move.VB)
}

// setThrottle slows rebalances down, or lets them go.
func (m *Manager) setThrottle(ctx context.Context, r *http.Request) (any, error) {
	throttle, err := read[rebalance.Throttle](r)
	if err != nil {
		return nil, err
	}
	if throttle.MovesPerNode < 0 || throttle.BytesPerSecond < 0 {
		return nil, &control.FieldError{Field: "throttle", Value: throttle, Why: "must not be negative"}
	}
	return throttle, m.cluster.SetThrottle(ctx, throttle)
}

func (m *Manager) pendingRetry(ctx context.Context, _ *http.Request) (any, error) {
	pending, err := m.cluster.PendingRetry(ctx)
	if pending == nil {
		pending = &rebalance.PendingRetry{State: rebalance.RetryNotPending}
	}
	return pending, err
}

func (m *Manager) cancelRetry(ctx context.Context, _ *http.Request) (any, error) {
	return struct{}{}, m.cluster.CancelRetry(ctx)
}
