package kvnode

import (
	"io"
	"sync"
)

// outboxKeep is the largest buffer, in bytes, that an outbox keeps between writes.
const outboxKeep = 1 << 20

// outbox collects what one connection has to say, so that many small frames leave with one write. Any goroutine may
// append; whoever calls flush first writes for all, and nobody holds the lock while the socket is written.
type outbox struct {
	mu      sync.Mutex
	changed sync.Cond
	pending []byte
	spare   []byte
	writing bool
	// failed is set once and makes every later append a no-op.
	failed bool
}

func newOutbox() *outbox {
	o := &outbox{}
	o.changed.L = &o.mu
	return o
}

// begin locks the outbox and returns the buffer to append whole frames to. The caller must give it to end.
func (o *outbox) begin() []byte {
	o.mu.Lock()
	return o.pending
}

// end takes the buffer back.
func (o *outbox) end(b []byte) {
	if o.failed {
		b = nil
	}
	o.pending = b
	o.mu.Unlock()
}

// append adds whole frames that exist already.
func (o *outbox) append(frame []byte) { o.end(append(o.begin(), frame...)) }

// len is the number of bytes that no write has taken yet.
func (o *outbox) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.pending)
}

// flush writes until nothing is pending. If another goroutine is writing already, that one takes what is there.
func (o *outbox) flush(w io.Writer) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writing {
		return nil
	}
	o.writing = true
	defer func() {
		o.writing = false
		o.changed.Broadcast()
	}()
	for len(o.pending) > 0 && !o.failed {
		b := o.pending
		o.pending, o.spare = o.spare[:0], nil
		o.mu.Unlock()
		_, err := w.Write(b)
		o.mu.Lock()
		if cap(b) <= outboxKeep {
			o.spare = b[:0]
		}
		if err != nil {
			o.fail()
			return err
		}
		o.changed.Broadcast()
	}
	return nil
}

// fail discards what is pending, now and from now on. The caller holds mu.
func (o *outbox) fail() {
	o.failed = true
	o.pending, o.spare = nil, nil
	o.changed.Broadcast()
}

// abandon is fail for callers without the lock: it wakes whoever waits in waitBelow.
func (o *outbox) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fail()
}

// waitBelow returns when fewer than limit bytes are pending, or the outbox has failed: a peer that does not read what it
// asked for is not read from either.
func (o *outbox) waitBelow(limit int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.pending) >= limit && !o.failed {
		o.changed.Wait()
	}
}

// waitIdle returns when nobody is writing.
func (o *outbox) waitIdle() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.writing {
		o.changed.Wait()
	}
}
