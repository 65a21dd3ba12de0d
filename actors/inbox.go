package actors

import "sync"

// inbox holds the messages of one process until it handles them. Proto.Actor's mailbox schedules the process and carries
// no more than a wake-up: its own queues either never give back the memory of their fullest moment or allocate for every
// message, and they unpack some types and take a nil for the end.
//
// The process takes everything that is there in one piece, so senders and receiver meet at the lock once per batch.
type inbox struct {
	mu     sync.Mutex
	in     []item
	taken  int  // size of the batch in hand
	awake  bool //  a wake-up is under way, or the process looks at the inbox before it rests
	closed bool
}

// item is one message and what it is.
type item struct {
	kind kind
	msg  any
}

type kind uint8

const (
	plain  kind = iota // for HandleInfo
	casted             // for HandleCast
	called             // a *call, for HandleCall
	ours               // one of this package's own, see handleOurs
)

// The messages of room that a process keeps at most: at rest, and while it is busy, where more is kept if it is used.
const (
	restRoom = 16
	busyRoom = 1024
)

// put appends an item, unless the inbox is closed, and reports whether the process has to be woken up.
func (b *inbox) put(it item) (wake bool) {
	b.mu.Lock()
	if !b.closed {
		b.in = append(b.in, it)
		wake = !b.awake
		b.awake = true
	}
	b.mu.Unlock()
	return wake
}

// take returns all items there are, oldest first, and takes back the previous batch as room for the next ones; room that
// the present flow does not need is given up. After an empty batch the process may rest: the next put wakes it up.
func (b *inbox) take(done []item) []item {
	clear(done)
	b.mu.Lock()
	batch := b.in
	b.taken = len(batch)
	if len(batch) > 0 {
		b.in = done[:0]
		if cap(done) > max(4*len(batch), busyRoom) {
			b.in = nil
		}
	} else {
		if cap(b.in) == 0 {
			b.in = done[:0]
		}
		if cap(b.in) > restRoom {
			b.in = nil
		}
		b.awake = false
	}
	b.mu.Unlock()
	return batch
}

// close drops what is there and all that comes.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed, b.in = true, nil
}

// size returns how many messages wait, and those of the batch in hand.
func (b *inbox) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.in) + b.taken
}
