package rebalance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// Status is what a cluster is doing and how its buckets are, as far as the manager knows without asking a node.
type Status struct {
	State State `json:"state"`
	// Run is the rebalance that has not ended, empty if there is none, and Progress how far it is.
	Run      string    `json:"rebalance_id,omitempty"`
	Progress *Progress `json:"progress,omitempty"`
	// Retry is a rebalance that failed and is to be started again, or runs again; nil if there is none.
	Retry *PendingRetry `json:"retry,omitempty"`
	// Members are the nodes that are known, in the order in which they were added.
	Members []Member `json:"members"`
	// Buckets are sorted by name.
	Buckets []BucketStatus `json:"buckets"`
	// LastReport is that of the rebalance that ended last, without its single vbuckets; nil if there was none.
	LastReport *Report `json:"last_report,omitempty"`
}

// BucketStatus is how a bucket is.
type BucketStatus struct {
	Name     string `json:"name"`
	UUID     string `json:"uuid"`
	VBuckets int    `json:"vbuckets"`
	Replicas int    `json:"replicas"`
	// Servers hold it now, those that are joining or leaving included.
	Servers []string   `json:"servers"`
	Map     MapSummary `json:"map"`
	// Checked is when the janitor last looked at it, and Problems are the failures of nodes and steps that it met; Checked is
	// zero if it has not looked yet.
	Checked  time.Time `json:"checked"`
	Problems []string  `json:"problems,omitempty"`
	// Held are the vbuckets that the janitor left alone, by vbucket.
	Held []HeldVBucket `json:"held,omitempty"`
	// Kept names copies that no chain needs but which hold data that the active lacks: vbucket to nodes.
	Kept map[uint16][]string `json:"kept,omitempty"`
}

// MapSummary is what a map comes to.
type MapSummary struct {
	// Epoch is the highest that claimed the bucket.
	Epoch uint64 `json:"epoch"`
	// Nodes is how many copies each node has.
	Nodes map[string]CopyCount `json:"nodes"`
	// Lost are the vbuckets without an active, Short those with fewer replicas than the bucket is to have.
	Lost  int `json:"lost"`
	Short int `json:"short"`
	// Moving is how many chains differ from what a rebalance that runs, or ended half-way, wanted.
	Moving int `json:"moving"`
}

// CopyCount is how many copies a node has by the map.
type CopyCount struct {
	Active  int `json:"active"`
	Replica int `json:"replica"`
}

// HoldKind says in a word why a vbucket was left alone.
type HoldKind string

// The kinds, each of which has a type of error that tells the whole: [Conflict], [UnknownVBucket], [WaitingForNodes],
// [StrayData], [NoData].
const (
	HeldConflict HoldKind = "conflict"
	HeldUnknown  HoldKind = "unknown"
	HeldWaiting  HoldKind = "waiting"
	HeldStray    HoldKind = "stray"
	HeldLost     HoldKind = "lost"
	HeldOther    HoldKind = "other"
)

// HeldVBucket is a vbucket that the janitor left alone.
type HeldVBucket struct {
	VB     uint16   `json:"vb"`
	Kind   HoldKind `json:"kind"`
	Reason string   `json:"reason"`
}

// Status is what the cluster is doing. It asks the store, and no node nor process: it answers also while nodes hang.
func (c *Cluster) Status(ctx context.Context) (Status, error) {
	if !c.root.Alive() {
		return Status{}, ErrClosed
	}
	view := c.env.desk.look()
	status := Status{State: view.state, Buckets: []BucketStatus{}}
	if view.current != nil {
		progress := view.current.board.look().progress
		status.Run, status.Progress = view.current.id, &progress
	}
	if view.retry != nil {
		retry := *view.retry
		retry.RetryAfter = Seconds(max(0, time.Until(retry.At).Seconds()))
		status.Retry = &retry
	}
	var err error
	if status.Members, err = c.Members(ctx); err != nil {
		return status, err
	}
	reports, err := c.Reports(ctx)
	if err != nil {
		return status, err
	}
	if len(reports) > 0 {
		status.LastReport = reports[0].brief()
	}
	docs, err := c.env.buckets.List(ctx)
	if err != nil {
		return status, c.closedError(err)
	}
	for _, doc := range docs {
		status.Buckets = append(status.Buckets, bucketStatus(doc, view.cleaned[doc.Name]))
	}
	return status, nil
}

// brief is the report without its single vbuckets.
func (r Report) brief() *Report {
	buckets := r.Buckets
	r.Buckets = make([]BucketReport, len(buckets))
	for i, b := range buckets {
		b.VBuckets, b.Omitted = nil, len(b.VBuckets)+b.Omitted
		r.Buckets[i] = b
	}
	return &r
}

func bucketStatus(doc store.BucketDoc, cleaned cleanedBucket) BucketStatus {
	s := BucketStatus{
		Name: doc.Name, UUID: doc.UUID, VBuckets: doc.VBuckets, Replicas: doc.Replicas, Servers: doc.Servers,
		Map: summarise(doc), Checked: cleaned.run.Ended, Kept: cleaned.bucket.Kept,
	}
	for _, err := range cleaned.bucket.Errs {
		s.Problems = append(s.Problems, err.Error())
	}
	for _, vb := range sortedKeys(cleaned.bucket.Held) {
		err := cleaned.bucket.Held[vb]
		s.Held = append(s.Held, HeldVBucket{VB: vb, Kind: holdKind(err), Reason: err.Error()})
	}
	return s
}

func summarise(doc store.BucketDoc) MapSummary {
	s := MapSummary{Epoch: doc.Epoch, Nodes: map[string]CopyCount{}}
	for _, chain := range doc.Map {
		replicas := 0
		for i, node := range chain {
			if node == vbmap.Undefined {
				continue
			}
			count := s.Nodes[node]
			if i == 0 {
				count.Active++
			} else {
				count.Replica++
				replicas++
			}
			s.Nodes[node] = count
		}
		if chain.Active() == vbmap.Undefined {
			s.Lost++
		}
		if replicas < doc.Replicas {
			s.Short++
		}
	}
	if doc.Target != nil {
		s.Moving = len(vbmap.Diff(doc.Map, doc.Target))
	}
	return s
}

func holdKind(err error) HoldKind {
	var (
		conflict *Conflict
		unknown  *UnknownVBucket
		waiting  *WaitingForNodes
		history  *HistoryNeeded
		stray    *StrayData
		lost     *NoData
	)
	switch {
	case errors.As(err, &conflict):
		return HeldConflict
	case errors.As(err, &unknown):
		return HeldUnknown
	case errors.As(err, &waiting), errors.As(err, &history):
		return HeldWaiting
	case errors.As(err, &stray):
		return HeldStray
	case errors.As(err, &lost):
		return HeldLost
	}
	return HeldOther
}

// CurrentRun is the handle on the rebalance that has not ended, nil if there is none.
func (c *Cluster) CurrentRun() *Run { return c.env.desk.look().current }

// Run is the handle on a rebalance of this cluster that is running, or is one of the last that have ended since the cluster
// was opened. It is nil if there is none of that name; its report may be found all the same.
func (c *Cluster) Run(id string) *Run {
	for _, run := range c.env.desk.look().runs {
		if run.id == id {
			return run
		}
	}
	return nil
}

// Reports are the accounts of the last rebalances, newest first: five at most, those from before the cluster was opened
// included. The report of a rebalance can be read before State says that the rebalance is over.
func (c *Cluster) Reports(ctx context.Context) ([]Report, error) {
	reports, err := c.env.readReports(ctx)
	return reports, c.closedError(err)
}

// ErrNoReport says that a report is not among those that are kept.
var ErrNoReport = errors.New("no such report")

// Report is the account of one of the last rebalances, or an error that wraps [ErrNoReport].
func (c *Cluster) Report(ctx context.Context, id string) (*Report, error) {
	reports, err := c.Reports(ctx)
	if err != nil {
		return nil, err
	}
	for i := range reports {
		if reports[i].ID == id {
			return &reports[i], nil
		}
	}
	return nil, fmt.Errorf("%w: %q", ErrNoReport, id)
}
