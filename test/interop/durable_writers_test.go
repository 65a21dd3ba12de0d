package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/couchbase/gocb/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// durableWork is what durable writers have written. A document whose last write has an unknown outcome is not written again.
type durableWork struct {
	collection *gocb.Collection
	stop       chan struct{}
	all        sync.WaitGroup
	acks       atomic.Int64

	mu           sync.Mutex
	acked, tried map[string]int
}

// levels are those that promise that a write outlives the end of any one node, whether or not it is failed over. Majority alone
// does not: an active that comes back by itself without its last writes goes on without them.
var levels = []gocb.DurabilityLevel{gocb.DurabilityLevelMajorityAndPersistOnMaster, gocb.DurabilityLevelPersistToMajority}

// startDurableWriters has four clients write through the SDK.
func (s *site) startDurableWriters() *durableWork {
	s.t.Helper()
	var seeds []string
	for _, n := range s.nodes[:3] {
		seeds = append(seeds, n.args[2])
	}
	cluster, err := gocb.Connect("couchbase://"+strings.Join(seeds, ","), gocb.ClusterOptions{
		Username: user, Password: password,
		TimeoutsConfig:     gocb.TimeoutsConfig{KVTimeout: 5 * time.Second, KVDurableTimeout: 5 * time.Second, ConnectTimeout: patience},
		AppTelemetryConfig: gocb.AppTelemetryConfig{Disabled: true},
	})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = cluster.Close(nil) })
	bucket := cluster.Bucket(bucketName)
	require.NoError(s.t, bucket.WaitUntilReady(patience, &gocb.WaitUntilReadyOptions{
		Context: s.t.Context(), ServiceTypes: []gocb.ServiceType{gocb.ServiceTypeKeyValue},
	}))
	w := &durableWork{
		collection: bucket.DefaultCollection(), stop: make(chan struct{}), acked: map[string]int{}, tried: map[string]int{},
	}
	for writer := range 4 {
		w.all.Go(func() { w.write(writer) })
	}
	return w
}

func (w *durableWork) write(writer int) {
	const documents = 50
	generation := make([]int, documents)
	for i := 0; ; i++ {
		select {
		case <-w.stop:
			return
		default:
		}
		at := i % documents
		key := fmt.Sprintf("durable-%d-%d-%d", writer, at, generation[at])
		if !w.writeOne(key, levels[i/documents%len(levels)]) {
			generation[at]++
		}
	}
}

// writeOne writes the next value of a document, and reports whether the outcome is known.
func (w *durableWork) writeOne(key string, level gocb.DurabilityLevel) bool {
	w.mu.Lock()
	next := w.tried[key] + 1
	w.tried[key] = next
	w.mu.Unlock()
	_, err := w.collection.Upsert(key, next, &gocb.UpsertOptions{DurabilityLevel: level})
	if err != nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked[key] = next
	w.acks.Add(1)
	return true
}

// end stops the writers and returns how many writes were acknowledged.
func (w *durableWork) end() int64 {
	close(w.stop)
	w.all.Wait()
	return w.acks.Load()
}

// requireDurable reads everything back: the value that was acknowledged last, or one that was tried later.
func (s *site) requireDurable(w *durableWork) {
	s.t.Helper()
	for key, tried := range w.tried {
		value := 0
		s.eventually("reading "+key, func() error {
			r, err := w.collection.Get(key, nil)
			if errors.Is(err, gocb.ErrDocumentNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			var content json.Number
			if err := r.Content(&content); err != nil {
				return err
			}
			n, err := content.Int64()
			value = int(n)
			return err
		})
		assert.GreaterOrEqual(s.t, value, w.acked[key], "%s: a durable write is lost", key)
		assert.LessOrEqual(s.t, value, tried, key)
	}
}
