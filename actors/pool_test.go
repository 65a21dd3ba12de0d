package actors

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func (p *pool) resting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
}

// Everything that is scheduled runs once, at the same time if it has to; the goroutines that stay are few, and are used again.
func TestPool(t *testing.T) {
	p := newPool()
	for range 3 {
		var all, entered sync.WaitGroup
		entered.Add(50)
		for range 50 {
			all.Add(1)
			p.Schedule(func() {
				defer all.Done()
				entered.Done()
				entered.Wait() // for the others, so there must be as many goroutines
			})
		}
		all.Wait()
		require.Eventually(t, func() bool { return p.resting() == p.limit }, 10*time.Second, time.Millisecond)
	}
	before := runtime.NumGoroutine()
	for range 1000 {
		done := make(chan struct{})
		p.Schedule(func() { close(done) })
		<-done
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), before)
	p.close()
	require.Zero(t, p.resting())
	ran := make(chan struct{})
	p.Schedule(func() { close(ran) })
	<-ran
	require.Zero(t, p.resting())
}

// A function that ends its goroutine takes nothing with it.
func TestPoolSurvivesGoexit(t *testing.T) {
	p := newPool()
	for range 3 * p.limit {
		done := make(chan struct{})
		p.Schedule(func() {
			defer close(done)
			runtime.Goexit()
		})
		<-done
	}
	require.Zero(t, p.resting())
	ran := make(chan struct{})
	p.Schedule(func() { close(ran) })
	<-ran
	require.Eventually(t, func() bool { return p.resting() == 1 }, 10*time.Second, time.Millisecond)
	p.close()
}

// A system that is given up without being closed is collected, and its goroutines end.
func TestForgottenSystemKeepsNoGoroutines(t *testing.T) {
	var p *pool
	func() {
		s := NewSystem(Options{})
		p = s.dispatcher.(*pool)
		pid, err := s.Start(t.Context(), Base{})
		require.NoError(t, err)
		require.NoError(t, pid.Stop(t.Context(), nil))
		require.Eventually(t, func() bool { return p.resting() > 0 }, 10*time.Second, time.Millisecond)
	}()
	require.Eventually(t, func() bool {
		runtime.GC()
		return p.resting() == 0
	}, 10*time.Second, time.Millisecond)
}
