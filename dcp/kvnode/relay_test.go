package kvnode_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// seen is a frame that the relay read, and from which end.
type seen struct {
	from  kvnode.Role
	frame mcbp.Frame
}

// relay joins two nodes as a cluster manager does: it passes frames on, keeps the answers to its own requests, and
// remembers everything in the order in which it was read.
type relay struct {
	t                  testing.TB
	name               string
	consumer, producer *client
	writing            [2]sync.Mutex
	wg                 sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{}
	log     []seen
	ended   [2]bool
	next    uint16

	// gate guards the order of frames towards the consumer; held are those kept back while holding.
	gate    sync.Mutex
	holding bool
	held    []mcbp.Frame
}

const testLink = "replication:n0->n1:default"

// join opens both ends and starts relaying.
func join(t testing.TB, producer, consumer *kvnode.Node, name string) *relay {
	t.Helper()
	r := &relay{t: t, name: name, changed: make(chan struct{})}
	r.consumer = openDCP(t, consumer, kvnode.RoleConsumer, name, consumer.Name())
	r.producer = openDCP(t, producer, kvnode.RoleProducer, name, "")
	r.wg.Go(func() { r.run(kvnode.RoleConsumer, r.consumer, r.producer) })
	r.wg.Go(func() { r.run(kvnode.RoleProducer, r.producer, r.consumer) })
	t.Cleanup(r.close)
	return r
}

func (r *relay) close() {
	r.consumer.socket.Close()
	r.producer.socket.Close()
	r.wg.Wait()
}

func (r *relay) run(from kvnode.Role, in, out *client) {
	for {
		f, err := in.tryRead()
		if err != nil {
			r.note(func() { r.ended[from] = true })
			return
		}
		r.note(func() { r.log = append(r.log, seen{from, f}) })
		if own(f) {
			continue
		}
		if from == kvnode.RoleConsumer {
			r.inject(kvnode.RoleProducer, f)
		} else {
			r.pass(f)
		}
	}
}

// pass sends a frame on to the consumer, or keeps it back.
func (r *relay) pass(f mcbp.Frame) {
	r.gate.Lock()
	defer r.gate.Unlock()
	if r.holding {
		r.held = append(r.held, f)
	} else {
		r.inject(kvnode.RoleConsumer, f)
	}
}

// hold keeps frames towards the consumer back, or lets them go.
func (r *relay) hold(on bool) {
	r.gate.Lock()
	defer r.gate.Unlock()
	r.holding = on
	for _, f := range r.held {
		r.inject(kvnode.RoleConsumer, f)
	}
	r.held = nil
}

// own says whether a frame answers the relay itself.
func own(f mcbp.Frame) bool {
	switch f.Opcode() {
	case mcbp.OpDCPAddStream, mcbp.OpDCPCloseStream:
		return f.IsResponse()
	case mcbp.OpDCPNoop:
		return f.IsResponse() && f.Opaque()[0] == probeMark
	}
	return false
}

// probeMark starts the opaques of NOOPs that tests ask with. Those of nodes start with other bytes for a long while.
const probeMark = 0xab

func (r *relay) note(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	close(r.changed)
	r.changed = make(chan struct{})
}

// inject writes a frame to one end.
func (r *relay) inject(to kvnode.Role, f mcbp.Frame) {
	c := r.consumer
	if to == kvnode.RoleProducer {
		c = r.producer
	}
	r.writing[to].Lock()
	defer r.writing[to].Unlock()
	_ = c.socket.SetWriteDeadline(time.Now().Add(patience))
	_, _ = c.socket.Write(f) // a broken socket shows in the other direction
}

// await returns the first frame, at or after a position in the log, that matches, and the position after it.
func (r *relay) await(what string, at int, match func(seen) bool) (mcbp.Frame, int) {
	r.t.Helper()
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		for ; at < len(r.log); at++ {
			if match(r.log[at]) {
				defer r.mu.Unlock()
				return r.log[at].frame, at + 1
			}
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-deadline:
			var story []string
			for _, s := range r.frames(0) {
				story = append(story, s.from.String()+": "+s.frame.String())
			}
			require.FailNow(r.t, "did not come: "+what, strings.Join(story, "\n"))
		}
	}
}

// awaitEnd waits until one end's socket is closed.
func (r *relay) awaitEnd(of kvnode.Role) {
	r.t.Helper()
	eventually(r.t, of.String()+" closes", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.ended[of]
	})
}

// frames is a copy of the log.
func (r *relay) frames(at int) []seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]seen(nil), r.log[at:]...)
}

func (r *relay) position() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.log)
}

func (r *relay) opaque() mcbp.Opaque {
	r.next++
	return mcbp.Opaque{0xff, byte(r.next >> 8), byte(r.next), 0xff}
}

// add injects an ADD_STREAM without waiting.
func (r *relay) add(vb uint16, flags uint32) mcbp.Opaque {
	opaque := r.opaque()
	r.inject(kvnode.RoleConsumer, mcbp.AddStream{VBucket: vb, Opaque: opaque, Flags: flags}.Append(nil))
	return opaque
}

// answer waits for the answer to one of the relay's own requests.
func (r *relay) answer(from kvnode.Role, opaque mcbp.Opaque) mcbp.Frame {
	r.t.Helper()
	f, _ := r.await("answer to "+opaque.String(), 0, func(s seen) bool {
		return s.from == from && s.frame.IsResponse() && s.frame.Opaque() == opaque
	})
	return f
}

// open adds a stream and waits until it is there.
func (r *relay) open(vb uint16, flags uint32) {
	r.t.Helper()
	require.Equal(r.t, mcbp.StatusSuccess, r.answer(kvnode.RoleConsumer, r.add(vb, flags)).Status())
}

// shutStream closes a stream at both ends and waits for both answers.
func (r *relay) shutStream(vb uint16) {
	r.t.Helper()
	opaque := r.opaque()
	f := mcbp.CloseStream{VBucket: vb, Opaque: opaque}.Append(nil)
	r.inject(kvnode.RoleConsumer, f)
	r.inject(kvnode.RoleProducer, f)
	require.Equal(r.t, mcbp.StatusSuccess, r.answer(kvnode.RoleConsumer, opaque).Status())
	require.Equal(r.t, mcbp.StatusSuccess, r.answer(kvnode.RoleProducer, opaque).Status())
}

func isRequest(op mcbp.Opcode, vb uint16) func(seen) bool {
	return func(s seen) bool { return !s.frame.IsResponse() && s.frame.Opcode() == op && s.frame.VBucket() == vb }
}
