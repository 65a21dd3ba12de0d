package dcp

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Managing the replicators of a node, and nuking: 2.9 and 2.10 of the reference's state tables.

// Differs: each link is looked after for itself, also when a sibling of the same pair of nodes lives.
func TestState_2_9_manage(t *testing.T) {
	d := newDesk(t)
	d.m.conns = 2
	id := d.apply(1, "", map[uint16]string{0: "n1", 1: "n1"})
	assert.Equal(t, []linkKey{{"n1", 0}, {"n1", 1}}, d.started)
	for range 2 {
		d.linkAnswer(nil, nil)
	}
	require.NoError(t, d.answer(id))
	d.started = nil
	d.m.linkGone(linkKey{"n1", 1}, errors.New("gave up"), d.now)
	d.now = d.now.Add(2 * firstLinkRetry)
	d.m.tick(d.now)
	d.perform()
	assert.Equal(t, []linkKey{{"n1", 1}}, d.started)

	stop := d.apply(1, "", map[uint16]string{0: "", 1: ""})
	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(stop))
	for range 3 {
		d.now = d.now.Add(time.Minute)
		d.m.tick(d.now)
		d.perform()
	}
	assert.Contains(t, d.stopped, linkKey{"n1", 0}, "nothing needs it")
}

// Differs: requests for different vbuckets run side by side.
func TestState_2_9_serial(t *testing.T) {
	d := newDesk(t)
	first := d.apply(1, "", map[uint16]string{1: "n1"})
	second := d.apply(1, "", map[uint16]string{2: "n2"})
	require.Len(t, d.sent, 2)
	d.sent = d.sent[1:]
	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(second))
	assert.NotContains(t, d.answers, first)
}

func TestState_2_9_incoming_map(t *testing.T) {
	d := newDesk(t)
	d.live("n2", 5)
	d.live("n1", 4, 3)
	status := d.m.status()
	require.Len(t, status.Links, 2)
	assert.Equal(t, "n1", status.Links[0].Producer, "by node")
	assert.Equal(t, []uint16{3, 4}, status.Links[0].Streams)
	assert.Equal(t, []uint16{5}, status.Links[1].Streams)
}

func nobody(string) (kv.Endpoint, bool) { return kv.Endpoint{}, false }

// Differs: it is an option, and never unset.
func TestState_2_9_connection_count(t *testing.T) {
	for n, want := range map[int]int{0: 1, 1: 1, 64: 64} {
		opts, err := Options{Bucket: "orders", Consumer: "n1", Endpoints: nobody, Connections: n}.validate()
		require.NoError(t, err)
		assert.Equal(t, want, opts.Connections)
	}
	for _, n := range []int{-1, 65} {
		_, err := Options{Bucket: "orders", Consumer: "n1", Endpoints: nobody, Connections: n}.validate()
		require.ErrorContains(t, err, "Connections")
	}
	d := newDesk(t)
	d.m.conns = 4
	assert.Equal(t, linkKey{"n1", 3}, d.m.key("n1", 1023))
}

// Known weakness 20: a manager that is started anew knows how many connections there are.
func TestAManagerThatWasStartedAnewKnowsItsConnections(t *testing.T) {
	onStage(t, func(s *stage) { s.conns = 4 }, func(s *stage) {
		s.up(3)
		name := ConnectionName("n0", "n1", "orders", 3)
		require.Equal(t, name, string(s.c.open.Key()))
		s.manager.pid.Load().Kill()
		s.bothClosed()
		synctest.Wait()
		var stale *StaleEpoch
		require.ErrorAs(t, next(s, s.apply(3)), &stale)
		require.NoError(t, s.manager.Prepare(s.ctx, 1))
		s.c = nil
		s.up(3)
		assert.Equal(t, name, string(s.c.open.Key()))
	})
}

// Differs: all links at once, and the error says which vbuckets.
func TestState_2_9_set_desired(t *testing.T) {
	d := newDesk(t)
	id := d.apply(1, "", map[uint16]string{1: "n1", 2: "n2", 3: "n3"})
	require.Len(t, d.sent, 3, "no link waits for another")
	d.linkAnswer(nil, nil)
	d.linkAnswer(map[uint16]error{2: mcbp.StatusNotMyVBucket}, nil)
	d.linkAnswer(nil, nil)
	var failed *ApplyError
	require.ErrorAs(t, d.answer(id), &failed)
	assert.Equal(t, map[uint16]error{2: mcbp.StatusNotMyVBucket}, failed.ByVB)
	assert.Equal(t, map[uint16]string{1: "n1", 3: "n3"}, d.m.status().Desired)
}

// stop_nodes and remove_undesired are both Retain here: it closes what is not in it and opens nothing.
func TestState_2_9_stop_nodes(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 1)
	d.live("n2", 2)
	id := d.do(func(id callID) { d.m.retain(id, 1, "", map[uint16]string{1: "n1"}, d.now) })
	assert.Equal(t, linkKey{producer: "n2"}, d.sent[0].key)
	assert.Equal(t, []streamChange{{2, opClose}}, d.changes())
	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(id))
}

func TestState_2_9_remove_undesired(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 1, 2)
	id := d.do(func(id callID) {
		d.m.retain(id, 1, "", map[uint16]string{1: "n1", 2: "n2", 3: "n1"}, d.now)
	})
	assert.Equal(t, []streamChange{{2, opClose}}, d.changes(), "the other producer's is not opened, nor is vb 3")
	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(id))
	assert.Equal(t, map[uint16]string{1: "n1"}, d.m.status().Desired)
}

// Differs: it starts from what is wanted, so a stream that was lost comes back.
func TestState_2_9_change_one_vb(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 1, 2)
	id := d.apply(1, "", map[uint16]string{1: "n2"})
	assert.Equal(t, []streamChange{{1, opClose}}, d.changes())
	assert.Equal(t, linkKey{producer: "n1"}, d.linkAnswer(nil, nil).key, "first everywhere else")
	assert.Equal(t, []streamChange{{1, opAdd}}, d.changes())
	assert.Equal(t, linkKey{producer: "n2"}, d.linkAnswer(nil, nil).key)
	require.NoError(t, d.answer(id))

	d.m.streamEnded(linkKey{producer: "n1"}, 2, d.now)
	assert.Equal(t, "n1", d.m.status().Desired[2])
	d.now = d.now.Add(2 * firstReplicaRetry)
	d.m.tick(d.now)
	d.perform()
	assert.Equal(t, []streamChange{{2, opAdd}}, d.changes())
}

// Differs: the manager is not busy until it ends.
func TestState_2_9_takeover(t *testing.T) {
	d := newDesk(t)
	id := d.do(func(id callID) { d.m.takeover(id, 1, "move", 3, "n1", d.now) })
	assert.Equal(t, []streamChange{{3, opTakeover}}, d.changes())
	other := d.apply(1, "", map[uint16]string{4: "n1"})
	d.sent[0], d.sent[1] = d.sent[1], d.sent[0]
	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(other))
	assert.NotContains(t, d.answers, id)
}

// All links are shut at once; none waits for another.
func TestState_2_10_replicators(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		second := s.in(func() error { return s.manager.Apply(s.ctx, 1, "", map[uint16]string{1: "n2"}) })
		c, p := next(s, s.nodes["n1"].opened), next(s, s.nodes["n2"].opened)
		c.write(answerTo(c.read(), mcbp.StatusSuccess))
		require.NoError(t, next(s, second))
		done := s.in(func() error { return s.manager.Shut(s.ctx) })
		first, other := s.c.read(), c.read()
		assert.Equal(t, []mcbp.Opcode{mcbp.OpDCPCloseStream, mcbp.OpDCPCloseStream}, []mcbp.Opcode{first.Opcode(), other.Opcode()})
		s.c.write(answerTo(first, mcbp.StatusSuccess))
		c.write(answerTo(other, mcbp.StatusSuccess))
		require.NoError(t, next(s, done))
		s.bothClosed()
		p.rest()
	})
}

// Differs: features are asked for as for any connection, and the first epoch of a manager does it, not every rebalance.
func TestState_2_10_left_over(t *testing.T) {
	stats := []string{
		"eq_dcpq:replication:n7->n1:orders:type", "consumer",
		"eq_dcpq:replication:n1->n8:orders:type", "producer",
		"eq_dcpq:somebody's view:type", "consumer",
		"eq_dcpq:replication:n9->n1:orders/3:type", "consumer",
		"eq_dcpq:replication:n9->n1:orders/3:created", "1",
	}
	onStage(t, func(s *stage) { s.nodes["n1"].stats = stats }, func(s *stage) {
		var names []string
		for range 2 {
			p := next(s, s.nodes["n1"].opened)
			names = append(names, string(p.open.Key()))
			assert.Equal(t, byte(0), p.open.Extras()[7]&1, "as a consumer")
			assert.Empty(t, p.rest(), "and closed again")
		}
		assert.ElementsMatch(t, []string{"replication:n7->n1:orders", "replication:n9->n1:orders/3"}, names)
		assert.Empty(t, s.nodes["n1"].opened)
	})
}
