package interop

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/stretchr/testify/require"
)

// client is what the writers and readers of a test ask of somebody else's client. An error ends the test: whatever can be
// tried again, the client has tried again.
type client interface {
	set(key, value string) error
	remove(key string) error
	// get returns false if there is no such document.
	get(key string) (value string, found bool, err error)
}

const (
	writers = 4
	// keysOfWriter is how many keys one writer goes round; no other writes them.
	keysOfWriter = 150
	// enough is how many operations of each writer must come before the rebalance, and after it; enoughDurable how many durable ones,
	// which take longer.
	enough        = 2 * keysOfWriter
	enoughDurable = 40
)

// work is what writers have done, and been told that is done.
type work struct {
	w      *world
	enough int
	// moving is set while vbuckets move.
	moving atomic.Bool
	// during counts the operations that were answered meanwhile.
	during atomic.Int64

	mu sync.Mutex
	// written is the newest value of each key, "" if it was deleted.
	written map[string]string
	failed  error
}

// writeThroughRebalances has clients write before, during and after rebalances, and returns what they wrote.
func (w *world) writeThroughRebalances(c client) map[string]string {
	w.t.Helper()
	return w.writeThrough(c, enough)
}

func (w *world) writeThrough(c client, enough int) map[string]string {
	w.t.Helper()
	k := &work{w: w, enough: enough, written: map[string]string{}}
	var before, all sync.WaitGroup
	done := make(chan struct{})
	before.Add(writers)
	for writer := range writers {
		all.Go(func() { k.write(c, writer, &before, done) })
	}
	before.Wait()
	k.moving.Store(true)
	w.rebalance()
	k.moving.Store(false)
	close(done)
	all.Wait()
	require.NoError(w.t, k.failed)
	require.NotZero(w.t, k.during.Load(), "nothing was written while vbuckets moved")
	w.t.Logf("%d operations while vbuckets moved", k.during.Load())
	return k.written
}

// write goes round the writer's keys: before the rebalance, while it runs, and after it.
func (k *work) write(c client, writer int, before *sync.WaitGroup, done <-chan struct{}) {
	written := map[string]string{}
	err := k.rounds(c, writer, written, before, done)
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.Copy(k.written, written)
	if err != nil && k.failed == nil {
		k.failed = err
	}
}

func (k *work) rounds(c client, writer int, written map[string]string, before *sync.WaitGroup, done <-chan struct{}) error {
	started := sync.OnceFunc(before.Done)
	defer started()
	left := k.enough
	for i := 0; left > 0; i++ {
		if i == k.enough {
			started()
		}
		select {
		case <-done:
			left--
		case <-k.w.ctx.Done():
			return k.w.ctx.Err()
		default:
		}
		key := fmt.Sprintf("key-%d-%d", writer, i%keysOfWriter)
		moving := k.moving.Load()
		if err := step(c, written, key, i); err != nil {
			return fmt.Errorf("operation %d, %s in vb %d: %w", i, key, vbucketOf(key), err)
		}
		if moving {
			k.during.Add(1)
		}
	}
	return nil
}

// step writes the key, deletes it, or reads it back.
func step(c client, written map[string]string, key string, i int) error {
	old := written[key]
	switch {
	case i%7 == 3 && old != "":
		if err := c.remove(key); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		written[key] = ""
	case i%5 == 2:
		if err := check(c, key, old); err != nil {
			return err
		}
	default:
		value := fmt.Sprintf(`{"n":%d}`, i)
		if err := c.set(key, value); err != nil {
			return fmt.Errorf("set: %w", err)
		}
		written[key] = value
	}
	return nil
}

// check reads a key.
func check(c client, key, want string) error {
	value, found, err := c.get(key)
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if value != want || found != (want != "") {
		return fmt.Errorf("get: %q (found %t) instead of %q", value, found, want)
	}
	return nil
}

// requireWritten reads everything back.
func (w *world) requireWritten(c client, written map[string]string) {
	w.t.Helper()
	require.NotEmpty(w.t, written)
	for key, value := range written {
		require.NoError(w.t, check(c, key, value), "%s in vb %d", key, vbucketOf(key))
	}
}
