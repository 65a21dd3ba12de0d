package workload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// writeLimit is how long one write may take, with all its attempts. No step of a rebalance keeps a vbucket without an
// active for that long, so a write that takes longer is a failure of the cluster.
const writeLimit = 30 * time.Second

// Corpus is the set of documents under test, with what is known about them.
type Corpus struct {
	Content Content
	Ledger  *Ledger

	mu sync.Mutex
	// lost holds losses that writers met, the first of each document.
	lost map[int]Loss
}

// NewCorpus is a corpus of docs documents that have not been written yet.
func NewCorpus(content Content, docs int) *Corpus {
	return &Corpus{Content: content, Ledger: NewLedger(docs), lost: make(map[int]Loss)}
}

// write sends the next version of doc until it is acknowledged. The caller is doc's only writer.
func (c *Corpus) write(ctx context.Context, client *Client, doc int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, writeLimit, errNoAnswer)
	defer cancel()
	version, cas := c.Ledger.Begin(doc)
	key, value := c.Content.Key(doc), c.Content.Value(doc, version)
	var wait backoff
	unanswered := false
	for ; ; wait.pause(ctx) {
		newCAS, err := client.Set(ctx, key, value, cas)
		var silence *UnansweredError
		switch {
		case err == nil:
			c.Ledger.Ack(doc, version, newCAS)
			return nil
		case errors.As(err, &silence):
			unanswered = true
		case errors.Is(err, mcbp.StatusKeyExists), errors.Is(err, mcbp.StatusKeyNotFound):
			found, foundCAS, err := c.read(ctx, client, doc)
			if err != nil {
				return fmt.Errorf("%s: read after a refused write: %w", key, err)
			}
			if unanswered && found.Known && found.Version == version {
				// The attempt that was not answered has been carried out, and this answer says so.
				c.Ledger.Ack(doc, version, foundCAS)
				return nil
			}
			if !c.Ledger.Holds(doc, found) {
				c.lose(doc, found)
			}
			cas = foundCAS
		default:
			return fmt.Errorf("write: %w", err)
		}
	}
}

// errNoAnswer is the cause when writeLimit runs out.
var errNoAnswer = fmt.Errorf("not acknowledged within %v", writeLimit)

// read says what the active of doc's vbucket holds.
func (c *Corpus) read(ctx context.Context, client *Client, doc int) (found Found, cas uint64, err error) {
	value, cas, err := client.Get(ctx, c.Content.Key(doc))
	switch {
	case errors.Is(err, mcbp.StatusKeyNotFound):
		return Found{}, 0, nil
	case err != nil:
		return Found{}, 0, err
	}
	version, known := c.Content.Version(doc, value)
	return Found{Exists: true, Known: known, Version: version}, cas, nil
}

// lose notes that doc does not hold what it must.
func (c *Corpus) lose(doc int, found Found) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.lost[doc]; !known {
		c.lost[doc] = c.loss(doc, found)
	}
}

func (c *Corpus) loss(doc int, found Found) Loss {
	_, sent, _ := c.Ledger.Unanswered(doc)
	return Loss{Key: c.Content.Key(doc), Acked: c.Ledger.Acknowledged(doc), Sent: sent, Found: found}
}
