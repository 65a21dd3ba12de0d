package workload

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// inFlight is how many requests of a bulk run wait for an answer on each client: enough to keep both ends busy, few
// enough to bound what they hold.
const inFlight = 32

// Load writes the first version of every document, spread over the clients, and calls progress now and then with the
// number of documents written. It returns when all are acknowledged, or with the first error.
func Load(ctx context.Context, clients []*Client, corpus *Corpus, progress func(done int)) error {
	err := bulk(ctx, clients, corpus.Ledger.Docs(), progress, corpus.write)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return nil
}

// bulkStep is how many documents a worker takes at a time.
const bulkStep = 64

// bulk runs do for every document, each once, with inFlight at a time on each client. progress is called by one
// goroutine at a time.
func bulk(ctx context.Context, clients []*Client, docs int, progress func(done int),
	do func(ctx context.Context, client *Client, doc int) error,
) error {
	var next, done atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	reporting := make(chan struct{}, 1)
	for _, client := range clients {
		for range inFlight {
			group.Go(func() error {
				for {
					end := int(next.Add(bulkStep))
					for doc := end - bulkStep; doc < min(end, docs); doc++ {
						if err := do(ctx, client, doc); err != nil {
							return err
						}
						done.Add(1)
					}
					if end >= docs {
						return nil
					}
					select {
					case reporting <- struct{}{}:
						progress(int(done.Load()))
						<-reporting
					default:
					}
				}
			})
		}
	}
	err := group.Wait()
	progress(int(done.Load()))
	return err
}
