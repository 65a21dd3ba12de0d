package rebalance

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/supervisor"
)

// fakeReplications is the streams into one node of a [fakeWorld], with the epochs of the real ones.
type fakeReplications struct {
	world *fakeWorld
	node  string

	mu      sync.Mutex
	epoch   uint64
	streams map[uint16]string
	calls   map[*fakeCall]bool
	alive   context.Context
	counted []uint16
	carried uint64
}

func (r *fakeReplications) Count(vbs []uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counted = slices.Clone(vbs)
}

func (r *fakeReplications) Carried() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.carried
}

// documentBytes is what each document costs a stream of the fakes.
const documentBytes = 1000

func (r *fakeReplications) carry(vb uint16, documents uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Contains(r.counted, vb) {
		r.carried += documents * documentBytes
	}
}

// fakeCall is a change under way. Its caller can be sent away while it goes on.
type fakeCall struct {
	epoch      uint64
	superseded chan struct{}
	left       bool
	ended      chan struct{}
	fence      context.CancelCauseFunc
}

// fakeGrace is how long a new epoch waits for changes of older ones before it breaks them off.
const fakeGrace = 10 * time.Second

// replicate makes the tree of a node's replications: one process, with whose end everything is broken off.
func (w *fakeWorld) replicate(_, node string) (supervisor.ChildSpec, replications, error) {
	r := &fakeReplications{world: w, node: node, calls: map[*fakeCall]bool{}}
	child := supervisor.Worker("replications", func() actors.Process { return &fakeManager{replications: r} })
	return child, r, nil
}

type fakeManager struct {
	actors.Base
	replications *fakeReplications
}

func (m *fakeManager) Init(c *actors.Context) error {
	r := m.replications
	r.world.mu.Lock()
	r.world.replications[r.node] = r
	r.world.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch, r.streams, r.alive = 0, map[uint16]string{}, c.Ctx()
	return nil
}

// change performs f as a call of an epoch.
func (r *fakeReplications) change(ctx context.Context, epoch uint64, f func(ctx context.Context) error) error {
	r.mu.Lock()
	if epoch != r.epoch {
		defer r.mu.Unlock()
		return &dcp.StaleEpoch{Got: epoch, Current: r.epoch}
	}
	inner, fence := context.WithCancelCause(r.alive)
	call := &fakeCall{epoch: epoch, superseded: make(chan struct{}), ended: make(chan struct{}), fence: fence}
	r.calls[call] = true
	r.mu.Unlock()
	var err error
	go func() {
		defer close(call.ended)
		defer fence(nil)
		err = f(inner)
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.calls, call)
	}()
	select {
	case <-call.ended:
		return err
	case <-call.superseded:
		return dcp.ErrSuperseded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *fakeReplications) Prepare(ctx context.Context, epoch uint64) error {
	if err := r.world.pass(ctx, r.node, "prepare", 0); err != nil {
		return err
	}
	r.mu.Lock()
	if epoch < r.epoch {
		defer r.mu.Unlock()
		return &dcp.StaleEpoch{Got: epoch, Current: r.epoch}
	}
	r.epoch = epoch
	var older []*fakeCall
	for call := range r.calls {
		if call.epoch < epoch {
			if !call.left { // an epoch that was overtaken may have sent its caller away
				call.left = true
				close(call.superseded)
			}
			older = append(older, call)
		}
	}
	r.mu.Unlock()
	grace, cancel := context.WithTimeout(ctx, fakeGrace)
	defer cancel()
	for _, call := range older {
		select {
		case <-call.ended:
		case <-grace.Done():
			call.fence(dcp.ErrFenced)
			<-call.ended
		}
	}
	return ctx.Err()
}

func (r *fakeReplications) Apply(ctx context.Context, epoch uint64, _ string, changes map[uint16]string) error {
	return r.change(ctx, epoch, func(ctx context.Context) error {
		failed := map[uint16]error{}
		for _, vb := range sortedKeys(changes) {
			if err := r.point(ctx, vb, changes[vb]); err != nil {
				failed[vb] = err
			}
		}
		if len(failed) > 0 {
			return &dcp.ApplyError{ByVB: failed}
		}
		return nil
	})
}

// point opens or closes one stream.
func (r *fakeReplications) point(ctx context.Context, vb uint16, producer string) error {
	if r.stream(vb) == producer {
		return nil
	}
	if was := r.stream(vb); was != "" && producer != "" {
		r.world.mu.Lock()
		r.world.sayf("vb %d: %s streams from %s when it is to stream from %s", vb, r.node, was, producer)
		r.world.mu.Unlock()
	}
	what := "open"
	if producer == "" {
		what = "close"
	}
	if err := r.world.pass(ctx, r.node, what, vb); err != nil {
		return &dcp.LinkError{Producer: producer, Consumer: r.node, Err: err}
	}
	if producer != "" {
		if err := r.world.copyData(producer, r.node, vb); err != nil {
			return &dcp.LinkError{Producer: producer, Consumer: r.node, Err: err}
		}
	}
	r.set(vb, producer)
	return nil
}

func (r *fakeReplications) stream(vb uint16) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.streams[vb]
}

func (r *fakeReplications) set(vb uint16, producer string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams[vb] = producer
	if producer == "" {
		delete(r.streams, vb)
	}
}

func (r *fakeReplications) Retain(ctx context.Context, epoch uint64, _ string, wanted map[uint16]string) error {
	return r.change(ctx, epoch, func(ctx context.Context) error {
		r.mu.Lock()
		live := sortedKeys(r.streams)
		r.mu.Unlock()
		for _, vb := range live {
			if wanted[vb] != r.stream(vb) {
				if err := r.point(ctx, vb, ""); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (r *fakeReplications) Takeover(ctx context.Context, epoch uint64, _ string, vb uint16, producer string) error {
	return r.change(ctx, epoch, func(ctx context.Context) error {
		if err := r.takeover(ctx, vb, producer); err != nil {
			return &dcp.LinkError{Producer: producer, Consumer: r.node, Err: err}
		}
		return nil
	})
}

// takeover can be broken off at four places: before anything has happened, with both still ready to go on, with nobody
// active, and with its success untold.
func (r *fakeReplications) takeover(ctx context.Context, vb uint16, producer string) error {
	if err := r.world.pass(ctx, r.node, "takeover", vb); err != nil {
		return err
	}
	r.set(vb, "")
	if err := r.world.copyData(producer, r.node, vb); err != nil {
		return err
	}
	r.world.switchState(r.node, vb, mcbp.VBucketPending)
	if err := r.world.pass(ctx, r.node, "takeover with the consumer pending", vb); err != nil {
		return err
	}
	r.world.switchState(producer, vb, mcbp.VBucketDead)
	if err := r.world.pass(ctx, r.node, "takeover with nobody active", vb); err != nil {
		return err
	}
	r.world.switchState(r.node, vb, mcbp.VBucketActive)
	return r.world.pass(ctx, r.node, "takeover that has happened", vb)
}

// switchState is the state change of a takeover, which begins no branch.
func (w *fakeWorld) switchState(node string, vb uint16, state mcbp.VBucketState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if state == mcbp.VBucketActive {
		w.activated(node, vb)
	}
	w.nodes[node].copies[vb].state = state
}

func (r *fakeReplications) Want(ctx context.Context, epoch uint64, wanted map[uint16]string) error {
	return r.Apply(ctx, epoch, "", wanted)
}

func (r *fakeReplications) Release(ctx context.Context, epoch uint64, _ string) error {
	return r.change(ctx, epoch, func(ctx context.Context) error { return r.world.pass(ctx, r.node, "release", 0) })
}

// Fence breaks the only connection with a producer.
func (r *fakeReplications) Fence(ctx context.Context, _ uint16, producer string) error {
	if err := r.world.pass(ctx, r.node, "fence", 0); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for vb, from := range r.streams {
		if from == producer {
			delete(r.streams, vb)
		}
	}
	for call := range r.calls {
		call.fence(dcp.ErrFenced)
	}
	return nil
}

func (r *fakeReplications) Status(context.Context) (dcp.Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	byProducer := map[string][]uint16{}
	for vb, producer := range r.streams {
		byProducer[producer] = append(byProducer[producer], vb)
	}
	var status dcp.Status
	for producer, vbs := range byProducer {
		status.Links = append(status.Links, dcp.LinkStatus{Producer: producer, Streams: vbs})
	}
	return status, nil
}

func (r *fakeReplications) Shut(ctx context.Context) error {
	return r.world.pass(ctx, r.node, "shut", 0)
}
