package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

func (p *pair) status() dcp.Status {
	status, err := p.manager.Status(p.ctx)
	require.NoError(p.t, err)
	return status
}

// linkTo is the status of the first link with a producer.
func (p *pair) linkTo(node string) dcp.LinkStatus {
	links := p.status().Links
	i := slices.IndexFunc(links, func(l dcp.LinkStatus) bool { return l.Producer == node })
	if i < 0 {
		return dcp.LinkStatus{}
	}
	return links[i]
}

// background does what may take long, and tells its outcome.
func background(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

func requirePending(t *testing.T, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		require.Fail(t, "it has ended already", "%v", err)
	default:
	}
}

// silentPeer accepts connections and never says a word.
func silentPeer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
	)
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		wg.Wait()
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	return listener.Addr().String()
}

// History 9 and 10: peers that accept and stay silent hold up nobody but those who wait for them.
func TestStatusAnswersAndOthersGoOnWhilePeersHang(t *testing.T) {
	const peers = 8
	hung := map[string]string{}
	changes := map[uint16]string{}
	for i := range peers {
		name := fmt.Sprintf("hung-%d", i)
		hung[name] = silentPeer(t)
		changes[uint16(i)] = name
	}
	p := newPair(t, healthy, dcp.Limits{Connect: patience, Join: 2 * patience}, func(p *pair) {
		p.tune = func(opts *dcp.Options) {
			known := opts.Endpoints
			opts.Endpoints = func(node string) (kv.Endpoint, bool) {
				if addr, ok := hung[node]; ok {
					return kv.Endpoint{Node: node, Addr: addr, Credentials: kv.Credentials{User: user, Password: password}}, true
				}
				return known(node)
			}
		}
	})
	done := background(func() error { return p.manager.Apply(p.ctx, 1, "move", changes) })
	p.eventually("all are being connected to", func() bool {
		links := p.status().Links
		return len(links) == peers && !slices.ContainsFunc(links, func(l dcp.LinkStatus) bool { return l.State != "connecting" })
	})
	require.NoError(t, p.apply(10, 11), "another producer does not wait for them")
	assert.Equal(t, []uint16{10, 11}, p.streams())
	requirePending(t, done)

	require.NoError(t, p.manager.Prepare(p.ctx, 2), "nor does a new epoch")
	require.ErrorIs(t, <-done, dcp.ErrSuperseded)
	require.NoError(t, p.manager.Shut(p.ctx), "nor the end")
}

// deaf drops some of what consumers are asked.
type deaf struct {
	to    func(f mcbp.Frame) bool
	heard atomic.Int64
}

func toCloses(f mcbp.Frame) bool { return f.Opcode() == mcbp.OpDCPCloseStream }

func toTakeovers(f mcbp.Frame) bool {
	add, err := mcbp.ParseAddStream(f)
	return f.Opcode() == mcbp.OpDCPAddStream && err == nil && add.Flags == mcbp.StreamFlagTakeover
}

func (d *deaf) Received(c kvnode.Connection, _ uint16, f mcbp.Frame) kvnode.Action {
	if c.Role != kvnode.RoleConsumer || f.IsResponse() || !d.to(f) {
		return kvnode.Action{}
	}
	d.heard.Add(1)
	return kvnode.Action{Drop: true}
}

func (*deaf) Sending(kvnode.Connection, uint16, mcbp.Frame) kvnode.Action { return kvnode.Action{} }

// rebalance.md §14 item 21: a takeover that hangs holds up no other vbucket.
func TestATakeoverThatHangsHoldsUpNobody(t *testing.T) {
	hook := &deaf{to: toTakeovers}
	p := newPair(t, healthy, dcp.Limits{Add: patience}, func(p *pair) { p.hooks = hook })
	require.NoError(t, p.apply(5))
	done := background(func() error { return p.manager.Takeover(p.ctx, 1, "move", 5, producer) })
	p.eventually("it is being asked", func() bool { return hook.heard.Load() == 1 })
	require.NoError(t, p.apply(6, 7))
	assert.Equal(t, []uint16{6, 7}, p.streams())
	assert.Equal(t, 2, p.linkTo(producer).Backlog, "its close and its add")
	requirePending(t, done)
	require.NoError(t, p.manager.Fence(p.ctx, 5, producer))
	require.ErrorIs(t, <-done, dcp.ErrFenced)
}

// History 7: the engine does not answer the closes of a planned stop.
func TestShutEndsThoughTheConsumerHangs(t *testing.T) {
	hook := &deaf{to: toCloses}
	p := newPair(t, healthy, dcp.Limits{Close: 500 * time.Millisecond}, func(p *pair) { p.hooks = hook })
	require.NoError(t, p.apply(5, 6))
	done := background(func() error { return p.manager.Shut(p.ctx) })
	p.eventually("it is being asked", func() bool { return hook.heard.Load() == 2 })
	assert.Equal(t, "stopping", p.linkTo(producer).State, "and the status answers")
	err := <-done
	var link *dcp.LinkError
	require.ErrorAs(t, err, &link)
	assert.Equal(t, producer, link.Producer)
	p.eventually("the engine has no connection left", func() bool {
		connections, err := p.clients[consumer].DCPConnections(p.ctx)
		return err == nil && len(connections) == 0
	})
}

func (p *pair) open(name string) net.Conn {
	conn, err := kv.OpenDCP(p.ctx, p.endpoint(consumer), kv.DCPOpen{Bucket: bucket, Name: name, Role: kv.Consumer, ConsumerName: consumer})
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (p *pair) connections() []string {
	connections, err := p.clients[consumer].DCPConnections(p.ctx)
	require.NoError(p.t, err)
	names := make([]string, 0, len(connections))
	for _, c := range connections {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	return names
}

func TestLeftOverConnectionsAreNukedAndNoOthers(t *testing.T) {
	p := newPair(t, healthy, dcp.Limits{})
	p.open(dcp.ConnectionName(producer, consumer, bucket, 3))
	p.open(dcp.ConnectionName("n7", consumer, bucket, 0))
	p.open("backup:somebody else's")
	require.Len(t, p.connections(), 3)
	p.startManager(dcp.Limits{})
	p.eventually("only that is left", func() bool { return assert.ObjectsAreEqual([]string{"backup:somebody else's"}, p.connections()) })
}

// Two managers of the same replication, which ownership in the store should prevent: one of them steps back, and says why.
func TestNameInUse(t *testing.T) {
	p := newPair(t, healthy, dcp.Limits{})
	first := p.manager
	p.startManager(dcp.Limits{})
	second := p.manager
	require.NoError(t, first.Apply(p.ctx, 1, "", map[uint16]string{5: producer}))
	fight := background(func() error { return second.Apply(p.ctx, 1, "", map[uint16]string{5: producer}) })

	var loser, winner *dcp.Manager
	var used *dcp.NameInUseError
	p.eventually("one steps back", func() bool {
		for i, m := range []*dcp.Manager{first, second} {
			status, err := m.Status(p.ctx)
			require.NoError(t, err)
			if len(status.Links) == 1 && status.Links[0].State == "down" {
				require.ErrorAs(t, status.Links[0].LastError, &used)
				assert.Greater(t, time.Until(status.Links[0].RetryAt), 30*time.Second, "for long")
				loser, winner = m, []*dcp.Manager{second, first}[i]
				return true
			}
		}
		return false
	})
	assert.Contains(t, []string{producer, consumer}, used.Node, "either engine may be the first to close")
	assert.Equal(t, dcp.ConnectionName(producer, consumer, bucket, 0), used.Name)
	require.ErrorAs(t, loser.Apply(p.ctx, 1, "", map[uint16]string{6: producer}), &used)
	if err := <-fight; err != nil {
		var link *dcp.LinkError
		require.ErrorAs(t, err, &link)
	}
	p.eventually("the other one goes on, unless it has stepped back at the same time", func() bool {
		status, err := winner.Status(p.ctx)
		return err == nil && len(status.Links) == 1 && (status.Links[0].State == "up" || errors.As(status.Links[0].LastError, &used))
	})
}

func (p *pair) fourConnections() { p.tune = func(opts *dcp.Options) { opts.Connections = 4 } }

// rebalance.md §14 item 16: each connection of a pair of nodes is looked after by itself.
func TestSeveralConnections(t *testing.T) {
	p := newPair(t, healthy, dcp.Limits{}, (*pair).fourConnections)
	require.NoError(t, p.apply(all()...))
	links := p.status().Links
	require.Len(t, links, 4)
	for i, l := range links {
		assert.Equal(t, i, l.Conn)
		assert.Equal(t, []uint16{uint16(i), uint16(i + 4), uint16(i + 8), uint16(i + 12)}, l.Streams)
		assert.Contains(t, p.connections(), dcp.ConnectionName(producer, consumer, bucket, i))
	}
	require.Equal(t, p.manager.ConnectionFor(producer, 6), dcp.ConnectionName(producer, consumer, bucket, 2))

	// The manager may be back under the name, and close this one, before it has been answered.
	if err := kv.Nuke(p.ctx, p.endpoint(consumer), bucket, p.manager.ConnectionFor(producer, 6)); err != nil {
		require.ErrorIs(t, err, kv.ErrNukeUnanswered)
	}
	p.eventually("its streams come back", func() bool {
		l := p.status().Links[2]
		return l.Incarnation == 2 && len(l.Streams) == 4
	})
	for i, l := range p.status().Links {
		if i != 2 {
			assert.EqualValues(t, 1, l.Incarnation, "connection %d has nothing to do with it", i)
		}
	}
	assert.Len(t, p.crashes(), 1)
	for _, vb := range all() {
		p.write(vb, 3)
	}
	for _, vb := range all() {
		p.requireReplicated(vb)
	}
}

// Design §5.1: the vbucket that a crash names comes back last, alone, after its pause.
func TestASuspectIsKeptApart(t *testing.T) {
	p := newPair(t, fault.EarlyStreamEnd, dcp.Limits{})
	require.NoError(t, p.apply(0, 1, 2))
	p.plan.Arm()
	require.NoError(t, p.manager.Want(p.ctx, 1, map[uint16]string{7: producer}))
	p.record()
	p.eventually("the healthy ones are back, the suspect is not", func() bool {
		status := p.status()
		return assert.ObjectsAreEqual([]uint16{0, 1, 2}, p.streams()) && status.KeptApart[7].After(time.Now())
	})
	p.eventually("it follows", func() bool { return assert.ObjectsAreEqual([]uint16{0, 1, 2, 7}, p.streams()) })
	assert.Equal(t, 2, p.incarnation())
	assert.Empty(t, p.status().KeptApart)
	require.Len(t, p.crashes(), 1)
	assert.Equal(t, []uint16{7}, p.crashes()[0].VBs)
}

// hold makes the engine have a stream of a vbucket on a connection that is not the manager's.
func (p *pair) hold(vb uint16) net.Conn {
	conn := p.open(dcp.ConnectionName("n7", consumer, bucket, 0))
	_, err := conn.Write(mcbp.AddStream{VBucket: vb, Opaque: mcbp.Opaque{0xff, 0, 1, 0xff}}.Append(nil))
	require.NoError(p.t, err)
	_, err = conn.Read(make([]byte, 1)) // its first word: the stream is being set up
	require.NoError(p.t, err)
	return conn
}

func TestAWantedStreamThatALeftOverConnectionHolds(t *testing.T) {
	exists := func(p *pair) {
		p.eventually("the engine says that it exists", func() bool { return !p.status().KeptApart[5].IsZero() })
	}
	t.Run("is opened once that has ended", func(t *testing.T) {
		p := newPair(t, healthy, dcp.Limits{})
		conn := p.hold(5)
		require.NoError(t, p.manager.Want(p.ctx, 1, map[uint16]string{5: producer}))
		exists(p)
		require.NoError(t, conn.Close())
		p.eventually("the stream is there", func() bool { return len(p.streams()) == 1 })
		assert.Equal(t, 1, p.incarnation())
	})
	t.Run("is opened once that has been nuked", func(t *testing.T) {
		p := newPair(t, healthy, dcp.Limits{Close: 400 * time.Millisecond})
		p.hold(5)
		require.NoError(t, p.manager.Want(p.ctx, 1, map[uint16]string{5: producer}))
		exists(p)
		p.eventually("the stream is there", func() bool { return len(p.streams()) == 1 })
		p.eventually("the node has noticed that who opened the name is gone", func() bool {
			return !slices.Contains(p.connections(), dcp.ConnectionName("n7", consumer, bucket, 0))
		})
		assert.Equal(t, 1, p.incarnation())
		p.write(5, 10)
		p.requireReplicated(5)
	})
}

// rebalance.md §2.12: what is read from a node is evidence that its engine lives.
func TestWhatWasHeardOfEachNode(t *testing.T) {
	p := newPair(t, healthy, dcp.Limits{})
	assert.Empty(t, p.status().Heard)
	before := time.Now()
	require.NoError(t, p.apply(5))
	heard := p.status().Heard
	require.Len(t, heard, 2)
	for _, node := range []string{producer, consumer} {
		assert.False(t, heard[node].Before(before), node)
		assert.False(t, heard[node].After(time.Now()), node)
	}
	p.eventually("an idle connection is heard of", func() bool {
		now := p.status().Heard
		return now[producer].After(heard[producer]) && now[consumer].After(heard[consumer])
	})
	heard = p.status().Heard
	require.NoError(t, p.manager.Fence(p.ctx, 5, producer))
	now := p.status().Heard
	for _, node := range []string{producer, consumer} {
		assert.False(t, now[node].Before(heard[node]), "not forgotten with the connections")
	}
	require.NoError(t, p.nodes[producer].Close())
	p.eventually("the crash is known", func() bool { return p.linkTo(producer).State != "up" })
	last := p.status().Heard[producer]
	require.NoError(t, p.manager.Retain(p.ctx, 1, "", nil))
	assert.False(t, last.After(time.Now()))
	require.NoError(t, p.manager.Retain(p.ctx, 1, "", nil))
	p.eventually("without a link nobody listens", func() bool { return len(p.status().Heard) == 0 })
}

func TestChangedEndpointsApplyAtAQuietPoint(t *testing.T) {
	var generation atomic.Int64
	var mu sync.Mutex
	dialled := map[int64]int{}
	p := newPair(t, healthy, dcp.Limits{}, func(p *pair) {
		p.tune = func(opts *dcp.Options) {
			known := opts.Endpoints
			opts.Endpoints = func(node string) (kv.Endpoint, bool) {
				endpoint, ok := known(node)
				current := generation.Load()
				endpoint.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
					mu.Lock()
					dialled[current]++
					mu.Unlock()
					return (&net.Dialer{}).DialContext(ctx, network, addr)
				}
				return endpoint, ok
			}
		}
	})
	require.NoError(t, p.manager.Apply(p.ctx, 1, "move", map[uint16]string{5: producer}))
	require.NoError(t, p.apply(6))
	generation.Store(1)
	require.NoError(t, p.manager.Refresh(p.ctx))
	assert.True(t, p.linkTo(producer).Outdated)
	require.NoError(t, p.apply(7), "a move is at work; nothing is taken from it")
	assert.Equal(t, 1, p.incarnation())

	require.NoError(t, p.manager.Release(p.ctx, 1, "move"))
	p.eventually("opened anew, with all streams", func() bool {
		l := p.linkTo(producer)
		return !l.Outdated && l.Incarnation == 2 && len(l.Streams) == 3
	})
	assert.Empty(t, p.crashes(), "that is no crash")
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, 2, dialled[1])
}
