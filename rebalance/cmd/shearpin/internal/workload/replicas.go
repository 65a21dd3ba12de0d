package workload

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Node is a node as the verification reaches it.
type Node struct{ Name, Addr string }

// Mismatch is a copy that is not what the map says it is.
type Mismatch struct {
	VB uint16
	// Active and Replica are node names; where the active itself is wrong, both name it.
	Active, Replica string
	// Why says how they differ.
	Why string
}

func (m Mismatch) String() string {
	if m.Active == m.Replica {
		return fmt.Sprintf("vb %d, active %s: %s", m.VB, m.Active, m.Why)
	}
	return fmt.Sprintf("vb %d, replica %s of active %s: %s", m.VB, m.Replica, m.Active, m.Why)
}

// VerifyReplicas compares every replica in chains (by vbucket: node names, the active first, "" for undefined) with its
// active: state, high seqno, and digest of the documents. Replicas may still be catching up, so what differs is looked at
// again until it agrees or ctx ends; what still differs then is returned. Writers must have stopped. An error means that
// not everything could be compared before ctx ended.
func VerifyReplicas(ctx context.Context, nodes []Node, credentials kv.Credentials, bucket string, chains [][]string) ([]Mismatch, error) {
	clients := make(map[string]*kv.Client)
	defer func() {
		for _, client := range clients {
			_ = client.Close() // never fails
		}
	}()
	for _, node := range nodes {
		client, err := kv.Connect(ctx, kv.Endpoint{Node: node.Name, Addr: node.Addr, Credentials: credentials}, bucket)
		if err != nil {
			return nil, fmt.Errorf("compare replicas: %w", err)
		}
		clients[node.Name] = client
	}

	// A deadline must not cost the result of the last look, so each look has a context that outlives ctx a little.
	var wait backoff
	open := pairs(chains)
	for {
		mismatches, still, err := look(context.WithoutCancel(ctx), clients, open)
		if err != nil {
			return nil, fmt.Errorf("compare replicas: %w", err)
		}
		if len(mismatches) == 0 || ctx.Err() != nil {
			return mismatches, nil
		}
		open = still
		wait.pause(ctx)
	}
}

// pair is one comparison: a copy with its active. The active is compared with itself, for its state.
type pair struct {
	vb              uint16
	active, replica string
}

func pairs(chains [][]string) []pair {
	var all []pair
	for vb, chain := range chains {
		for _, member := range chain {
			if chain[0] != "" && member != "" {
				all = append(all, pair{uint16(vb), chain[0], member})
			}
		}
	}
	return all
}

// lookAt is how many comparisons are under way at once.
const lookAt = 32

// look compares all pairs once and returns those that differ.
func look(ctx context.Context, clients map[string]*kv.Client, all []pair) (differ []Mismatch, still []pair, err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	states := make(map[string]map[uint16]kv.VBucketInfo)
	for name, client := range clients {
		if states[name], err = client.VBuckets(ctx); err != nil {
			return nil, nil, fmt.Errorf("node %s: %w", name, err)
		}
	}
	reasons := make([]string, len(all))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookAt)
	for i, p := range all {
		want := mcbp.VBucketReplica
		if p.replica == p.active {
			want = mcbp.VBucketActive
		}
		if state := states[p.replica][p.vb].State; state != want {
			reasons[i] = fmt.Sprintf("is %v, must be %v", state, want)
			continue
		}
		if p.replica == p.active {
			continue
		}
		group.Go(func() error {
			var err error
			reasons[i], err = compare(ctx, clients, p)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	for i, why := range reasons {
		if why != "" {
			differ = append(differ, Mismatch{VB: all[i].vb, Active: all[i].active, Replica: all[i].replica, Why: why})
			still = append(still, all[i])
		}
	}
	return differ, still, nil
}

// compare says how a replica differs from its active; empty if they are equal.
func compare(ctx context.Context, clients map[string]*kv.Client, p pair) (string, error) {
	active, err := digestOf(ctx, clients[p.active], p.vb)
	if err != nil {
		return "", fmt.Errorf("node %s: %w", p.active, err)
	}
	replica, err := digestOf(ctx, clients[p.replica], p.vb)
	if err != nil {
		return "", fmt.Errorf("node %s: %w", p.replica, err)
	}
	switch {
	case active.seqno != replica.seqno:
		return fmt.Sprintf("high seqno %d, the active has %d", replica.seqno, active.seqno), nil
	case active.digest != replica.digest:
		return fmt.Sprintf("high seqno %d with digest %s, the active has %s", replica.seqno, replica.digest, active.digest), nil
	}
	return "", nil
}

// digest is what a node says about all documents of one vbucket.
type digest struct {
	seqno  uint64
	digest string
}

// digestOf asks for the statistics group vbucket-digest, an extension of the embedded node.
func digestOf(ctx context.Context, client *kv.Client, vb uint16) (digest, error) {
	var d digest
	var bad error
	seen := 0
	err := client.Stats(ctx, fmt.Sprintf("vbucket-digest %d", vb), func(key, value string) {
		switch _, field, _ := strings.Cut(key, ":"); field {
		case "high_seqno":
			d.seqno, bad = strconv.ParseUint(value, 10, 64)
			seen++
		case "digest":
			d.digest = value
			seen++
		}
	})
	switch {
	case err != nil:
		return d, fmt.Errorf("digest of vb %d: %w", vb, err)
	case bad != nil:
		return d, fmt.Errorf("digest of vb %d: %w", vb, bad)
	case seen != 2:
		return d, fmt.Errorf("digest of vb %d: incomplete answer", vb)
	}
	return d, nil
}
