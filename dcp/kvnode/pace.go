package kvnode

import (
	"sync"
	"time"
)

// DiskStalled is the rate of a disk that stands still.
const DiskStalled = -1

// pace makes a disk as slow as it is told to be.
type pace struct {
	mu      sync.Mutex
	rate    int64
	changed chan struct{}
}

func newPace(rate int64) *pace { return &pace{rate: rate, changed: make(chan struct{})} }

// set changes the rate, also for who is waiting.
func (p *pace) set(rate int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = rate
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pace) get() (rate int64, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate, p.changed
}

// wait takes as long as so many bytes do. It reports false if quit was closed first.
func (p *pace) wait(bytes int64, quit <-chan struct{}) bool {
	for left := float64(bytes); left > 0; {
		rate, changed := p.get()
		if rate == 0 {
			break
		}
		var over <-chan time.Time
		var timer *time.Timer
		if rate > 0 {
			timer = time.NewTimer(time.Duration(left / float64(rate) * float64(time.Second)))
			over = timer.C
		}
		since := time.Now()
		select {
		case <-quit:
		case <-over:
			left = 0
		case <-changed:
			if rate > 0 {
				left -= time.Since(since).Seconds() * float64(rate)
			}
		}
		if timer != nil {
			timer.Stop()
		}
		select {
		case <-quit:
			return false
		default:
		}
	}
	return true
}
