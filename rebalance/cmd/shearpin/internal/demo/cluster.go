package demo

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/workload"
)

// open starts the first nodes and the cluster's supervision tree.
func (d *Demo) open(ctx context.Context) error {
	d.credentials = &kv.Credentials{User: "demo", Password: rand.Text()}
	if d.opts.Fault != NoFault {
		kind, err := fault.ParseKind(d.opts.Fault)
		if err != nil {
			return fmt.Errorf("--fault %s: %w", d.opts.Fault, err)
		}
		d.plan = fault.New(fault.Options{Kind: kind, VB: d.opts.FaultVB, Log: d.log})
	}
	var nodes []rebalance.Node
	for _, name := range d.opts.nodeNames()[:d.opts.Nodes] {
		node, err := d.startNode(name)
		if err != nil {
			return err
		}
		nodes = append(nodes, node)
	}
	cluster, err := rebalance.Open(ctx, rebalance.Config{
		Nodes:       nodes,
		Credentials: *d.credentials,
		Log:         d.log,
		Limits:      rebalance.Limits{Replication: dcp.Limits{Add: d.opts.AddTimeout}},
		Seed:        d.opts.Seed,
	})
	if err != nil {
		return err
	}
	d.cluster = cluster
	return nil
}

// startNode starts an embedded node, which can break if a fault was asked for.
func (d *Demo) startNode(name string) (rebalance.Node, error) {
	opts := kvnode.Options{Name: name, User: d.credentials.User, Password: d.credentials.Password, Log: d.log}
	if d.plan != nil {
		opts.Hooks = d.plan.For(name)
	}
	node, err := kvnode.Start(opts)
	if err != nil {
		return rebalance.Node{}, fmt.Errorf("node %s: %w", name, err)
	}
	d.nodes = append(d.nodes, node)
	return rebalance.Node{Name: name, Addr: node.Addr()}, nil
}

// bulkClients is how many clients load and read back; writers use the first of them.
const bulkClients = 4

// connectClients makes enough clients for the bulk runs and for one per writer.
func (d *Demo) connectClients() {
	var seeds []string
	for _, node := range d.nodes {
		seeds = append(seeds, node.Addr())
	}
	for range max(bulkClients, d.opts.Writers) {
		d.clients = append(d.clients, workload.NewClient(workload.ClientOptions{
			Bucket: bucket, Credentials: *d.credentials, Seeds: seeds, Log: d.log,
		}))
	}
}
