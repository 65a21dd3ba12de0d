package workload

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstPause = time.Millisecond
	maxPause   = 100 * time.Millisecond
)

// backoff spaces out the attempts of one operation: 1 ms at first, doubling up to 100 ms, each shortened at random by up
// to a half so that clients do not come back all at once.
type backoff struct{ next time.Duration }

// pause waits, or returns early when ctx ends.
func (b *backoff) pause(ctx context.Context) {
	b.next = min(max(2*b.next, firstPause), maxPause)
	timer := time.NewTimer(b.next - rand.N(b.next/2))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
