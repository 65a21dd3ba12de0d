package actors

import (
	"runtime"
	"sync"
)

// pool is the default dispatcher: a goroutine for each mailbox that has messages, as many as there are. A few of them are
// kept when they have done, to be given the next mailbox: a new goroutine has a small stack, and to let it grow, on the
// way from a mailbox to a callback and back, costs as much as all the rest of that way.
type pool struct {
	limit int

	mu     sync.Mutex
	idle   []chan func() // the one that has worked last at the end
	closed bool
}

// defaultThroughput is Proto.Actor's own value.
const defaultThroughput = 300

func newPool() *pool { return &pool{limit: 2 * runtime.GOMAXPROCS(0)} }

// Schedule implements Dispatcher.
func (p *pool) Schedule(fn func()) {
	p.mu.Lock()
	last := len(p.idle) - 1
	if last < 0 {
		p.mu.Unlock()
		go p.work(fn)
		return
	}
	next := p.idle[last]
	p.idle = p.idle[:last]
	p.mu.Unlock()
	next <- fn // has room: it is given to one at a time
}

// Throughput implements Dispatcher.
func (p *pool) Throughput() int { return defaultThroughput }

// work runs what it is given until it is not needed any more. If fn ends the goroutine, nobody misses it.
func (p *pool) work(fn func()) {
	var next chan func()
	for fn != nil {
		fn()
		if next == nil {
			next = make(chan func(), 1)
		}
		if !p.rest(next) {
			return
		}
		fn = <-next
	}
}

// rest enters a goroutine among the idle, unless there are enough.
func (p *pool) rest(next chan func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= p.limit {
		return false
	}
	p.idle = append(p.idle, next)
	return true
}

// close ends the idle, and lets the others end when they have done.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, next := range p.idle {
		next <- nil
	}
	p.idle = nil
}
