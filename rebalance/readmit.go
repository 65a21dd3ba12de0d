package rebalance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// LostVBuckets refuses a rebalance that would make vbuckets anew, empty, while their data may still be on nodes that were
// failed over: these have to be added back, or removed, before.
type LostVBuckets struct {
	Bucket string
	// VBs is sorted and not empty.
	VBs        []uint16
	FailedOver []string
}

func (e *LostVBuckets) Error() string {
	return fmt.Sprintf("%d vbuckets of %q are lost, vb %d first, and may be on %s: add them back, or remove them",
		len(e.VBs), e.Bucket, e.VBs[0], strings.Join(e.FailedOver, ", "))
}

// repaired is nil if the janitor has left the bucket so that it can be moved. Vbuckets that are lost for good are made anew.
func (w *bucketWork) repaired(report JanitorReport) error {
	lost := &LostVBuckets{Bucket: w.name, FailedOver: namesOf(w.env.nodes.failedOver())}
	report.Buckets = slices.Clone(report.Buckets) // others read it too
	for i := range report.Buckets {
		report.Buckets[i].Held = maps.Clone(report.Buckets[i].Held)
		maps.DeleteFunc(report.Buckets[i].Held, func(vb uint16, hold error) bool {
			var none *NoData
			if !errors.As(hold, &none) {
				return false
			}
			lost.VBs = append(lost.VBs, vb)
			return true
		})
	}
	if err := report.Problem(); err != nil {
		return err
	}
	if len(lost.VBs) > 0 && len(lost.FailedOver) > 0 {
		slices.Sort(lost.VBs)
		return lost
	}
	return nil
}

// join makes nodes servers of the bucket. Copies that they have from an earlier time are taken up in the same moment.
func (w *bucketWork) join(ctx context.Context, doc store.BucketDoc, joining []string) error {
	changes, err := w.readmit(ctx, doc, joining)
	if err != nil {
		return err
	}
	_, err = w.env.buckets.Update(ctx, w.name, func(d *store.BucketDoc) error {
		d.Servers = distinct(d.Servers, joining)
		for _, change := range changes {
			if d.Map[change.VB].Equal(change.Old) {
				d.Map[change.VB] = change.New
			}
		}
		return nil
	})
	if err == nil && len(changes) > 0 {
		w.env.log("rebalancer", "bucket", w.name).Info("copies_readmitted", "nodes", joining, "vbuckets", len(changes))
	}
	return err
}

// readmit finds the copies that are taken up. A plan is executed as it is, and knows of none.
func (w *bucketWork) readmit(ctx context.Context, doc store.BucketDoc, joining []string) ([]store.ChainChange, error) {
	if len(joining) == 0 || w.planned != nil {
		return nil, nil
	}
	if err := w.env.ensureMembers(ctx, w.name, joining); err != nil {
		return nil, err
	}
	for _, node := range joining {
		// It may not know yet that it was given up.
		if err := w.env.calm(ctx, w.name, node, func(vb uint16) bool {
			return int(vb) >= len(doc.Map) || !doc.Map[vb].Contains(node)
		}); err != nil {
			return nil, &NodeError{Node: node, Err: err}
		}
	}
	answers, err := w.env.queryAgents(ctx, w.name, joining)
	if err != nil || !slices.ContainsFunc(joining, func(node string) bool { return len(answers[node].Copies) > 0 }) {
		return nil, err
	}
	// Of servers that do not answer nothing is taken up; whether that matters is the janitor's to say.
	present, _ := w.env.queryAgents(ctx, w.name, doc.Servers)
	maps.Copy(answers, present)
	run := &janitorRun{env: w.env, report: JanitorBucketReport{Name: w.name}, doc: doc, answers: answers, logs: map[copyKey][]kv.FailoverEntry{}}
	var changes []store.ChainChange
	for vb, chain := range doc.Map {
		if updated := run.readmit(ctx, uint16(vb), joining); !updated.Equal(chain) {
			changes = append(changes, store.ChainChange{VB: vb, Old: chain, New: updated})
		}
	}
	return changes, nil
}

func (r *janitorRun) readmit(ctx context.Context, vb uint16, joining []string) vbmap.Chain {
	for {
		c := readmitCase{VB: vb, Chain: r.doc.Map[vb], Joining: joining, Copies: r.caseOf(vb).Copies}
		chain, err := decideReadmission(c)
		if !r.readNeeded(ctx, vb, err) {
			return chain
		}
	}
}

// discarding are the nodes of the bucket whose copies may be deleted although they have what their active lacks.
func (w *bucketWork) discarding() []string {
	var nodes []string
	for _, node := range w.kept {
		if member, _ := w.env.nodes.member(node.Name); member.DiscardDiverged {
			nodes = append(nodes, node.Name)
		}
	}
	return nodes
}

// permitted says whether any of the nodes may have diverged copies deleted.
func (e *environment) permitted(nodes []string) bool {
	return slices.ContainsFunc(nodes, func(name string) bool { m, _ := e.nodes.member(name); return m.DiscardDiverged })
}

// discarded ends the permission to delete diverged copies, once a rebalance that had it is complete.
func (e *environment) discarded(ctx context.Context, nodes []string) error {
	return e.changeCluster(ctx, func(doc *clusterDocument) error {
		for i, m := range doc.Members {
			if slices.Contains(nodes, m.Name) {
				doc.Members[i].DiscardDiverged = false
			}
		}
		return nil
	})
}
