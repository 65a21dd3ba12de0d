package kv_test

import (
	"bytes"
	"encoding/hex"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// wire is a frame in the notation of dcp-wire §15; the opaque of a request is not compared.
func wire(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	require.NoError(t, err)
	return b
}

func TestCommandsOnTheWire(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	ctx := t.Context()
	for _, tc := range []struct {
		name string
		call func() error
		want string
	}{
		{
			"SEQNO_PERSISTENCE", func() error { return c.SeqnoPersistence(ctx, 12, 0xfeeddeca) },
			"80 b7 0000 08 00 000c 00000008 00000000 0000000000000000 00000000feeddeca",
		},
		{
			"SET_VBUCKET without topology", func() error { return c.SetVBucket(ctx, 5, mcbp.VBucketReplica, nil) },
			"80 3d 0000 01 00 0005 00000001 00000000 0000000000000000 02",
		},
		{
			"SET_VBUCKET with one chain",
			func() error { return c.SetVBucket(ctx, 5, mcbp.VBucketActive, [][]string{{"n0", ""}}) },
			"80 3d 0000 01 01 0005 0000001b 00000000 0000000000000000 01" + hex.EncodeToString([]byte(`{"topology":[["n0",null]]}`)),
		},
		{
			"SET_VBUCKET with two chains",
			func() error { return c.SetVBucket(ctx, 5, mcbp.VBucketActive, [][]string{{"n0", "n1"}, {"n2", "n1"}}) },
			"80 3d 0000 01 01 0005 00000027 00000000 0000000000000000 01" +
				hex.EncodeToString([]byte(`{"topology":[["n0","n1"],["n2","n1"]]}`)),
		},
		{
			"GET_VBUCKET", func() error { _, err := c.VBucketState(ctx, 0x1234); return err },
			"80 3e 0000 00 00 1234 00000000 00000000 0000000000000000",
		},
		{
			"DEL_VBUCKET", func() error { return c.DeleteVBucket(ctx, 0x1234) },
			"80 3f 0000 00 00 1234 00000000 00000000 0000000000000000",
		},
		{
			"CREATE_BUCKET", func() error { return c.CreateBucket(ctx, "orders", "max_vbuckets=64") },
			"80 85 0006 00 00 0000 0000001b 00000000 0000000000000000" + hex.EncodeToString([]byte("ordersep.so\x00max_vbuckets=64")),
		},
		{
			"SELECT_BUCKET", func() error { return c.SelectBucket(ctx, "orders") },
			"80 89 0006 00 00 0000 00000006 00000000 0000000000000000" + hex.EncodeToString([]byte("orders")),
		},
		{
			"ENABLE_TRAFFIC", func() error { return c.EnableTraffic(ctx) },
			"80 ad 0000 00 00 0000 00000000 00000000 0000000000000000",
		},
		{
			"SET_CLUSTER_CONFIG", func() error { return c.SetClusterConfig(ctx, "b", 1, 258, []byte("{}")) },
			"80 b4 0001 10 01 0000 00000013 00000000 0000000000000000 0000000000000001 0000000000000102 62 7b7d",
		},
		{
			"SET", func() error { _, err := c.Set(ctx, 7, "k", []byte("v"), 9, 2, 3); return err },
			"80 01 0001 08 00 0007 0000000a 00000000 0000000000000009 00000002 00000003 6b 76",
		},
		{
			"ADD", func() error { _, err := c.Add(ctx, 7, "k", []byte("v"), 2, 3); return err },
			"80 02 0001 08 00 0007 0000000a 00000000 0000000000000000 00000002 00000003 6b 76",
		},
		{
			"REPLACE", func() error { _, err := c.Replace(ctx, 7, "k", []byte("v"), 9, 2, 3); return err },
			"80 03 0001 08 00 0007 0000000a 00000000 0000000000000009 00000002 00000003 6b 76",
		},
		{
			"DELETE", func() error { _, err := c.Delete(ctx, 7, "k", 9); return err },
			"80 04 0001 00 00 0007 00000001 00000000 0000000000000009 6b",
		},
		{
			"GET", func() error { _, err := c.Get(ctx, 7, "k"); return err },
			"80 00 0001 00 00 0007 00000001 00000000 0000000000000000 6b",
		},
		{
			"GET_FAILOVER_LOG", func() error { _, err := c.FailoverLog(ctx, 7); return err },
			"80 96 0000 00 00 0007 00000000 00000000 0000000000000000",
		},
		{
			"GET_ALL_VB_SEQNOS", func() error { _, err := c.AllVBSeqnos(ctx); return err },
			"80 48 0000 00 00 0000 00000000 00000000 0000000000000000",
		},
		{
			"GET_CLUSTER_CONFIG", func() error { _, err := c.ClusterConfig(ctx); return err },
			"80 b5 0000 00 00 0000 00000000 00000000 0000000000000000",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := mcbp.Frame(wire(t, tc.want))
			s.on(want.Opcode(), value(nil))
			s.on(mcbp.OpGetVBucket, value([]byte{0, 0, 0, 1}))
			require.NoError(t, tc.call())
			got := bytes.Clone(s.last())
			clear(got[12:16])
			assert.Equal(t, []byte(want), got)

			s.on(want.Opcode(), status(mcbp.StatusTemporaryFailure))
			err := tc.call()
			require.ErrorIs(t, err, mcbp.StatusTemporaryFailure)
			var failed *kv.StatusError
			require.ErrorAs(t, err, &failed)
			assert.Equal(t, want.Opcode(), failed.Op)
			assert.Equal(t, want.VBucket(), failed.VB)
		})
	}
}

func TestDeletingAMissingVBucketIsNoError(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	s.on(mcbp.OpDelVBucket, status(mcbp.StatusNotMyVBucket))
	require.NoError(t, c.DeleteVBucket(t.Context(), 5))
	s.on(mcbp.OpDelVBucket, status(mcbp.StatusInvalid))
	require.ErrorIs(t, c.DeleteVBucket(t.Context(), 5), mcbp.StatusInvalid)
}

func TestTheStateOfAVBucket(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	for number, want := range map[byte]mcbp.VBucketState{
		1: mcbp.VBucketActive, 2: mcbp.VBucketReplica, 3: mcbp.VBucketPending, 4: mcbp.VBucketDead,
	} {
		s.on(mcbp.OpGetVBucket, value([]byte{0, 0, 0, number}))
		state, err := c.VBucketState(t.Context(), 5)
		require.NoError(t, err)
		assert.Equal(t, want, state)
	}
	s.on(mcbp.OpGetVBucket, status(mcbp.StatusNotMyVBucket))
	state, err := c.VBucketState(t.Context(), 5)
	require.NoError(t, err)
	assert.Equal(t, mcbp.VBucketMissing, state)
	s.on(mcbp.OpGetVBucket, status(mcbp.StatusInvalid))
	_, err = c.VBucketState(t.Context(), 5)
	require.ErrorIs(t, err, mcbp.StatusInvalid)
	for why, answer := range map[string][]byte{
		"length of a vbucket's state": {0, 0, 1}, "vbucket state 0": {0, 0, 0, 0}, "vbucket state 257": {0, 0, 1, 1},
	} {
		s.on(mcbp.OpGetVBucket, value(answer))
		_, err = c.VBucketState(t.Context(), 5)
		var malformed *kv.ProtocolError
		require.ErrorAs(t, err, &malformed)
		assert.Equal(t, why, malformed.Why)
	}
}

func TestMutationToken(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	s.on(mcbp.OpSet, func(_ net.Conn, request mcbp.Frame) [][]byte {
		return answer(request, mcbp.Packet{CAS: 11, Extras: wire(t, "000000000000002a 0000000000000007")})
	})
	token, err := c.Set(t.Context(), 1, "k", nil, 0, 0, 0)
	require.NoError(t, err)
	assert.Equal(t, kv.MutationToken{UUID: 42, Seqno: 7, CAS: 11}, token)
	s.on(mcbp.OpSet, func(_ net.Conn, request mcbp.Frame) [][]byte { return answer(request, mcbp.Packet{CAS: 12}) })
	token, err = c.Set(t.Context(), 1, "k", nil, 0, 0, 0)
	require.NoError(t, err)
	assert.Equal(t, kv.MutationToken{CAS: 12}, token)
}

func TestLists(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	s.on(mcbp.OpGetFailoverLog, value(wire(t, "0000000000000002 0000000000000064 0000000000000001 0000000000000000")))
	log, err := c.FailoverLog(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, []kv.FailoverEntry{{UUID: 2, Seqno: 100}, {UUID: 1}}, log)

	s.on(mcbp.OpGetAllVBSeqnos, value(wire(t, "0001 0000000000000064 ffff 0000000000000001")))
	seqnos, err := c.AllVBSeqnos(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[uint16]uint64{1: 100, 65535: 1}, seqnos)

	var protocol *kv.ProtocolError
	s.on(mcbp.OpGetFailoverLog, value(make([]byte, 15)))
	_, err = c.FailoverLog(t.Context(), 1)
	require.ErrorAs(t, err, &protocol)
	s.on(mcbp.OpGetAllVBSeqnos, value(make([]byte, 11)))
	_, err = c.AllVBSeqnos(t.Context())
	require.ErrorAs(t, err, &protocol)
}

func TestClusterConfig(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	s.on(mcbp.OpGetClusterConfig, value([]byte(`{"rev":1}`)))
	config, err := c.ClusterConfig(t.Context())
	require.NoError(t, err)
	assert.JSONEq(t, `{"rev":1}`, string(config))
}

func TestVBucketDetails(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	s.on(mcbp.OpStat, stats(
		"vb_0", "active", "vb_0:high_seqno", "12", "vb_0:persistence_seqno", "11", "vb_0:uuid", "18446744073709551615",
		"vb_0:topology", `[["n0","n1"],["n2",null]]`, "vb_0:num_items", "10", "vb_0:high_prepared_seqno", "3", "vb_0:hash", "abc",
		"vb_1023", "replica", "vb_1023:topology", "null", "vb_70000", "dead", "something_else", "1",
	))
	got, err := c.VBuckets(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[uint16]kv.VBucketInfo{
		0: {
			State: mcbp.VBucketActive, Topology: [][]string{{"n0", "n1"}, {"n2", ""}}, HighSeqno: 12, PersistedSeqno: 11,
			HighPreparedSeqno: 3, UUID: 1<<64 - 1, NumItems: 10,
		},
		1023: {State: mcbp.VBucketReplica},
	}, got)
	assert.Equal(t, "vbucket-details", string(s.last().Key()))

	for _, bad := range [][]string{{"vb_0", "lost"}, {"vb_0:high_seqno", "-1"}, {"vb_0:topology", "[["}} {
		s.on(mcbp.OpStat, stats(append(bad, "vb_1", "active")...))
		_, err = c.VBuckets(t.Context())
		require.ErrorContains(t, err, bad[0])
	}
	s.on(mcbp.OpStat, stats())
	got, err = c.VBuckets(t.Context())
	require.NoError(t, err, "a call given up half-way leaves the connection usable")
	assert.Empty(t, got)
}

func TestVBucketSeqno(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	s.on(mcbp.OpStat, stats(
		"vb_5:high_seqno", "12", "vb_5:last_persisted_seqno", "11", "vb_5:uuid", "77", "vb_5:high_prepared_seqno", "2", "vb_6:high_seqno", "1",
	))
	got, err := c.VBucketSeqno(t.Context(), 5)
	require.NoError(t, err)
	assert.Equal(t, kv.SeqnoInfo{High: 12, Persisted: 11, UUID: 77, HighPrepared: 2}, got)
	assert.Equal(t, "vbucket-seqno 5", string(s.last().Key()))
	s.on(mcbp.OpStat, status(mcbp.StatusNotMyVBucket))
	_, err = c.VBucketSeqno(t.Context(), 5)
	require.EqualError(t, err, "STAT vb 5: not my vbucket (0x07)")
}

func TestTakeoverEstimate(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	s.on(mcbp.OpStat, stats("name", "x", "status", "in-memory", "estimate", "42", "backfillRemaining", "unknown"))
	got, err := c.TakeoverEstimate(t.Context(), 5, "replication:a->b:orders")
	require.NoError(t, err)
	assert.Equal(t, kv.Estimate{Status: "in-memory", Items: 42}, got)
	assert.Equal(t, "dcp-vbtakeover 5 replication:a->b:orders", string(s.last().Key()))
	s.on(mcbp.OpStat, stats("status", "connection_does_not_exist", "estimate", "0"))
	got, err = c.TakeoverEstimate(t.Context(), 5, "x")
	require.NoError(t, err)
	assert.Equal(t, kv.Estimate{Status: "connection_does_not_exist"}, got)
}

// What a node does not say is not 0: who waits for all of nothing would be done at once.
func TestAFigureThatTheNodeDoesNotTellIsAnError(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	for name, answer := range map[string][]string{
		"nothing":              nil,
		"no high seqno":        {"vb_5:last_persisted_seqno", "11", "vb_6:high_seqno", "1"},
		"no persisted seqno":   {"vb_5:high_seqno", "12"},
		"an estimate, no word": {"estimate", "0"},
		"a word, no estimate":  {"status", "in-memory"},
	} {
		s.on(mcbp.OpStat, stats(answer...))
		_, err := c.VBucketSeqno(t.Context(), 5)
		var unsaid *kv.ProtocolError
		require.ErrorAs(t, err, &unsaid, name)
		_, err = c.TakeoverEstimate(t.Context(), 5, "x")
		require.ErrorAs(t, err, &unsaid, name)
	}
	require.NoError(t, c.Err(), "the connection is as good as before")
}

func TestDCPConnections(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	s.on(mcbp.OpStat, stats(
		"ep_dcp_count", "2", "eq_dcpq:replication:a->b:orders:type", "producer", "eq_dcpq:replication:a->b:orders:stream_5_opaque", "1",
		"eq_dcpq:replication:c->a:orders/3:type", "consumer", "eq_dcpq:x:stream_type", "no",
	))
	got, err := c.DCPConnections(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []kv.DCPConnection{
		{Name: "replication:a->b:orders", Type: "producer"}, {Name: "replication:c->a:orders/3", Type: "consumer"},
	}, got)
}
