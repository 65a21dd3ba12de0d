package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// The maps that a bucket was balanced by are kept apart from its document, which is written with every move: they are
// written once per rebalance, and of use for the next only (rebalance.md §7.4).

const (
	balancedPrefix = "balanced/"
	// keptBalanced is how many are kept: that of a rebalance which was stopped, the one before it, and one from before
	// nodes were failed over.
	keptBalanced = 3
)

// balancedDocument is the stored form. Chains name nodes by their place in the list of their map.
type balancedDocument struct {
	Schema int              `json:"schema"`
	UUID   string           `json:"uuid"`
	Maps   []balancedStored `json:"maps"`
}

type balancedStored struct {
	Nodes   []vbmap.Node `json:"nodes"`
	Members []string     `json:"members"`
	Map     [][]int      `json:"map"`
}

// Balanced returns the maps that were kept for the bucket with this UUID, the newest first; none is no error.
func (b *Buckets) Balanced(ctx context.Context, bucket, uuid string) ([]vbmap.Past, error) {
	past, _, err := b.balanced(ctx, bucket, uuid)
	return past, err
}

// KeepBalanced keeps a map as the newest. One that was made for the same nodes is replaced; of several others the last
// two stay, and none if they cannot be read.
func (b *Buckets) KeepBalanced(ctx context.Context, bucket, uuid string, m vbmap.Past) error {
	if err := vbmap.Validate(m.Map, vbmap.Rules{}); err != nil {
		return fmt.Errorf("bucket %q: %w", bucket, err)
	}
	for {
		past, revision, err := b.balanced(ctx, bucket, uuid)
		var corrupt *CorruptError
		if err != nil && !errors.As(err, &corrupt) {
			return err
		}
		past = slices.DeleteFunc(past, func(other vbmap.Past) bool { return sameNodes(other.Nodes, m.Nodes) })
		past = slices.Insert(past, 0, m)
		value, err := encodeBalanced(uuid, past[:min(len(past), keptBalanced)])
		if err != nil {
			return fmt.Errorf("bucket %q: %w", bucket, err)
		}
		_, err = b.store.CompareAndSet(ctx, balancedPrefix+bucket, value, revision)
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// sameNodes compares sets of names.
func sameNodes(a, b []vbmap.Node) bool {
	names := func(nodes []vbmap.Node) map[string]bool {
		set := map[string]bool{}
		for _, node := range nodes {
			set[node.Name] = true
		}
		return set
	}
	return maps.Equal(names(a), names(b))
}

func (b *Buckets) balanced(ctx context.Context, bucket, uuid string) ([]vbmap.Past, uint64, error) {
	key := balancedPrefix + bucket
	value, revision, err := b.store.Get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	past, err := decodeBalanced(key, uuid, value)
	return past, revision, err
}

func encodeBalanced(uuid string, past []vbmap.Past) ([]byte, error) {
	doc := balancedDocument{Schema: SchemaVersion, UUID: uuid}
	for _, m := range past {
		names := places{}
		stored := balancedStored{Nodes: m.Nodes, Map: names.chains(m.Map)}
		stored.Members = names.list()
		doc.Maps = append(doc.Maps, stored)
	}
	return json.Marshal(doc)
}

// decodeBalanced reads what was kept. What belongs to a bucket of this name that is no more counts as nothing.
func decodeBalanced(key, uuid string, value []byte) ([]vbmap.Past, error) {
	var doc balancedDocument
	if err := json.Unmarshal(value, &doc); err != nil {
		return nil, &CorruptError{Key: key, Err: err}
	}
	if doc.Schema != SchemaVersion {
		return nil, &SchemaError{Key: key, Found: doc.Schema}
	}
	if doc.UUID != uuid {
		return nil, nil
	}
	var past []vbmap.Past
	for i, stored := range doc.Maps {
		m, err := namedMap(stored.Map, stored.Members)
		if err == nil {
			err = vbmap.Validate(m, vbmap.Rules{})
		}
		if err != nil {
			return nil, &CorruptError{Key: key, Err: fmt.Errorf("map %d: %w", i, err)}
		}
		past = append(past, vbmap.Past{Map: m, Nodes: stored.Nodes})
	}
	return past, nil
}
