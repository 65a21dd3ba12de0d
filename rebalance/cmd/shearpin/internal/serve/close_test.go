package serve

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance"
)

// The end of a manager waits for a rebalance that is being started, so that it is stopped too, but not longer than it is given.
func TestTheEndWaitsForAStartWithinLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &Manager{closing: make(chan struct{})}
		started := make(chan error, 1)
		go func() {
			_, err := m.begin(t.Context(), func(ctx context.Context) (*rebalance.Run, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
			started <- err
		}()
		synctest.Wait()
		began := time.Now()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		m.shut(short)
		assert.Equal(t, time.Second, time.Since(began), "no longer than it is given")
		_, err := m.begin(t.Context(), nil)
		require.ErrorIs(t, err, errClosing)
		require.NoError(t, wait(t.Context(), &m.starts))
		assert.Equal(t, quick, time.Since(began), "a start does not take for ever")
		require.ErrorIs(t, <-started, context.DeadlineExceeded)
	})
}

func TestTheEndWaitsForAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &Manager{closing: make(chan struct{})}
		release, done := make(chan struct{}), false
		go func() {
			_, _ = m.begin(t.Context(), func(context.Context) (*rebalance.Run, error) {
				<-release
				done = true
				return nil, nil
			})
		}()
		synctest.Wait()
		time.AfterFunc(time.Second, func() { close(release) })
		m.shut(t.Context())
		assert.True(t, done)
	})
}
