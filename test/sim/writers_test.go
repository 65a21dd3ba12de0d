package sim

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// ledger is what one writer knows of its documents, by key. Where nodes are given up, a write counts as acknowledged when the
// replicas have it too. A document whose last write has an unknown outcome is not written
// again: a write that is under way could otherwise arrive after the next.
type ledger struct {
	name         string
	acked, tried map[string]int
}

// writer is one that writes.
type writer struct {
	*world
	*ledger

	clients map[string]*kv.Client
	chains  vbmap.Map // nil if they have to be looked up
}

// writerPatience is how long a writer waits for one answer.
const writerPatience = 2500 * time.Millisecond

// document is the key of a document of a vbucket.
func (l *ledger) document(i int, vb uint16) string { return fmt.Sprintf("%s-%d-%d", l.name, vb, i) }

// write keeps writing until ctx ends.
func (w *writer) write(ctx context.Context) {
	defer func() {
		for _, client := range w.clients {
			_ = client.Close()
		}
	}()
	first := make([]int, vbuckets) // of each vbucket, the document that is written
	for turn := 0; ctx.Err() == nil; turn++ {
		vb := turn % vbuckets
		key := w.document(first[vb], uint16(vb))
		if !w.writeOne(ctx, key, uint16(vb)) {
			w.chains = nil
			if w.tried[key] != w.acked[key] {
				first[vb]++
			}
		}
		elapse(ctx, 10*time.Millisecond)
	}
}

func elapse(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// writeOne writes a document's next value, where the map says, and reports whether it was acknowledged.
func (w *writer) writeOne(ctx context.Context, key string, vb uint16) bool {
	limited, cancel := context.WithTimeout(ctx, writerPatience)
	defer cancel()
	if w.chains == nil {
		doc, err := w.buckets.Get(limited, bucket)
		if err != nil {
			return false
		}
		w.chains = doc.Map
	}
	name := w.chains[vb].Active()
	if name == vbmap.Undefined {
		return false
	}
	client, err := w.clientOf(limited, name)
	if err != nil {
		return false
	}
	next := w.tried[key] + 1
	token, err := client.Set(limited, vb, key, []byte(strconv.Itoa(next)), 0, 0, 0)
	var status mcbp.Status
	switch {
	case err == nil:
		w.tried[key] = next
		if w.givesUp && !w.replicated(limited, w.chains[vb][1:], vb, token) {
			return false
		}
		w.acked[key] = next
		return true
	case errors.As(err, &status):
		return false // not written
	}
	w.tried[key] = next
	w.drop(name)
	return false
}

func (w *writer) clientOf(ctx context.Context, name string) (client *kv.Client, err error) {
	if client = w.clients[name]; client == nil {
		if client, err = w.client(ctx, w.ledger.name, w.named(name)); err == nil {
			w.clients[name] = client
		}
	}
	return client, err
}

func (w *writer) drop(name string) {
	_ = w.clients[name].Close()
	delete(w.clients, name)
}

// replicated waits until all replicas have a write. A node may be given up then without it being lost.
func (w *writer) replicated(ctx context.Context, replicas vbmap.Chain, vb uint16, token kv.MutationToken) bool {
	for _, name := range replicas {
		if name == vbmap.Undefined {
			return false
		}
		for {
			client, err := w.clientOf(ctx, name)
			if err != nil {
				return false
			}
			is, err := client.VBucketSeqno(ctx, vb)
			if err != nil {
				w.drop(name)
				return false
			}
			if is.UUID == token.UUID && is.High >= token.Seqno {
				break
			}
			if elapse(ctx, 10*time.Millisecond); ctx.Err() != nil {
				return false
			}
		}
	}
	return true
}

// startWriters has two writers write.
func (w *world) startWriters() {
	ctx, cancel := context.WithCancel(w.t.Context())
	w.stop = cancel
	for i := range 2 {
		l := &ledger{name: fmt.Sprintf("writer-%d", i), acked: map[string]int{}, tried: map[string]int{}}
		w.ledgers = append(w.ledgers, l)
		one := &writer{world: w, ledger: l, clients: map[string]*kv.Client{}}
		w.writers.Go(func() { one.write(ctx) })
	}
}

// readBack compares what the actives have with the ledgers.
func (w *world) readBack() {
	w.t.Helper()
	doc, err := w.buckets.Get(w.t.Context(), bucket)
	require.NoError(w.t, err)
	writes := 0
	for _, l := range w.ledgers {
		for key := range l.tried {
			var number, i int
			var vb uint16
			_, err := fmt.Sscanf(key, "writer-%d-%d-%d", &number, &vb, &i)
			require.NoError(w.t, err)
			writes += l.acked[key]
			value := 0
			item, err := w.named(doc.Map[vb].Active()).watch.Get(w.t.Context(), vb, key)
			if !errors.Is(err, mcbp.StatusKeyNotFound) {
				require.NoError(w.t, err)
				value, err = strconv.Atoi(string(item.Value))
				require.NoError(w.t, err)
			}
			assert.GreaterOrEqual(w.t, value, l.acked[key], "%s in vb %d: an acknowledged write is lost", key, vb)
			assert.LessOrEqual(w.t, value, l.tried[key], "%s in vb %d", key, vb)
		}
	}
	w.t.Logf("%d writes acknowledged", writes)
	require.NotZero(w.t, writes)
}
