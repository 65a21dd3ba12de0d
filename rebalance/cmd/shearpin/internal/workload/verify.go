package workload

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// VerifyDocuments reads every document from the active of its vbucket and returns the writes that are not there any more,
// those that writers have met before included, by key. Writers must have stopped. An error means that not everything
// could be read.
func VerifyDocuments(ctx context.Context, clients []*Client, corpus *Corpus, progress func(done int)) ([]Loss, error) {
	corpus.mu.Lock()
	lost := maps.Clone(corpus.lost)
	corpus.mu.Unlock()

	var mu sync.Mutex
	err := bulk(ctx, clients, corpus.Ledger.Docs(), progress, func(ctx context.Context, client *Client, doc int) error {
		found, _, err := corpus.read(ctx, client, doc)
		if err != nil {
			return err
		}
		if !corpus.Ledger.Holds(doc, found) {
			mu.Lock()
			defer mu.Unlock()
			lost[doc] = corpus.loss(doc, found)
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("read documents back: %w", err)
	}
	return slices.SortedFunc(maps.Values(lost), func(a, b Loss) int { return strings.Compare(a.Key, b.Key) }), err
}
