package rebalance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// This file is what an agent does at its node. It runs beside the agent's mailbox and touches none of the agent's state.

// parallelOrders is how many vbuckets of a bulk order are set or deleted at a time.
const parallelOrders = 32

// run carries out an order. Calls to the node are not broken off when fence ends, because what the node has been told it
// may do at any time until it has answered; the next part of the order is not begun.
func (a *agent) run(ctx, fence context.Context, o order) error {
	switch r := o.(type) {
	case setState:
		return a.setState(ctx, vbucketState{VB: r.VB, State: r.State, Topology: r.Topology})
	case setStream:
		return ofVBucket(a.replications.Apply(ctx, r.Epoch, r.Owner, map[uint16]string{r.VB: r.Producer}), r.VB)
	case takeover:
		return ofVBucket(a.replications.Takeover(ctx, r.Epoch, r.Owner, r.VB, r.Producer), r.VB)
	case deleteCopy:
		return a.deleteCopy(ctx, r.VB)
	case applyStates:
		return a.applyStates(ctx, fence, r)
	case endStreams:
		return a.endStreams(ctx, fence, r)
	case openStreams:
		return a.openStreams(ctx, r)
	case admitClients:
		_, err := within(ctx, a.orderLimit(), func(ctx context.Context) (struct{}, error) {
			return struct{}{}, a.nodes.main.EnableTraffic(ctx)
		})
		return err
	case releaseOwner:
		return a.replications.Release(ctx, r.Epoch, r.Owner)
	}
	return fmt.Errorf("%w: %T", errUnknownRequest, o)
}

var errUnknownRequest = errors.New("agent does not know the request")

// ofVBucket takes the one vbucket's error out of a call's.
func ofVBucket(err error, vb uint16) error {
	var apply *dcp.ApplyError
	if errors.As(err, &apply) && apply.ByVB[vb] != nil {
		return apply.ByVB[vb]
	}
	return err
}

// orderLimit bounds an order to the node. A move's own watchdog, which says more, comes first.
func (a *agent) orderLimit() time.Duration { return a.limits.Move.State + a.limits.Grace }

func (a *agent) setState(ctx context.Context, s vbucketState) error {
	_, err := within(ctx, a.orderLimit(), func(ctx context.Context) (struct{}, error) {
		return struct{}{}, a.nodes.main.SetVBucket(ctx, s.VB, s.State, s.Topology)
	})
	if err == nil {
		a.log.Debug("agent_state_set", "vb", s.VB, "state", s.State)
		a.env.events.Publish(VBucketStateSet{
			Bucket: a.bucket, Node: a.node, VB: s.VB, State: s.State, Topology: s.Topology, At: time.Now(),
		})
	}
	return err
}

// deleteCopy looks before it deletes: whatever is decided elsewhere, on whatever grounds, an active copy is not deleted.
func (a *agent) deleteCopy(ctx context.Context, vb uint16) error {
	_, err := within(ctx, a.orderLimit(), func(ctx context.Context) (struct{}, error) {
		state, err := a.nodes.main.VBucketState(ctx, vb)
		if err == nil && state == mcbp.VBucketActive {
			err = &ActiveCopy{VB: vb}
		}
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, a.nodes.main.DeleteVBucket(ctx, vb)
	})
	if err == nil {
		a.log.Debug("agent_copy_deleted", "vb", vb)
	}
	return err
}

// applyStates is the janitor's first phase. All states are tried; the first failure is returned.
func (a *agent) applyStates(ctx, fence context.Context, r applyStates) error {
	if err := a.replications.Retain(ctx, r.Epoch, r.Owner, r.Retain); err != nil {
		return err
	}
	err := inParallel(fence, r.States, func(s vbucketState) (uint16, error) { return s.VB, a.setState(ctx, s) })
	if err != nil {
		return err
	}
	return inParallel(fence, r.Delete, func(vb uint16) (uint16, error) { return vb, a.deleteCopy(ctx, vb) })
}

// openStreams is the janitor's second phase. Vbuckets that the replications keep apart, because their streams crash a
// connection, are wanted but not waited for: they come back alone, after their pause.
func (a *agent) openStreams(ctx context.Context, r openStreams) error {
	status, err := a.replications.Status(ctx)
	if err != nil {
		return err
	}
	now, apart := map[uint16]string{}, map[uint16]string{}
	for vb, producer := range r.Streams {
		if _, kept := status.KeptApart[vb]; kept {
			apart[vb] = producer
		} else {
			now[vb] = producer
		}
	}
	if err := a.replications.Apply(ctx, r.Epoch, r.Owner, now); err != nil || len(apart) == 0 {
		return err
	}
	return a.replications.Want(ctx, r.Epoch, apart)
}

// inParallel does f for every item, a few at a time, until fence ends. Those that failed are in a *dcp.ApplyError.
func inParallel[T any](fence context.Context, items []T, f func(T) (uint16, error)) error {
	var (
		group  errgroup.Group
		mu     sync.Mutex
		failed = map[uint16]error{}
	)
	group.SetLimit(parallelOrders)
	for _, item := range items {
		group.Go(func() error {
			if fence.Err() != nil {
				return dcp.ErrSuperseded
			}
			if vb, err := f(item); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed[vb] = err
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if len(failed) > 0 {
		return &dcp.ApplyError{ByVB: failed}
	}
	return nil
}

// read answers a question.
func (a *agent) read(ctx context.Context, r agentRequest) (any, error) {
	switch r := r.(type) {
	case readSeqno:
		return within(ctx, a.limits.Query, func(ctx context.Context) (any, error) {
			info, err := a.nodes.main.VBucketSeqno(ctx, r.VB)
			return seqnoAnswer{High: info.High, Persisted: info.Persisted}, err
		})
	case readEstimate:
		return within(ctx, a.limits.Query, func(ctx context.Context) (any, error) {
			connection := dcp.ConnectionName(a.node, r.Consumer, a.bucket, int(r.VB)%a.env.config.Connections)
			estimate, err := a.nodes.main.TakeoverEstimate(ctx, r.VB, connection)
			return estimateAnswer{Status: estimate.Status, Items: estimate.Items}, err
		})
	case awaitPersisted:
		// No deadline: how long an engine waits is its own setting, and the move that asks watches the progress. The wait
		// ends with the connection, or the agent.
		err := a.nodes.persistence.SeqnoPersistence(ctx, r.VB, r.Seqno)
		if errors.Is(err, mcbp.StatusTemporaryFailure) {
			return persistedAnswer{Again: true}, nil
		}
		return persistedAnswer{}, err
	case readDigest:
		return within(ctx, a.limits.Query, func(ctx context.Context) (any, error) { return a.readDigest(ctx, r) })
	case readHistory:
		return within(ctx, a.limits.Query, func(ctx context.Context) (any, error) {
			entries, err := a.nodes.main.FailoverLog(ctx, r.VB)
			return historyAnswer{Entries: entries}, err
		})
	case query:
		return within(ctx, a.limits.Query, a.query)
	case shutReplications:
		return within(ctx, a.limits.Prepare, func(ctx context.Context) (any, error) { return nil, a.replications.Shut(ctx) })
	}
	return nil, fmt.Errorf("%w: %T", errUnknownRequest, r)
}

func (a *agent) query(ctx context.Context) (any, error) {
	infos, err := a.nodes.main.VBuckets(ctx)
	if err != nil {
		return nil, err
	}
	admits, err := a.nodes.main.Admits(ctx)
	if err != nil {
		return nil, err
	}
	status, err := a.replications.Status(ctx)
	if err != nil {
		return nil, err
	}
	answer := queryAnswer{
		Copies: make(map[uint16]copyInfo, len(infos)), Streams: liveStreams(status), Wanted: status.Desired, Admits: admits,
	}
	for vb, info := range infos {
		answer.Copies[vb] = copyInfo{
			State: info.State, Topology: info.Topology, HighSeqno: info.HighSeqno, HighPrepared: info.HighPreparedSeqno,
			Persisted: info.PersistedSeqno, UUID: info.UUID, Items: info.NumItems,
		}
	}
	return answer, nil
}
