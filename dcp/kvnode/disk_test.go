package kvnode_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// onDisk gives a node a directory.
func onDisk(dir string) func(*kvnode.Options) {
	return func(o *kvnode.Options) { o.Dir, o.DiskNoSync = dir, true }
}

// restart brings a node that is down up again and waits until it is warm.
func restart(t testing.TB, n *kvnode.Node) *client {
	t.Helper()
	require.NoError(t, n.Restart())
	require.NoError(t, n.Warm(t.Context()))
	return login(t, n)
}

func (c *client) persist(vb uint16, seqno uint64) mcbp.Status {
	c.t.Helper()
	return c.do(&mcbp.Packet{Opcode: mcbp.OpSeqnoPersistence, VBucket: vb, Extras: binary.BigEndian.AppendUint64(nil, seqno)}).Status()
}

// settled waits until all of a copy is on disk, its state and failover log too: a deletion with async=0 waits for everything
// that was changed before it.
func (c *client) settled() {
	c.t.Helper()
	eventually(c.t, "all is on disk", func() bool {
		c.setVBucket(1023, mcbp.VBucketDead)
		return c.do(&mcbp.Packet{Opcode: mcbp.OpDelVBucket, VBucket: 1023, Value: []byte("async=0")}).Status() == mcbp.StatusSuccess
	})
}

func (c *client) failoverLog(vb uint16) []mcbp.FailoverEntry {
	c.t.Helper()
	f := c.ok(&mcbp.Packet{Opcode: mcbp.OpGetFailoverLog, VBucket: vb})
	var log []mcbp.FailoverEntry
	for v := f.Value(); len(v) > 0; v = v[16:] {
		log = append(log, mcbp.FailoverEntry{UUID: binary.BigEndian.Uint64(v), Seqno: binary.BigEndian.Uint64(v[8:])})
	}
	return log
}

func TestTheDiskLagsAndNobodyWaitsForIt(t *testing.T) {
	n := startNode(t, "n0", onDisk(t.TempDir()), func(o *kvnode.Options) {
		o.DiskRate, o.PersistenceTimeout = kvnode.DiskStalled, 20*time.Millisecond
	})
	c := login(t, n)
	c.setVBucket(7, mcbp.VBucketActive)
	c.set(7, "k1", "v")
	c.set(7, "k2", "v")
	assert.Equal(t, mcbp.StatusTemporaryFailure, c.persist(7, 1))
	assert.Equal(t, "0", c.stat("vbucket-details", 7, "persistence_seqno"))
	assert.Equal(t, "0", c.stat("vbucket-seqno", 7, "last_persisted_seqno"))
	assert.Equal(t, "2", c.stat("vbucket-seqno", 7, "high_seqno"))
	observe := &mcbp.Packet{
		Opcode: mcbp.OpObserveSeqno, VBucket: 7, Value: binary.BigEndian.AppendUint64(nil, c.failoverLog(7)[0].UUID),
	}
	seen := c.ok(observe).Value()
	assert.EqualValues(t, 0, binary.BigEndian.Uint64(seen[11:]), "persisted")
	assert.EqualValues(t, 2, binary.BigEndian.Uint64(seen[19:]), "in memory")
	n.SetDiskRate(0)
	eventually(t, "the disk catches up", func() bool { return c.persist(7, 2) == mcbp.StatusSuccess })
	assert.Equal(t, "2", c.stat("vbucket-details", 7, "persistence_seqno"))
	assert.Equal(t, "2", c.stat("vbucket-seqno", 7, "last_persisted_seqno"))
	assert.Equal(t, mcbp.StatusTemporaryFailure, c.persist(7, 3), "there is no seqno 3")
}

func TestAKillLosesWhatIsNotOnDisk(t *testing.T) {
	n := startNode(t, "n0", func(o *kvnode.Options) { o.Dir = t.TempDir() })
	c := login(t, n, mcbp.FeatureJSON)
	c.ok(&mcbp.Packet{
		Opcode: mcbp.OpSetVBucket, VBucket: 7, Extras: []byte{byte(mcbp.VBucketActive)}, Datatype: mcbp.DatatypeJSON,
		Value: []byte(`{"topology":[["n0",null]]}`),
	})
	c.set(7, "k1", "old")
	first := c.set(7, "k2", "v")
	c.set(7, "k3", "v")
	c.del(7, "k3")
	require.Equal(t, mcbp.StatusSuccess, c.persist(7, 4))
	before := c.failoverLog(7)
	n.SetDiskRate(kvnode.DiskStalled)
	c.set(7, "k1", "new")
	c.set(7, "k4", "v")
	c.setVBucket(8, mcbp.VBucketActive)
	n.Kill()
	c.closed()
	n.SetDiskRate(0)

	c = restart(t, n)
	assert.Equal(t, "old", string(c.get(7, "k1").Value()))
	assert.Equal(t, first.CAS(), c.get(7, "k2").CAS())
	assert.Equal(t, mcbp.StatusKeyNotFound, c.get(7, "k3").Status())
	assert.Equal(t, mcbp.StatusKeyNotFound, c.get(7, "k4").Status())
	assert.Equal(t, "4", c.stat("vbucket-details", 7, "high_seqno"))
	assert.Equal(t, "4", c.stat("vbucket-details", 7, "persistence_seqno"))
	assert.Equal(t, "2", c.stat("vbucket-details", 7, "num_items"))
	assert.JSONEq(t, `[["n0",null]]`, c.stat("vbucket-details", 7, "topology"))
	assert.Equal(t, "active", c.stat("vbucket", 7, ""))
	_, status := c.stats("vbucket 8")
	assert.Equal(t, mcbp.StatusNotMyVBucket, status, "the disk had not heard of it")
	after := c.failoverLog(7)
	require.Len(t, after, len(before)+1)
	assert.Equal(t, before, after[1:])
	assert.EqualValues(t, 4, after[0].Seqno)
	newer := c.set(7, "k2", "v")
	assert.Greater(t, newer.CAS(), first.CAS())

	c.settled()
	n.Kill()
	c = restart(t, n)
	assert.Equal(t, after, c.failoverLog(7)[1:], "the entry of the first restart has come to the disk")
}

func TestAStopLosesNothing(t *testing.T) {
	n := startNode(t, "n0", onDisk(t.TempDir()), func(o *kvnode.Options) { o.DiskRate = kvnode.DiskStalled })
	c := login(t, n)
	c.setVBucket(7, mcbp.VBucketActive)
	c.setVBucket(8, mcbp.VBucketReplica)
	for _, key := range []string{"a", "b", "c"} {
		c.set(7, key, "v")
	}
	log, digest := c.failoverLog(7), c.stat("vbucket-digest", 7, "digest")
	require.NoError(t, n.Stop())
	require.NoError(t, n.Stop(), "again")
	n.Kill()
	n.SetDiskRate(0)
	for range 2 {
		c = restart(t, n)
		assert.Equal(t, log, c.failoverLog(7), "the history goes on")
		assert.Equal(t, digest, c.stat("vbucket-digest", 7, "digest"))
		assert.Equal(t, "replica", c.stat("vbucket", 8, ""))
		require.NoError(t, n.Stop())
	}
	restart(t, n)
	n.Kill()
	c = restart(t, n)
	assert.Equal(t, digest, c.stat("vbucket-digest", 7, "digest"))
	assert.Equal(t, log, c.failoverLog(7)[1:], "what was stopped in order once may be killed another time")
}

// Changes that bring no document reach the disk as well: states, topologies, failover logs.
func TestStatesReachTheDisk(t *testing.T) {
	n0, n1 := startNode(t, "n0", onDisk(t.TempDir())), startNode(t, "n1", onDisk(t.TempDir()))
	p := &pair{n0: n0, n1: n1, a: login(t, n0, mcbp.FeatureJSON), b: login(t, n1)}
	for vb := uint16(6); vb < 8; vb++ {
		p.a.setVBucket(vb, mcbp.VBucketActive)
		p.b.setVBucket(vb, mcbp.VBucketReplica)
		p.a.set(vb, "k", "v")
	}
	p.a.setVBucket(5, mcbp.VBucketActive)
	p.b.setVBucket(5, mcbp.VBucketReplica)
	p.a.settled()
	p.b.settled()
	p.r = join(t, n0, n1, testLink)
	p.r.open(5, 0)
	at := p.r.position()
	p.r.open(7, mcbp.StreamFlagTakeover)
	p.r.await("the takeover's end", at, isRequest(mcbp.OpDCPStreamEnd, 7))
	p.a.ok(&mcbp.Packet{
		Opcode: mcbp.OpSetVBucket, VBucket: 6, Extras: []byte{byte(mcbp.VBucketActive)}, Datatype: mcbp.DatatypeJSON,
		Value: []byte(`{"topology":[["n0","n1"]]}`),
	})
	logs := [][]mcbp.FailoverEntry{p.a.failoverLog(5), p.a.failoverLog(6), p.a.failoverLog(7)}
	p.a.settled()
	p.b.settled()
	n0.Kill()
	n1.Kill()
	p.a, p.b = restart(t, n0), restart(t, n1)
	assert.Equal(t, logs[0], p.b.failoverLog(5), "a replica has its active's, also without documents")
	assert.JSONEq(t, `[["n0","n1"]]`, p.a.stat("vbucket-details", 6, "topology"))
	assert.Equal(t, logs[1], p.a.failoverLog(6)[1:])
	assert.Equal(t, "dead", p.stateOn(p.a, 7))
	assert.Equal(t, logs[2], p.a.failoverLog(7), "a dead copy begins nothing")
	assert.Equal(t, "active", p.stateOn(p.b, 7))
	assert.Equal(t, logs[2], p.b.failoverLog(7)[1:])
}

// A node that is closed leaves everything to the next one on its directory.
func TestAnotherNodeTakesTheDirectoryOver(t *testing.T) {
	dir := t.TempDir()
	n, err := kvnode.Start(kvnode.Options{Name: "n0", Dir: dir, DiskNoSync: true})
	require.NoError(t, err)
	_, err = kvnode.Start(kvnode.Options{Name: "n1", Dir: dir, DiskNoSync: true})
	require.ErrorIs(t, err, kvnode.ErrDirectoryInUse, "also while there is nothing in it")
	require.ErrorContains(t, err, dir)

	require.NoError(t, n.CreateBucket(testBucket, 1024))
	require.NoError(t, n.CreateBucket("böse/../bucket", 4))
	c := connect(t, n)
	c.ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte(testBucket)})
	c.setVBucket(1023, mcbp.VBucketActive)
	c.set(1023, "k", "v")
	require.NoError(t, n.Close())

	n, err = kvnode.Start(kvnode.Options{Name: "n1", Dir: dir, DiskNoSync: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	require.NoError(t, n.Warm(t.Context()))
	c = connect(t, n)
	assert.Equal(t, "böse/../bucket default", string(c.ok(&mcbp.Packet{Opcode: mcbp.OpListBuckets}).Value()))
	c.ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte(testBucket)})
	assert.Equal(t, "v", string(c.get(1023, "k").Value()))
	require.Error(t, n.CreateBucket(testBucket, 1024), "it is there already")
}

// What a client may create does not keep the node from starting again.
func TestEveryBucketThatThereIsComesBack(t *testing.T) {
	n := startNode(t, "n0", onDisk(t.TempDir()))
	c := login(t, n)
	created := func(name, config string) mcbp.Status {
		return c.do(&mcbp.Packet{Opcode: mcbp.OpCreateBucket, Key: []byte(name), Value: []byte("ep.so\x00max_vbuckets=8;" + config)}).Status()
	}
	assert.Equal(t, mcbp.StatusInvalid, created("\xff", ""), "no name that can be written down")
	assert.Equal(t, mcbp.StatusSuccess, created("\u2028 <\"\x00", ""))
	n.Kill()
	c = restart(t, n)
	assert.Equal(t, "default \u2028 <\"\x00", string(c.ok(&mcbp.Packet{Opcode: mcbp.OpListBuckets}).Value()))
}

// What comes back takes the room that it took, and expires when it would have.
func TestWhatComesBackIsReckonedAsBefore(t *testing.T) {
	h := newHand()
	n := startNode(t, "n0", onDisk(t.TempDir()), func(o *kvnode.Options) { o.Now, o.ExpiryInterval = h.now, time.Hour })
	c := login(t, n)
	c.smallBucket(10_000)
	c.setVBucket(7, mcbp.VBucketActive)
	c.ok(documentOf("large", 9_000))
	c.ok(expiring("k", 10))
	require.NoError(t, n.Stop())
	c = restart(t, n)
	c.ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte("small")})
	assert.Equal(t, mcbp.StatusTemporaryFailure, c.do(documentOf("other", 300)).Status())
	assert.Equal(t, mcbp.StatusNoMemory, c.do(documentOf("other", 1000)).Status())
	h.unix.Add(3600)
	eventually(t, "the pager has come by", func() bool { return statUint(t, c, "vbucket-seqno", 7, "high_seqno") == 3 })
	assert.Equal(t, "1", c.stat("vbucket-details", 7, "num_items"))
}

func TestANodeThatIsDownKeepsItsPort(t *testing.T) {
	n := startNode(t, "n0")
	c := login(t, n)
	addr := n.Addr()
	require.ErrorIs(t, n.Restart(), kvnode.ErrRunning)
	require.ErrorIs(t, n.Wipe(), kvnode.ErrRunning)
	n.Kill()
	c.closed()
	require.Error(t, n.CreateBucket("another", 4))
	refused := func() bool {
		socket, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			return true
		}
		defer socket.Close()
		require.NoError(t, socket.SetDeadline(time.Now().Add(patience)))
		_, err = socket.Read(make([]byte, 1))
		return err != nil && !os.IsTimeout(err)
	}
	for range 3 {
		assert.True(t, refused())
	}
	require.NoError(t, n.Restart())
	assert.Equal(t, addr, n.Addr())
	require.NoError(t, n.CreateBucket(testBucket, 1024), "without a disk nothing is left")
	login(t, n).setVBucket(7, mcbp.VBucketActive)
	require.NoError(t, n.Close())
	require.ErrorIs(t, n.Restart(), net.ErrClosed)
}

func TestAWipedNodeIsNew(t *testing.T) {
	n := startNode(t, "n0", onDisk(t.TempDir()))
	require.NoError(t, n.Stop())
	require.NoError(t, n.Wipe())
	require.NoError(t, n.Restart())
	require.NoError(t, n.Warm(t.Context()))
	require.NoError(t, n.CreateBucket(testBucket, 1024))
	pairs, _ := login(t, n).stats("vbucket")
	assert.Empty(t, pairs)
}

// While a bucket is read from the disk it can do nothing yet, and says so.
func TestABucketWarmsUp(t *testing.T) {
	n := startNode(t, "n0", onDisk(t.TempDir()))
	admin := login(t, n)
	admin.ok(&mcbp.Packet{
		Opcode: mcbp.OpCreateBucket, Key: []byte("closed"), Value: []byte("ep.so\x00max_vbuckets=8;data_traffic_enabled=false"),
	})
	c := connect(t, n)
	enter := func() {
		c = connect(t, n)
		c.ok(&mcbp.Packet{Opcode: mcbp.OpSASLAuth, Key: []byte("PLAIN"), Value: []byte("\x00" + testUser + "\x00" + testPassword)})
		c.ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte("closed")})
	}
	enter()
	c.setVBucket(7, mcbp.VBucketActive)
	c.ok(&mcbp.Packet{Opcode: mcbp.OpEnableTraffic})
	c.set(7, "k", "v")
	require.NoError(t, n.Stop())
	n.SetDiskRate(kvnode.DiskStalled)
	require.NoError(t, n.Restart())
	enter()
	for _, p := range []*mcbp.Packet{
		{Opcode: mcbp.OpGet, Key: []byte("k"), VBucket: 7},
		setPacket(7, "k", "w"),
		{Opcode: mcbp.OpEnableTraffic},
		{Opcode: mcbp.OpSetVBucket, VBucket: 7, Extras: []byte{1}},
		{Opcode: mcbp.OpGetAllVBSeqnos},
		{Opcode: mcbp.OpStat, Key: []byte("vbucket")},
	} {
		assert.Equal(t, mcbp.StatusTemporaryFailure, c.do(p).Status(), "%v", p.Opcode)
	}
	pairs, _ := c.stats("warmup")
	assert.Equal(t, map[string]string{"ep_warmup_thread": "running"}, pairs)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, n.Warm(ctx), context.Canceled)

	n.Kill() // a warm-up that is cut short changes nothing
	require.NoError(t, n.Restart())
	enter()
	n.SetDiskRate(0)
	require.NoError(t, n.Warm(t.Context()))
	pairs, _ = c.stats("warmup")
	assert.Equal(t, map[string]string{"ep_warmup_thread": "complete"}, pairs)
	assert.Equal(t, mcbp.StatusTemporaryFailure, c.get(7, "k").Status(), "traffic is still off")
	c.ok(&mcbp.Packet{Opcode: mcbp.OpEnableTraffic})
	assert.Equal(t, "v", string(c.get(7, "k").Value()))
	assert.Len(t, c.failoverLog(7), 1, "that of its creation")
}

func TestWhatIsDeletedStaysDeleted(t *testing.T) {
	dir := t.TempDir()
	n := startNode(t, "n0", onDisk(dir))
	c := login(t, n)
	for vb := range uint16(3) {
		c.setVBucket(vb, mcbp.VBucketActive)
		c.set(vb, "old", "v")
	}
	c.ok(&mcbp.Packet{Opcode: mcbp.OpDelVBucket, VBucket: 0})
	c.ok(&mcbp.Packet{Opcode: mcbp.OpDelVBucket, VBucket: 1})
	c.setVBucket(1, mcbp.VBucketActive)
	c.set(1, "new", "v")
	c.settled()
	n.Kill()
	c = restart(t, n)
	pairs, _ := c.stats("vbucket")
	assert.Equal(t, map[string]string{"vb_1": "active", "vb_2": "active"}, pairs)
	assert.Equal(t, mcbp.StatusKeyNotFound, c.get(1, "old").Status())
	assert.Equal(t, mcbp.StatusSuccess, c.get(1, "new").Status())

	c.ok(&mcbp.Packet{Opcode: mcbp.OpDeleteBucket, Key: []byte(testBucket)})
	entries, err := filepath.Glob(filepath.Join(dir, "*.bucket"))
	require.NoError(t, err)
	assert.Empty(t, entries)
	require.NoError(t, n.CreateBucket(testBucket, 1024))
	n.Kill()
	pairs, _ = restart(t, n).stats("vbucket")
	assert.Empty(t, pairs)
}

// A rollback reaches the disk with what follows it: a copy that comes back has nothing of the branch that it left.
func TestARollbackReachesTheDisk(t *testing.T) {
	for _, changed := range []bool{false, true} { // a copy that only has more goes back a little, another to nothing
		n0, n1 := startNode(t, "n0", onDisk(t.TempDir())), startNode(t, "n1", onDisk(t.TempDir()))
		p := &pair{n0: n0, n1: n1, a: login(t, n0), b: login(t, n1)}
		p.a.setVBucket(7, mcbp.VBucketActive)
		p.b.setVBucket(7, mcbp.VBucketReplica)
		p.r = join(t, n0, n1, testLink)
		p.a.set(7, "both", "1")
		p.r.open(7, 0)
		p.same(t, 7)
		p.r.shutStream(7)
		p.b.setVBucket(7, mcbp.VBucketActive)
		p.b.set(7, "left", "1")
		if changed {
			p.b.set(7, "both", "2")
		}
		require.Equal(t, mcbp.StatusSuccess, p.b.persist(7, 2))
		p.b.setVBucket(7, mcbp.VBucketReplica)
		p.a.set(7, "after", "1")
		p.r.open(7, 0)
		p.same(t, 7)
		p.b.settled()
		n1.Kill()
		p.b = restart(t, n1)
		p.same(t, 7)
		assert.Len(t, dump(t, n1, 7).docs, 2)
	}
}

// A replica that goes down inside a snapshot says so when it asks for the rest.
func TestAReplicaComesBackInsideItsSnapshot(t *testing.T) {
	n := startNode(t, "n1", onDisk(t.TempDir()))
	admin := login(t, n)
	admin.setVBucket(7, mcbp.VBucketReplica)
	log := []mcbp.FailoverEntry{{UUID: 77, Seqno: 2}, {UUID: 76}}
	c, _ := addStream(t, n, log...)
	const farCAS = 1 << 62 // of an active whose clock is ahead
	for _, m := range []mcbp.SnapshotMarker{{Start: 0, End: 3}, {Start: 4, End: 9}} {
		m.VBucket, m.Opaque, m.Flags = 7, mcbp.Opaque{1}, mcbp.SnapshotMemory
		c.write(m.Append(nil))
		seqno := m.Start + 1
		for ; seqno <= min(m.End, 5); seqno++ {
			d := mcbp.Mutation{VBucket: 7, Opaque: mcbp.Opaque{1}, BySeqno: seqno, RevSeqno: 1, CAS: farCAS, Key: []byte{0, 'k', byte(seqno)}}
			c.write(d.Append(nil))
		}
	}
	require.Equal(t, mcbp.StatusSuccess, admin.persist(7, 5))
	n.Kill()
	admin = restart(t, n)
	assert.Equal(t, log, admin.failoverLog(7))
	_, r := addStream(t, n, log...)
	assert.EqualValues(t, 5, r.Start)
	assert.EqualValues(t, 3, r.SnapStart)
	assert.EqualValues(t, 9, r.SnapEnd)
	assert.EqualValues(t, 77, r.VBUUID)
	admin.setVBucket(7, mcbp.VBucketActive)
	assert.EqualValues(t, 3, admin.failoverLog(7)[0].Seqno, "a branch begins where the copy is complete")
	assert.Greater(t, admin.set(7, "k", "v").CAS(), uint64(farCAS))
}

// A file that no node has written is named.
func TestACorruptFileIsNamed(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, testBucket+".bucket")
	n, err := kvnode.Start(kvnode.Options{Name: "n0", Dir: dir, DiskNoSync: true})
	require.NoError(t, err)
	require.NoError(t, n.CreateBucket(testBucket, 8))
	c := connect(t, n)
	c.ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte(testBucket)})
	c.setVBucket(7, mcbp.VBucketActive)
	for i := range 200 {
		c.set(7, "key-"+utoa(uint16(i)), "a value that one can find "+string(bytes.Repeat([]byte{'x'}, 500)))
	}
	require.NoError(t, n.Close())
	whole, err := os.ReadFile(file)
	require.NoError(t, err)

	start := func(content []byte) error {
		require.NoError(t, os.WriteFile(file, content, 0o600))
		n, err := kvnode.Start(kvnode.Options{Name: "n0", Dir: dir, DiskNoSync: true})
		if err != nil {
			return err
		}
		err = n.Warm(t.Context())
		require.NoError(t, n.Close())
		return err
	}
	require.NoError(t, start(whole))
	var corrupt *kvnode.CorruptError
	broken := bytes.ReplaceAll(whole, []byte("that one can find"), []byte("that nobody found"))
	for what, content := range map[string][]byte{
		"garbage":    bytes.Repeat([]byte("garbage "), 4096),
		"short":      whole[:3000],
		"cut":        whole[:3*os.Getpagesize()],
		"a document": broken,
		"zeros":      make([]byte, len(whole)),
		"free pages": breakFreePages(whole),
	} {
		err := start(content)
		require.ErrorAs(t, err, &corrupt, what)
		assert.Equal(t, file, corrupt.File, what)
		require.ErrorContains(t, err, file, what)
		require.NoError(t, start(whole), "the node that could not start after %s has let go of the directory", what)
	}
	require.NoError(t, start(nil), "a creation that was cut short is none")
}

// breakFreePages writes over the pages of a bbolt file that list the free ones: the store reads them when it is opened.
func breakFreePages(whole []byte) []byte {
	broken := bytes.Clone(whole)
	pageSize := uint64(os.Getpagesize())
	for meta := range uint64(2) {
		const freePages = 48 // the offset of the number of that page, in a meta page
		page := binary.NativeEndian.Uint64(whole[meta*pageSize+freePages:]) * pageSize
		copy(broken[page:page+pageSize], bytes.Repeat([]byte{0xff}, int(pageSize)))
	}
	return broken
}
