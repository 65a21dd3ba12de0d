package rebalance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/shearpin/shearpin/rebalance/store"
)

// The cluster document is what the store keeps of the cluster as a whole: its members, and the failover that was begun and
// has not ended. It is one document, so that a member is never given up without the intention that goes on with it after a
// crash.

const (
	clusterKey    = "cluster"
	clusterSchema = 1
)

// clusterDocument is changed by [environment.changeCluster] only.
type clusterDocument struct {
	Schema  int      `json:"schema"`
	Members []Member `json:"members"`
	// Failover is nil if there is none to go on with.
	Failover *FailoverRequest `json:"failover,omitempty"`
}

func (d *clusterDocument) index(name string) int {
	return slices.IndexFunc(d.Members, func(m Member) bool { return m.Name == name })
}

// known is the index of a member that must be there.
func (d *clusterDocument) known(name string) (int, error) {
	i := d.index(name)
	if i < 0 {
		return i, fmt.Errorf("%w %q", ErrUnknownNode, name)
	}
	return i, nil
}

func (d *clusterDocument) clone() *clusterDocument {
	copied := *d
	copied.Members = slices.Clone(d.Members)
	if d.Failover != nil {
		failover := *d.Failover
		failover.Nodes = slices.Clone(failover.Nodes)
		copied.Failover = &failover
	}
	return &copied
}

// readCluster gives the document and its revision; an empty one with revision 0 if there is none.
func (e *environment) readCluster(ctx context.Context) (doc *clusterDocument, revision uint64, err error) {
	doc = &clusterDocument{Schema: clusterSchema}
	value, revision, err := e.config.Store.Get(ctx, clusterKey)
	if errors.Is(err, store.ErrNotFound) {
		return doc, 0, nil
	}
	if err != nil {
		return doc, 0, err
	}
	if err := json.Unmarshal(value, doc); err != nil {
		return doc, 0, &store.CorruptError{Key: clusterKey, Err: err}
	}
	if doc.Schema != clusterSchema {
		return doc, 0, &store.SchemaError{Key: clusterKey, Found: doc.Schema}
	}
	return doc, revision, nil
}

// changeCluster changes the document: edit alters it, and is called again with the newer one if somebody else was faster.
// An error of edit is returned, and nothing is changed then. The table of nodes follows.
func (e *environment) changeCluster(ctx context.Context, edit func(doc *clusterDocument) error) error {
	for {
		doc, revision, err := e.readCluster(ctx)
		if err != nil {
			return err
		}
		edited := doc.clone()
		if err := edit(edited); err != nil {
			return err
		}
		if revision == 0 || !reflect.DeepEqual(doc, edited) {
			value, err := json.Marshal(edited)
			if err != nil {
				return err
			}
			revision, err = e.config.Store.CompareAndSet(ctx, clusterKey, value, revision)
			if errors.Is(err, store.ErrConflict) {
				continue
			}
			if err != nil {
				return err
			}
		}
		e.nodes.follow(edited.Members, revision)
		return nil
	}
}
