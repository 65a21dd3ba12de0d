package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// pace is the time between the writes of one writer. Writers are there to be disturbed by the rebalance, not to compete
// with it for the processor.
const pace = time.Millisecond

// Writers go on updating documents until they are stopped. Each has documents of its own, so that every document has one
// writer.
type Writers struct {
	stop  context.CancelFunc
	group *errgroup.Group

	stopped sync.Once
	err     error
}

// StartWriters starts one writer per client; writer i of n updates the documents whose number is i modulo n, in an order
// that seed decides. The documents must have been loaded. Writers that meet an error end; Stop returns it.
func StartWriters(ctx context.Context, clients []*Client, corpus *Corpus, seed uint64) *Writers {
	stopping, stop := context.WithCancel(ctx)
	group := new(errgroup.Group)
	for i, client := range clients {
		draw := rand.New(rand.NewPCG(seed, uint64(i)))
		group.Go(func() error {
			ticks := time.NewTicker(pace)
			defer ticks.Stop()
			mine := (corpus.Ledger.Docs() - i + len(clients) - 1) / len(clients)
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-stopping.Done():
					return nil
				case <-ticks.C:
				}
				doc := draw.IntN(mine)*len(clients) + i
				if err := corpus.write(ctx, client, doc); err != nil {
					return fmt.Errorf("writer %d: %w", i, err)
				}
			}
		})
	}
	return &Writers{stop: stop, group: group}
}

// Stop lets every writer finish the write that it is at, within the limit of one write, and returns the first error that
// one of them has met.
func (w *Writers) Stop() error {
	w.stopped.Do(func() {
		w.stop()
		w.err = w.group.Wait()
	})
	return w.err
}
