package integration

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/supervisor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	bucket   = "orders"
	vbuckets = 16
	user     = "manager"
	password = "correct horse"
	producer = "n0"
	consumer = "n1"
)

// healthy is the kind of no fault.
const healthy fault.Kind = 0

// patience bounds every wait of these tests; nothing should come near it.
const patience = 20 * time.Second

type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// dialBy makes the manager's next connections to a node by d.
func (p *pair) dialBy(node string, d dialer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dials == nil {
		p.dials = map[string]dialer{}
	}
	p.dials[node] = d
}

// pair is two nodes and the replications from one into the other, under a supervisor.
type pair struct {
	t       *testing.T
	ctx     context.Context
	nodes   map[string]*kvnode.Node
	clients map[string]*kv.Client
	plan    *fault.Plan
	manager *dcp.Manager
	system  *actors.System
	// hooks bend the nodes, if there is no plan; tune changes the options of managers that are started.
	hooks kvnode.Interceptor
	tune  func(*dcp.Options)
	// listen is where a node's connections come from, if not from a port of its own.
	listen func() net.Listener
	// script breaks the nodes.
	script *fault.Script

	mu    sync.Mutex
	dials map[string]dialer // of the manager, by node; none is a net.Dialer
	exits []supervisor.Event
	news  []dcp.Event
}

// newPair starts everything: all vbuckets are active on the producer and replicas on the consumer. The fault plan, if the
// kind is not healthy, is not armed.
func newPair(t *testing.T, kind fault.Kind, limits dcp.Limits, prepare ...func(*pair)) *pair {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(cancel)
	p := &pair{
		t: t, ctx: ctx, nodes: map[string]*kvnode.Node{}, clients: map[string]*kv.Client{}, script: fault.NewScript(1),
	}
	for _, f := range prepare {
		f(p)
	}
	if kind != healthy {
		p.plan = fault.New(fault.Options{Kind: kind, VB: fault.AnyVBucket})
	}
	for _, name := range []string{producer, consumer} {
		opts := kvnode.Options{Name: name, User: user, Password: password, Hooks: p.hooks, Faults: p.script}
		if p.plan != nil {
			opts.Hooks = p.plan.For(name)
		}
		if p.listen != nil {
			opts.Listener = p.listen()
		}
		node, err := kvnode.Start(opts)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, node.Close()) })
		p.nodes[name] = node
		require.NoError(t, node.CreateBucket(bucket, vbuckets))
		client, err := kv.Connect(ctx, p.endpoint(name), bucket)
		require.NoError(t, err)
		t.Cleanup(func() { _ = client.Close() })
		p.clients[name] = client
	}
	for vb := range uint16(vbuckets) {
		p.setState(producer, vb, mcbp.VBucketActive)
		p.setState(consumer, vb, mcbp.VBucketReplica)
	}
	p.startManager(limits)
	return p
}

func (p *pair) endpoint(name string) kv.Endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	return kv.Endpoint{
		Node: name, Addr: p.nodes[name].Addr(), Credentials: kv.Credentials{User: user, Password: password}, Dial: p.dials[name],
	}
}

func (p *pair) startManager(limits dcp.Limits) {
	system := actors.NewSystem(actors.Options{Logger: slog.New(slog.DiscardHandler)})
	p.system = system
	events, tree := actors.NewBus[dcp.Event](), actors.NewBus[supervisor.Event]()
	news, exits := events.Subscribe(1024), tree.Subscribe(1024)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case e := <-news.C():
				p.mu.Lock()
				p.news = append(p.news, e)
				p.mu.Unlock()
			case e := <-exits.C():
				p.mu.Lock()
				p.exits = append(p.exits, e)
				p.mu.Unlock()
			case <-stop:
				return
			}
		}
	}()
	opts := dcp.Options{
		System: p.system, Bucket: bucket, Consumer: consumer, Limits: limits, Events: events, SupervisorEvents: tree,
		Endpoints: func(node string) (kv.Endpoint, bool) {
			if _, ok := p.nodes[node]; !ok {
				return kv.Endpoint{}, false
			}
			return p.endpoint(node), true
		},
	}
	if p.tune != nil {
		p.tune(&opts)
	}
	m, err := dcp.Start(p.ctx, opts)
	require.NoError(p.t, err)
	p.manager = m
	p.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(p.t, m.Stop(ctx))
		require.NoError(p.t, system.Close(ctx))
		news.Close()
		exits.Close()
		close(stop)
		<-done
	})
	require.NoError(p.t, m.Prepare(p.ctx, 1))
}

// record waits until the fault has struck.
func (p *pair) record() fault.Record {
	select {
	case <-p.plan.Happened():
	case <-p.ctx.Done():
		require.Fail(p.t, "the fault did not strike")
	}
	record, _ := p.plan.Record()
	return record
}

func (p *pair) setState(node string, vb uint16, state mcbp.VBucketState) {
	require.NoError(p.t, p.clients[node].SetVBucket(p.ctx, vb, state, nil))
}

func (p *pair) apply(vbs ...uint16) error {
	changes := map[uint16]string{}
	for _, vb := range vbs {
		changes[vb] = producer
	}
	return p.manager.Apply(p.ctx, 1, "", changes)
}

// write sets n documents of a vbucket on the producer.
func (p *pair) write(vb uint16, n int) {
	for i := range n {
		_, err := p.clients[producer].Set(p.ctx, vb, fmt.Sprintf("key-%d-%d", vb, i), []byte("value"), 0, 0, 0)
		require.NoError(p.t, err)
	}
}

// eventually waits for a condition that another process brings about.
func (p *pair) eventually(what string, holds func() bool) {
	require.Eventually(p.t, holds, patience, time.Millisecond, what)
}

func (p *pair) digest(node string, vb uint16) string {
	var digest string
	err := p.clients[node].Stats(p.ctx, fmt.Sprintf("vbucket-digest %d", vb), func(key, value string) {
		if key != fmt.Sprintf("vb_%d:uuid", vb) {
			digest += key + "=" + value + " "
		}
	})
	require.NoError(p.t, err)
	return digest
}

// requireReplicated waits until the consumer's copy is the producer's.
func (p *pair) requireReplicated(vb uint16) {
	p.eventually(fmt.Sprintf("vb %d is replicated", vb), func() bool { return p.digest(producer, vb) == p.digest(consumer, vb) })
}

func (p *pair) crashes() []dcp.LinkCrashed {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []dcp.LinkCrashed
	for _, e := range p.news {
		if c, ok := e.(dcp.LinkCrashed); ok {
			all = append(all, c)
		}
	}
	return all
}

// incarnation is that of the link's connections, 0 if there is no link.
func (p *pair) incarnation() int {
	status, err := p.manager.Status(p.ctx)
	require.NoError(p.t, err)
	if len(status.Links) == 0 {
		return 0
	}
	return int(status.Links[0].Incarnation)
}

// exited are the deaths that supervisors saw, the first one first.
func (p *pair) exited() []supervisor.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []supervisor.Event
	for _, e := range p.exits {
		if e.Kind == supervisor.ChildExited {
			all = append(all, e)
		}
	}
	return all
}

// streams are the vbuckets that the manager knows to be live.
func (p *pair) streams() []uint16 {
	status, err := p.manager.Status(p.ctx)
	require.NoError(p.t, err)
	var all []uint16
	for _, link := range status.Links {
		all = append(all, link.Streams...)
	}
	return all
}
