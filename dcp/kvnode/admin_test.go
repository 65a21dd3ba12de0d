package kvnode_test

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

func TestConnectingNeedsTheAccount(t *testing.T) {
	n := startNode(t, "n0")
	c := connect(t, n)
	sasl := func(key, value string) mcbp.Status {
		return c.do(&mcbp.Packet{Opcode: mcbp.OpSASLAuth, Key: []byte(key), Value: []byte(value)}).Status()
	}
	assert.Equal(t, "SCRAM-SHA512 SCRAM-SHA256 SCRAM-SHA1 PLAIN", string(c.ok(&mcbp.Packet{Opcode: mcbp.OpSASLListMechs}).Value()))
	for _, op := range []mcbp.Opcode{
		mcbp.OpSelectBucket, mcbp.OpCreateBucket, mcbp.OpGet, mcbp.OpStat, mcbp.OpSetVBucket, mcbp.OpDCPOpen, mcbp.OpGetClusterConfig,
	} {
		assert.Equal(t, mcbp.StatusNoAccess, c.do(&mcbp.Packet{Opcode: op, Key: []byte(testBucket)}).Status(), "%v", op)
	}
	assert.Equal(t, mcbp.StatusAuthError, sasl("PLAIN", "\x00"+testUser+"\x00wrong"))
	assert.Equal(t, mcbp.StatusAuthError, sasl("PLAIN", "\x00wrong\x00"+testPassword))
	assert.Equal(t, mcbp.StatusAuthError, sasl("PLAIN", testUser))
	assert.Equal(t, mcbp.StatusAuthError, sasl("SCRAM-SHA1", "\x00"+testUser+"\x00"+testPassword))
	assert.Equal(t, mcbp.StatusAuthError, c.do(&mcbp.Packet{Opcode: mcbp.OpSASLStep}).Status())
	assert.Equal(t, mcbp.StatusSuccess, sasl("PLAIN", "\x00"+testUser+"\x00"+testPassword))
	assert.Equal(t, mcbp.StatusNoBucket, c.get(1, "k").Status())
	assert.Equal(t, mcbp.StatusKeyNotFound, c.do(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte("none")}).Status())
	c.ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte(testBucket)})
}

func TestANodeWithoutAnAccountAsksNobody(t *testing.T) {
	n, err := kvnode.Start(kvnode.Options{Name: "open"})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	require.NoError(t, n.CreateBucket(testBucket, 4))
	require.ErrorIs(t, n.CreateBucket(testBucket, 4), mcbp.StatusKeyExists)
	require.Error(t, n.CreateBucket("", 4))
	require.Error(t, n.CreateBucket("b", 0))
	connect(t, n).ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte(testBucket)})
}

// Clients send their whole handshake before they read anything.
func TestAPipelinedHandshakeIsAnsweredInOrder(t *testing.T) {
	c := connect(t, startNode(t, "n0"))
	requests := []*mcbp.Packet{
		{Opcode: mcbp.OpHello, Key: []byte("{}"), Value: []byte{0, 6, 0, 0x12, 0, 0x0a, 0, 0x0b, 0, 0x99, 0xff, 0xff, 0, 2}},
		{Opcode: mcbp.OpGetErrorMap, Value: []byte{0, 2}},
		{Opcode: mcbp.OpSASLListMechs},
		{Opcode: mcbp.OpSASLAuth, Key: []byte("PLAIN"), Value: []byte("\x00" + testUser + "\x00" + testPassword)},
		{Opcode: mcbp.OpSelectBucket, Key: []byte(testBucket)},
		{Opcode: mcbp.OpNoop},
	}
	var all []byte
	for i, p := range requests {
		p.Opaque = mcbp.Opaque{0xaa, byte(i)}
		all = p.Append(all)
	}
	c.write(all)
	for i, p := range requests {
		f := c.read()
		assert.Equal(t, p.Opcode, f.Opcode())
		assert.Equal(t, mcbp.Opaque{0xaa, byte(i)}, f.Opaque())
		assert.Equal(t, mcbp.StatusSuccess, f.Status(), "%v", p.Opcode)
		switch p.Opcode {
		case mcbp.OpHello:
			assert.Equal(t, "0006000a000b0012", hex.EncodeToString(f.Value()), "what the node has, in ascending order")
		case mcbp.OpGetErrorMap:
			assert.JSONEq(t, `{"version":2,"revision":1,"errors":{}}`, string(f.Value()))
		}
	}
}

func TestCreateBucketAsAClusterManagerDoes(t *testing.T) {
	c := login(t, startNode(t, "n0"))
	create := &mcbp.Packet{Opcode: mcbp.OpCreateBucket, Key: []byte("orders"), Value: []byte("ep.so\x00" + strings.Join([]string{
		"max_size=104857600", "backend=couchdb", "couch_bucket=orders", "max_vbuckets=64", "dbname=/data/orders",
		"data_traffic_enabled=false", "bucket_type=persistent", "item_eviction_policy=value_only", "compression_mode=passive",
		"conflict_resolution_type=seqno", "failpartialwarmup=false", "alog_path=/data/orders/access.log", "ht_locks=47",
		"max_num_shards=4", "max_num_workers=3",
	}, ";"))}
	c.ok(create)
	assert.Equal(t, mcbp.StatusKeyExists, c.do(create).Status())
	assert.Equal(t, "default orders", string(c.ok(&mcbp.Packet{Opcode: mcbp.OpListBuckets}).Value()))
	for _, bad := range []string{"", "ep.so", "memcached.so\x00", "ep.so\x00max_vbuckets=none", "ep.so\x00max_vbuckets=100000"} {
		p := &mcbp.Packet{Opcode: mcbp.OpCreateBucket, Key: []byte("bad"), Value: []byte(bad)}
		assert.Equal(t, mcbp.StatusInvalid, c.do(p).Status(), "%q", bad)
	}

	c.ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte("orders")})
	c.setVBucket(63, mcbp.VBucketActive)
	assert.Equal(t, mcbp.StatusRange, c.do(&mcbp.Packet{Opcode: mcbp.OpSetVBucket, VBucket: 64, Extras: []byte{1}}).Status())
	assert.Equal(t, mcbp.StatusTemporaryFailure, c.get(63, "k").Status(), "no traffic yet")
	c.ok(&mcbp.Packet{Opcode: mcbp.OpEnableTraffic})
	assert.Equal(t, mcbp.StatusKeyNotFound, c.get(63, "k").Status())
	c.ok(&mcbp.Packet{Opcode: mcbp.OpDisableTraffic})
	assert.Equal(t, mcbp.StatusTemporaryFailure, c.get(63, "k").Status())
}

func TestDeletingABucketClosesItsConnections(t *testing.T) {
	n := startNode(t, "n0")
	admin, user := login(t, n), login(t, n)
	admin.setVBucket(1, mcbp.VBucketActive)
	p := openDCP(t, n, kvnode.RoleProducer, testLink, "")
	p.write(mcbp.StreamRequest{VBucket: 1, End: mcbp.EndSeqnoForever}.Append(nil))
	require.Equal(t, mcbp.StatusSuccess, p.read().Status())
	remove := &mcbp.Packet{Opcode: mcbp.OpDeleteBucket, Key: []byte(testBucket)}
	admin.ok(remove)
	assert.Equal(t, mcbp.StatusKeyNotFound, admin.do(remove).Status())
	for _, f := range p.closed() {
		assert.NotEqual(t, mcbp.OpDCPStreamEnd, f.Opcode(), "the socket closes without a word")
	}
	user.closed()
}

// Who deletes its own bucket has none then, nor the next one of the name: what it wrote there would be nowhere.
func TestWhoDeletesItsBucketHasNone(t *testing.T) {
	n := startNode(t, "n0")
	c := login(t, n)
	c.setVBucket(1, mcbp.VBucketActive)
	c.ok(&mcbp.Packet{Opcode: mcbp.OpDeleteBucket, Key: []byte(testBucket)})
	set := &mcbp.Packet{Opcode: mcbp.OpSetVBucket, VBucket: 1, Extras: []byte{byte(mcbp.VBucketActive)}}
	assert.Equal(t, mcbp.StatusNoBucket, c.do(set).Status())
	require.NoError(t, n.CreateBucket(testBucket, 4))
	assert.Equal(t, mcbp.StatusNoBucket, c.do(set).Status())
	c.ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte(testBucket)})
	c.ok(set)

	p := openDCP(t, n, kvnode.RoleProducer, testLink, "")
	p.write((&mcbp.Packet{Opcode: mcbp.OpDeleteBucket, Key: []byte(testBucket)}).Frame())
	p.closed()
}

func TestVBucketStates(t *testing.T) {
	n := startNode(t, "n0")
	c := login(t, n, mcbp.FeatureJSON)
	assert.Equal(t, mcbp.StatusNotMyVBucket, c.do(&mcbp.Packet{Opcode: mcbp.OpGetVBucket, VBucket: 9}).Status())
	for _, state := range []mcbp.VBucketState{mcbp.VBucketReplica, mcbp.VBucketPending, mcbp.VBucketActive, mcbp.VBucketDead} {
		c.setVBucket(9, state)
		assert.Equal(t, []byte{0, 0, 0, byte(state)}, c.ok(&mcbp.Packet{Opcode: mcbp.OpGetVBucket, VBucket: 9}).Value())
		assert.Equal(t, state.String(), c.stat("vbucket", 9, ""))
	}
	for name, p := range map[string]*mcbp.Packet{
		"no state":      {Opcode: mcbp.OpSetVBucket, VBucket: 9},
		"state 0":       {Opcode: mcbp.OpSetVBucket, VBucket: 9, Extras: []byte{0}},
		"state 5":       {Opcode: mcbp.OpSetVBucket, VBucket: 9, Extras: []byte{5}},
		"a key":         {Opcode: mcbp.OpSetVBucket, VBucket: 9, Extras: []byte{1}, Key: []byte("k")},
		"broken JSON":   topologyPacket(9, "{", mcbp.DatatypeJSON),
		"no chains":     topologyPacket(9, `{"topology":"x"}`, mcbp.DatatypeJSON),
		"three chains":  topologyPacket(9, `{"topology":[["a"],["b"],["c"]]}`, mcbp.DatatypeJSON),
		"empty chain":   topologyPacket(9, `{"topology":[["a"],[]]}`, mcbp.DatatypeJSON),
		"long chain":    topologyPacket(9, `{"topology":[["a","b","c","d","e"]]}`, mcbp.DatatypeJSON),
		"no active":     topologyPacket(9, `{"topology":[["a"],[null,"a"]]}`, mcbp.DatatypeJSON),
		"no name":       topologyPacket(9, `{"topology":[["a",""]]}`, mcbp.DatatypeJSON),
		"one twice":     topologyPacket(9, `{"topology":[["a","b","b"]]}`, mcbp.DatatypeJSON),
		"too much":      topologyPacket(9, `{"topology":[["`+strings.Repeat("a", 16<<10)+`"]]}`, mcbp.DatatypeJSON),
		"not said JSON": topologyPacket(9, `{"topology":[["a"]]}`, 0),
	} {
		assert.Equal(t, mcbp.StatusInvalid, c.do(p).Status(), name)
	}
}

func topologyPacket(vb uint16, value string, datatype mcbp.Datatype) *mcbp.Packet {
	return &mcbp.Packet{
		Opcode: mcbp.OpSetVBucket, VBucket: vb, Extras: []byte{byte(mcbp.VBucketActive)}, Value: []byte(value), Datatype: datatype,
	}
}

func TestTopologyIsKeptAsGiven(t *testing.T) {
	n := startNode(t, "n0")
	c := login(t, n, mcbp.FeatureJSON)
	c.ok(topologyPacket(9, `{"topology":[["n0",null],["n2","n1"]],"expected_next_state":"active"}`, mcbp.DatatypeJSON))
	assert.Equal(t, `[["n0",null],["n2","n1"]]`, c.stat("vbucket-details", 9, "topology"))
	c.setVBucket(9, mcbp.VBucketActive)
	assert.Equal(t, "null", c.stat("vbucket-details", 9, "topology"), "a state without a topology clears it")

	plain := login(t, n)
	p := topologyPacket(9, `{"topology":[["n0"]]}`, mcbp.DatatypeJSON)
	assert.Equal(t, mcbp.StatusInvalid, plain.do(p).Status(), "JSON was not negotiated")
}

func TestDeletingAVBucket(t *testing.T) {
	c := login(t, startNode(t, "n0"))
	remove := func(vb uint16, value string) mcbp.Status {
		return c.do(&mcbp.Packet{Opcode: mcbp.OpDelVBucket, VBucket: vb, Value: []byte(value)}).Status()
	}
	c.setVBucket(1, mcbp.VBucketActive)
	c.set(1, "k", "v")
	uuid := c.stat("vbucket-seqno", 1, "uuid")
	assert.Equal(t, mcbp.StatusInvalid, remove(1, "async=2"))
	assert.Equal(t, mcbp.StatusSuccess, remove(1, ""), "an active one too")
	assert.Equal(t, mcbp.StatusNotMyVBucket, remove(1, ""))
	_, status := c.stats("vbucket-details 1")
	assert.Equal(t, mcbp.StatusNotMyVBucket, status)
	c.setVBucket(1, mcbp.VBucketActive)
	assert.Equal(t, mcbp.StatusKeyNotFound, c.get(1, "k").Status(), "made again, it is empty")
	assert.NotEqual(t, uuid, c.stat("vbucket-seqno", 1, "uuid"))
	assert.Equal(t, mcbp.StatusSuccess, remove(1, "async=0"))
}

func TestAllVBucketSeqnos(t *testing.T) {
	c := login(t, startNode(t, "n0"))
	c.setVBucket(3, mcbp.VBucketActive)
	c.set(3, "k", "v")
	c.setVBucket(1, mcbp.VBucketReplica)
	c.setVBucket(4, mcbp.VBucketPending)
	c.setVBucket(2, mcbp.VBucketDead)
	ask := func(extras ...byte) mcbp.Frame {
		return c.do(&mcbp.Packet{Opcode: mcbp.OpGetAllVBSeqnos, Extras: extras})
	}
	const three = "00030000000000000001"
	assert.Equal(t, "00010000000000000000"+three+"00040000000000000000", hex.EncodeToString(ask().Value()))
	assert.Equal(t, three, hex.EncodeToString(ask(0, 0, 0, 1).Value()))
	assert.Equal(t, three, hex.EncodeToString(ask(0, 0, 0, 1, 0, 0, 0, 0).Value()))
	assert.Equal(t, "00020000000000000000", hex.EncodeToString(ask(0, 0, 0, 4).Value()))
	assert.Equal(t, mcbp.StatusUnknownCollection, ask(0, 0, 0, 1, 0, 0, 0, 8).Status())
	assert.Equal(t, mcbp.StatusInvalid, ask(0, 0, 0, 5).Status())
	assert.Equal(t, mcbp.StatusInvalid, ask(1).Status())
}

func TestFailoverLogGrowsWithPromotionsOnly(t *testing.T) {
	c := login(t, startNode(t, "n0"))
	log := func() []mcbp.FailoverEntry {
		entries, err := mcbp.ParseFailoverLog(c.ok(&mcbp.Packet{Opcode: mcbp.OpGetFailoverLog, VBucket: 1}).Value())
		require.NoError(t, err)
		return entries
	}
	assert.Equal(t, mcbp.StatusNotMyVBucket, c.do(&mcbp.Packet{Opcode: mcbp.OpGetFailoverLog, VBucket: 1}).Status())
	c.setVBucket(1, mcbp.VBucketActive)
	require.Len(t, log(), 1, "made active from nothing")
	c.set(1, "k", "v")
	c.setVBucket(1, mcbp.VBucketActive)
	c.setVBucket(1, mcbp.VBucketReplica)
	require.Len(t, log(), 1)
	c.setVBucket(1, mcbp.VBucketActive)
	entries := log()
	require.Len(t, entries, 2)
	assert.EqualValues(t, 1, entries[0].Seqno)
	assert.NotEqual(t, entries[1].UUID, entries[0].UUID)
}

func persistence(vb uint16, seqno uint64) *mcbp.Packet {
	return &mcbp.Packet{Opcode: mcbp.OpSeqnoPersistence, VBucket: vb, Extras: binary.BigEndian.AppendUint64(nil, seqno)}
}

func TestSeqnoPersistence(t *testing.T) {
	n := startNode(t, "n0", func(o *kvnode.Options) { o.PersistenceTimeout = 20 * time.Millisecond })
	c := login(t, n)
	assert.Equal(t, mcbp.StatusNotMyVBucket, c.do(persistence(1, 0)).Status())
	c.setVBucket(1, mcbp.VBucketActive)
	c.ok(persistence(1, 0))
	c.set(1, "k", "v")
	c.ok(persistence(1, 1))
	assert.Equal(t, mcbp.StatusTemporaryFailure, c.do(persistence(1, 2)).Status())
	assert.Equal(t, mcbp.StatusInvalid, c.do(&mcbp.Packet{Opcode: mcbp.OpSeqnoPersistence, VBucket: 1}).Status())
}

func TestSeqnoPersistenceWaitsAndHoldsItsConnectionUp(t *testing.T) {
	n := startNode(t, "n0", func(o *kvnode.Options) { o.PersistenceTimeout = patience })
	writer, waiter := login(t, n), login(t, n)
	writer.setVBucket(1, mcbp.VBucketActive)
	writer.setVBucket(2, mcbp.VBucketActive)
	wait, behind := persistence(1, 1), &mcbp.Packet{Opcode: mcbp.OpNoop}
	waiter.write(behind.Append(wait.Frame()))
	writer.set(1, "k", "v")
	assert.Equal(t, mcbp.OpSeqnoPersistence, waiter.read().Opcode(), "answers keep their order")
	assert.Equal(t, mcbp.OpNoop, waiter.read().Opcode())

	waiter.write(persistence(2, 9).Frame())
	writer.ok(&mcbp.Packet{Opcode: mcbp.OpDelVBucket, VBucket: 2})
	assert.Equal(t, mcbp.StatusNotMyVBucket, waiter.read().Status(), "deleted while somebody waits")

	before := &mcbp.Packet{Opcode: mcbp.OpVersion}
	waiter.write(persistence(1, 9).Append(before.Frame()))
	assert.Equal(t, mcbp.OpVersion, waiter.read().Opcode(), "what was asked before does not wait")
	require.NoError(t, n.Close(), "closing does not wait for the wait")
}

func clusterConfig(bucket string, epoch, revision uint64, json string) *mcbp.Packet {
	extras := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, epoch), revision)
	return &mcbp.Packet{Opcode: mcbp.OpSetClusterConfig, Key: []byte(bucket), Extras: extras, Value: []byte(json)}
}

func TestClusterConfig(t *testing.T) {
	n := startNode(t, "n0")
	c := login(t, n)
	get := &mcbp.Packet{Opcode: mcbp.OpGetClusterConfig}
	assert.Equal(t, mcbp.StatusKeyNotFound, c.do(get).Status())
	c.ok(clusterConfig(testBucket, 1, 5, `{"rev":5}`))
	assert.JSONEq(t, `{"rev":5}`, string(c.ok(get).Value()))
	c.ok(clusterConfig(testBucket, 1, 4, `{"rev":4}`))
	assert.JSONEq(t, `{"rev":4}`, string(c.ok(get).Value()), "a lower revision replaces a higher one")

	p := clusterConfig(testBucket, 1, 4, `{}`)
	p.Extras = nil
	assert.Equal(t, mcbp.StatusInvalid, c.do(p).Status())
	assert.Equal(t, mcbp.StatusKeyNotFound, c.do(clusterConfig("none", 1, 1, `{}`)).Status())

	known := func(epoch, revision uint64) *mcbp.Packet {
		return &mcbp.Packet{Opcode: mcbp.OpGetClusterConfig, Extras: clusterConfig("", epoch, revision, "").Extras}
	}
	assert.JSONEq(t, `{"rev":4}`, string(c.ok(known(1, 3)).Value()))
	assert.JSONEq(t, `{"rev":4}`, string(c.ok(known(0, 9)).Value()))
	assert.Empty(t, c.ok(known(1, 4)).Value(), "the client has it")
	assert.Empty(t, c.ok(known(2, 0)).Value())

	fresh := connect(t, n)
	fresh.ok(&mcbp.Packet{Opcode: mcbp.OpSASLAuth, Key: []byte("PLAIN"), Value: []byte("\x00" + testUser + "\x00" + testPassword)})
	assert.Equal(t, mcbp.StatusKeyNotFound, fresh.do(get).Status())
	fresh.ok(clusterConfig("", 1, 1, `{"nodesExt":[]}`))
	assert.JSONEq(t, `{"nodesExt":[]}`, string(fresh.ok(get).Value()), "without a bucket, the node's own")
}

func TestNotMyVBucketCarriesTheMap(t *testing.T) {
	n := startNode(t, "n0")
	c, dedupe := login(t, n), login(t, n, mcbp.FeatureDedupeNotMyVBucket, mcbp.FeatureJSON)
	assert.Empty(t, c.get(1, "k").Value(), "there is no map yet")
	c.ok(clusterConfig(testBucket, 1, 5, `{"rev":5}`))
	for range 2 {
		f := c.get(1, "k")
		assert.Equal(t, mcbp.StatusNotMyVBucket, f.Status())
		assert.JSONEq(t, `{"rev":5}`, string(f.Value()))
	}
	assert.JSONEq(t, `{"rev":5}`, string(c.do(setPacket(1, "k", "v")).Value()))

	f := dedupe.get(1, "k")
	assert.JSONEq(t, `{"rev":5}`, string(f.Value()))
	assert.Equal(t, mcbp.DatatypeJSON, f.Datatype())
	assert.Empty(t, dedupe.get(1, "k").Value(), "it was told")
	c.ok(clusterConfig(testBucket, 1, 6, `{"rev":6}`))
	assert.JSONEq(t, `{"rev":6}`, string(dedupe.get(1, "k").Value()))
}

func TestStatistics(t *testing.T) {
	c := login(t, startNode(t, "n0"))
	c.setVBucket(1, mcbp.VBucketActive)
	c.setVBucket(2, mcbp.VBucketReplica)
	c.set(1, "k", "v")
	pairs, status := c.stats("vbucket")
	require.Equal(t, mcbp.StatusSuccess, status)
	assert.Equal(t, map[string]string{"vb_1": "active", "vb_2": "replica"}, pairs)

	pairs, _ = c.stats("vbucket-details 1")
	for _, key := range []string{
		"high_seqno", "persistence_seqno", "uuid", "num_items", "topology", "high_prepared_seqno", "purge_seqno", "max_visible_seqno",
	} {
		assert.Contains(t, pairs, "vb_1:"+key)
	}
	assert.Equal(t, "active", pairs["vb_1"])
	assert.Equal(t, "1", pairs["vb_1:high_seqno"])

	pairs, _ = c.stats("vbucket-seqno")
	for _, key := range []string{"high_seqno", "last_persisted_seqno", "uuid", "high_prepared_seqno", "high_completed_seqno", "purge_seqno"} {
		assert.Contains(t, pairs, "vb_1:"+key)
		assert.Contains(t, pairs, "vb_2:"+key)
	}
	pairs, _ = c.stats("vbucket-durability-state 2")
	assert.Equal(t, "replica", pairs["vb_2:state"])
	pairs, status = c.stats("")
	assert.Equal(t, mcbp.StatusSuccess, status)
	assert.Empty(t, pairs)

	for group, want := range map[string]mcbp.Status{
		"nonsense":             mcbp.StatusKeyNotFound,
		"vbucket x":            mcbp.StatusInvalid,
		"vbucket 70000":        mcbp.StatusInvalid,
		"vbucket 1 2":          mcbp.StatusInvalid,
		"vbucket 3":            mcbp.StatusNotMyVBucket,
		"vbucket-seqno 3":      mcbp.StatusNotMyVBucket,
		"dcp-vbtakeover 3 x":   mcbp.StatusNotMyVBucket,
		"dcp-vbtakeover":       mcbp.StatusInvalid,
		"dcp-vbtakeover 1 x y": mcbp.StatusInvalid,
		"dcp x":                mcbp.StatusInvalid,
	} {
		pairs, status := c.stats(group)
		assert.Equal(t, want, status, group)
		assert.Empty(t, pairs, group)
	}
}
