package kvnode_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

var (
	aGet = fault.Match{Opcodes: []mcbp.Opcode{mcbp.OpGet}}
	aSet = fault.Match{Opcodes: []mcbp.Opcode{mcbp.OpSet}}
)

// received and sent narrow a match to one direction.
func received(m fault.Match) fault.Match { m.Direction = fault.Received; return m }
func sent(m fault.Match) fault.Match     { m.Direction = fault.Sent; return m }

func TestDelay(t *testing.T) {
	for _, match := range []fault.Match{received(aSet), sent(aSet)} {
		s := stageFor(t)
		f := s.add(fault.Rule{Match: match, Do: fault.Delay{For: time.Hour}})
		before := s.victim.send(noop())
		set := s.victim.send(setPacket(7, "k", "v"))
		after := s.victim.send(noop())
		happened(t, f, 1)
		s.victim.expect(before, mcbp.StatusSuccess) // what was there before goes out first
		s.victim.silent()
		assert.Equal(t, match.Direction == fault.Sent, s.value("k") == "v")
		f.Remove()
		s.victim.expect(set, mcbp.StatusSuccess)
		s.victim.expect(after, mcbp.StatusSuccess)

		s.add(fault.Rule{Match: match, Do: fault.Delay{For: time.Millisecond}})
		s.victim.set(7, "k", "it ends by itself")
	}
}

func TestDrop(t *testing.T) {
	for _, match := range []fault.Match{received(aSet), sent(aSet)} {
		s := stageFor(t)
		s.add(fault.Rule{Match: match, Do: fault.Drop{}, Times: 1})
		s.victim.send(setPacket(7, "k", "v"))
		s.victim.ping()
		assert.Equal(t, match.Direction == fault.Sent, s.value("k") == "v")
		s.victim.set(7, "k", "v")
	}
}

func TestDuplicate(t *testing.T) {
	for _, match := range []fault.Match{received(aSet), sent(aSet)} {
		s := stageFor(t)
		s.add(fault.Rule{Match: match, Do: fault.Duplicate{Copies: 2}, Times: 1})
		set := s.victim.send(setPacket(7, "k", "v"))
		for range 3 {
			s.victim.expect(set, mcbp.StatusSuccess)
		}
		s.victim.ping()
		want := uint64(3)
		if match.Direction == fault.Sent {
			want = 1
		}
		assert.Equal(t, want, s.seqno())
	}
}

func TestHoldReordersAcrossSockets(t *testing.T) {
	for _, match := range []fault.Match{received(aGet), sent(aGet)} {
		s := stageFor(t)
		s.admin.set(7, "k", "old")
		f := s.add(fault.Rule{Match: match, Do: fault.Hold{Until: sent(aSet)}})
		get := s.victim.send(&mcbp.Packet{Opcode: mcbp.OpGet, VBucket: 7, Key: []byte("k")})
		happened(t, f, 1)
		s.victim.silent()
		assert.Equal(t, "old", s.value("k"), "others are not held")
		s.admin.set(7, "k", "new")
		answer := s.victim.expect(get, mcbp.StatusSuccess)
		if match.Direction == fault.Received {
			assert.Equal(t, "new", string(answer.Value()))
		} else {
			assert.Equal(t, "old", string(answer.Value()))
		}
		s.admin.set(7, "k", "the next may pass")
		s.victim.get(7, "k")
		assert.Equal(t, 2, f.Count())
	}
}

func TestAHoldEnds(t *testing.T) {
	s := stageFor(t)
	get := &mcbp.Packet{Opcode: mcbp.OpGet, VBucket: 7, Key: []byte("k")}
	f := s.add(fault.Rule{Match: received(aGet), Do: fault.Hold{Until: sent(aSet), AtMost: time.Millisecond}})
	s.victim.do(get)
	f.Remove()
	f = s.add(fault.Rule{Match: received(aGet), Do: fault.Hold{Until: sent(aSet)}})
	opaque := s.victim.send(get)
	happened(t, f, 1)
	f.Remove()
	s.victim.expect(opaque, mcbp.StatusKeyNotFound)
	f = s.add(fault.Rule{Match: received(aGet), Do: fault.Hold{Until: sent(aSet), AtMost: time.Hour}})
	s.victim.send(get)
	happened(t, f, 1)
	require.NoError(t, s.node.Close(), "and with the node")
}

func TestAnswer(t *testing.T) {
	for _, match := range []fault.Match{received(aSet), sent(aSet)} {
		s := stageFor(t)
		s.add(fault.Rule{Match: match, Do: fault.Answer{Status: mcbp.StatusBusy}, Times: 1})
		first := s.victim.send(noop())
		set := s.victim.send(setPacket(7, "k", "v"))
		s.victim.expect(first, mcbp.StatusSuccess)
		s.victim.expect(set, mcbp.StatusBusy)
		s.victim.ping()
		assert.Equal(t, match.Direction == fault.Sent, s.value("k") == "v")
	}
}

// A producer's answer becomes another on its way into a consumer.
func TestAnswerThatIsReceived(t *testing.T) {
	p, script := scriptedPair(t, 7)
	addRule(t, script, fault.Rule{
		Match: fault.Match{Role: fault.Consumer, Direction: fault.Received, Frames: fault.Answers, Opcodes: []mcbp.Opcode{mcbp.OpDCPStreamReq}},
		Do:    fault.Answer{Status: mcbp.StatusNoMemory},
	})
	assert.Equal(t, mcbp.StatusNoMemory, p.r.answer(kvnode.RoleConsumer, p.r.add(7, 0)).Status())
}

func TestNoAnswer(t *testing.T) {
	s := stageFor(t)
	s.add(fault.Rule{Match: fault.Match{Opcodes: []mcbp.Opcode{mcbp.OpSet, mcbp.OpStat}}, Do: fault.NoAnswer{}, Times: 2})
	s.victim.send(setPacket(7, "k", "v"))
	s.victim.send(&mcbp.Packet{Opcode: mcbp.OpStat, Key: []byte("vbucket-details")})
	s.victim.ping()
	assert.Equal(t, "v", s.value("k"))
	pairs, _ := s.victim.stats("vbucket-details")
	assert.NotEmpty(t, pairs)
}

func TestCloseWithFIN(t *testing.T) {
	for _, match := range []fault.Match{received(aSet), sent(aSet)} {
		s := stageFor(t)
		s.add(fault.Rule{Match: match, Do: fault.Close{}})
		first := s.victim.send(noop())
		more := bytes.Repeat(noop().Frame(), 10_000) // bytes that are not acted on must not turn the end into a reset
		s.victim.write(append(setPacket(7, "k", "v").Frame(), more...))
		s.victim.expect(first, mcbp.StatusSuccess)
		_, err := s.victim.tryRead()
		require.ErrorIs(t, err, io.EOF)
		for range 100 {
			s.victim.write(more) // and are taken: nothing is reset
		}
		assert.Equal(t, match.Direction == fault.Sent, s.value("k") == "v")
	}
}

func TestCloseWithRST(t *testing.T) {
	for _, match := range []fault.Match{received(aSet), sent(aSet)} {
		s := stageFor(t)
		s.add(fault.Rule{Match: match, Do: fault.Close{How: fault.RST}})
		s.victim.send(setPacket(7, "k", "v"))
		_, err := s.victim.tryRead()
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
}

func TestCloseOneHalf(t *testing.T) {
	for _, match := range []fault.Match{received(aSet), sent(aSet)} {
		s := stageFor(t)
		s.add(fault.Rule{Match: match, Do: fault.Close{How: fault.Half}, Times: 1})
		s.victim.send(setPacket(7, "k", "v"))
		_, err := s.victim.tryRead()
		require.ErrorIs(t, err, io.EOF)
		s.victim.send(setPacket(7, "later", "v"))
		eventually(t, "the node goes on reading", func() bool { return s.value("k") == "v" && s.value("later") == "v" })
	}
}

func TestStopReading(t *testing.T) {
	s := stageFor(t)
	f := s.add(fault.Rule{Match: aSet, Do: fault.StopReading{}, Times: 1})
	first := s.victim.send(noop())
	set := s.victim.send(setPacket(7, "k", "victim"))
	happened(t, f, 1)
	s.victim.expect(first, mcbp.StatusSuccess)
	s.victim.silent()
	s.admin.set(7, "k", "admin")
	f.Remove()
	s.victim.expect(set, mcbp.StatusSuccess)
	assert.Equal(t, "victim", s.value("k"), "it was acted on last")
}

func TestTrickle(t *testing.T) {
	s := stageFor(t)
	f := s.add(fault.Rule{Match: sent(aGet), Do: fault.Trickle{Bytes: 5, Every: time.Hour}, Times: 1})
	s.admin.set(7, "k", "a value that is somewhat longer")
	get := s.victim.send(&mcbp.Packet{Opcode: mcbp.OpGet, VBucket: 7, Key: []byte("k")})
	happened(t, f, 1)
	b := make([]byte, 100)
	require.NoError(t, s.victim.socket.SetReadDeadline(time.Now().Add(patience)))
	n, err := s.victim.socket.Read(b)
	require.NoError(t, err)
	assert.Equal(t, 5, n)
	s.victim.silent()
	f.Remove()
	s.victim.buf = b[:n]
	assert.Equal(t, "a value that is somewhat longer", string(s.victim.expect(get, mcbp.StatusSuccess).Value()))
	s.add(fault.Rule{Match: sent(aGet), Do: fault.Trickle{}})
	assert.Equal(t, "a value that is somewhat longer", string(s.victim.get(7, "k").Value()), "it ends by itself")
}

func TestGarbage(t *testing.T) {
	var seen [2][]byte
	for i := range seen {
		s := stageFor(t)
		s.add(fault.Rule{Match: sent(aGet), Do: fault.Garbage{Bytes: 40}, Times: 1})
		s.victim.send(&mcbp.Packet{Opcode: mcbp.OpGet, VBucket: 7, Key: []byte("k")})
		seen[i] = make([]byte, 40)
		require.NoError(t, s.victim.socket.SetReadDeadline(time.Now().Add(patience)))
		_, err := io.ReadFull(s.victim.socket, seen[i])
		require.NoError(t, err)
		_, _, err = mcbp.Parse(seen[i], 1<<31)
		var malformed *mcbp.MalformedError
		require.ErrorAs(t, err, &malformed)
		s.victim.ping() // behind it all is well
	}
	assert.Equal(t, seen[0], seen[1], "the same seed, the same garbage")
}

func TestTruncatedFrame(t *testing.T) {
	for bytes, want := range map[int]int{0: 23, 7: 7, 1000: 24} {
		s := stageFor(t)
		s.add(fault.Rule{Match: sent(aGet), Do: fault.Truncate{Bytes: bytes}})
		s.victim.send(&mcbp.Packet{Opcode: mcbp.OpGet, VBucket: 7, Key: []byte("k")})
		s.victim.send(noop())
		require.NoError(t, s.victim.socket.SetReadDeadline(time.Now().Add(patience)))
		all, err := io.ReadAll(s.victim.socket)
		require.NoError(t, err)
		assert.Len(t, all, want)
	}
}

func TestHugeLength(t *testing.T) {
	for body, want := range map[uint32]uint32{0: 1<<32 - 1, 70 << 20: 70 << 20} {
		s := stageFor(t)
		s.add(fault.Rule{Match: sent(aGet), Do: fault.HugeLength{Body: body}})
		s.victim.send(&mcbp.Packet{Opcode: mcbp.OpGet, VBucket: 7, Key: []byte("k")})
		header := make([]byte, mcbp.HeaderLen)
		require.NoError(t, s.victim.socket.SetReadDeadline(time.Now().Add(patience)))
		_, err := io.ReadFull(s.victim.socket, header)
		require.NoError(t, err)
		assert.Equal(t, want, binary.BigEndian.Uint32(header[8:]))
	}
}

func TestWrongOpaque(t *testing.T) {
	s := stageFor(t)
	s.add(fault.Rule{Match: sent(aSet), Do: fault.Opaque{To: mcbp.Opaque{1, 2, 3, 4}}, Times: 1})
	s.victim.send(setPacket(7, "k", "v"))
	s.victim.expect(mcbp.Opaque{1, 2, 3, 4}, mcbp.StatusSuccess)
	s.add(fault.Rule{Match: received(aSet), Do: fault.Opaque{To: mcbp.Opaque{5}}, Times: 1})
	s.victim.send(setPacket(7, "k", "v"))
	s.victim.expect(mcbp.Opaque{5}, mcbp.StatusSuccess)
}

func TestStaleOpaqueOfAnAnswer(t *testing.T) {
	s := stageFor(t)
	f := s.add(fault.Rule{Match: sent(aSet), Do: fault.StaleOpaque{}})
	first := s.victim.set(7, "k", "v").Opaque()
	assert.Zero(t, f.Count(), "there was none before")
	s.victim.send(setPacket(7, "k", "v"))
	s.victim.expect(first, mcbp.StatusSuccess)
	assert.Equal(t, 1, f.Count())
}

// A message under the opaque of the vbucket's stream before.
func TestStaleOpaqueOfAStream(t *testing.T) {
	p, script := scriptedPair(t, 7, 8)
	f := addRule(t, script, fault.Rule{
		Match: fault.Match{Node: "n0", Role: fault.Producer, Direction: fault.Sent, Opcodes: []mcbp.Opcode{mcbp.OpDCPMutation}},
		Do:    fault.StaleOpaque{},
	})
	p.r.open(7, 0)
	first, _ := p.r.await("STREAM_REQ", 0, isRequest(mcbp.OpDCPStreamReq, 7))
	p.r.open(8, 0)
	p.a.set(8, "k", "v")
	p.same(t, 8)
	assert.Zero(t, f.Count(), "that is its only stream")
	p.r.shutStream(7)
	at := p.r.position()
	p.r.open(7, 0)
	p.a.set(7, "k", "w")
	stale, _ := p.r.await("the mutation", at, isRequest(mcbp.OpDCPMutation, 7))
	assert.Equal(t, first.Opaque(), stale.Opaque())
	happened(t, f, 1)
}

func TestRefuseRollback(t *testing.T) {
	p, script := scriptedPair(t, 7)
	p.b.setVBucket(7, mcbp.VBucketActive)
	p.b.set(7, "own", "v")
	p.b.setVBucket(7, mcbp.VBucketReplica)
	f := addRule(t, script, fault.Rule{Do: fault.RefuseRollback{}})
	assert.Equal(t, mcbp.StatusInternalError, p.r.answer(kvnode.RoleConsumer, p.r.add(7, 0)).Status())
	assert.EqualValues(t, 1, statUint(t, p.b, "vbucket-seqno", 7, "high_seqno"), "it has kept what it had")
	assert.Equal(t, 1, f.Count())
	f.Remove()
	p.r.open(7, 0)
	p.same(t, 7)
}

func TestLiesAboutSeqnos(t *testing.T) {
	s := stageFor(t)
	s.admin.setVBucket(8, mcbp.VBucketActive)
	for range 5 {
		s.admin.set(7, "k", "v")
		s.admin.set(8, "k", "v")
	}
	all := func(c *client) map[uint16]uint64 {
		list, err := mcbp.ParseVBSeqnos(c.ok(&mcbp.Packet{Opcode: mcbp.OpGetAllVBSeqnos}).Value())
		require.NoError(t, err)
		seqnos := map[uint16]uint64{}
		for _, e := range list {
			seqnos[e.VBucket] = e.Seqno
		}
		return seqnos
	}
	log := func(c *client, vb uint16) uint64 {
		entries, err := mcbp.ParseFailoverLog(c.ok(&mcbp.Packet{Opcode: mcbp.OpGetFailoverLog, VBucket: vb}).Value())
		require.NoError(t, err)
		return entries[0].Seqno
	}
	uuid := s.victim.stat("vbucket-seqno", 7, "uuid")
	f := s.add(fault.Rule{Match: fault.Match{VBuckets: []uint16{7}}, Do: fault.Seqnos{By: 1000}})
	assert.Equal(t, map[uint16]uint64{7: 1005, 8: 5}, all(s.victim))
	assert.Equal(t, map[uint16]uint64{7: 5, 8: 5}, all(s.admin))
	assert.EqualValues(t, 1005, statUint(t, s.victim, "vbucket-details", 7, "high_seqno"))
	assert.EqualValues(t, 1005, statUint(t, s.victim, "vbucket-seqno", 7, "last_persisted_seqno"))
	assert.Equal(t, uuid, s.victim.stat("vbucket-seqno", 7, "uuid"))
	assert.EqualValues(t, 1000, log(s.victim, 7))
	before := f.Count()
	assert.EqualValues(t, 0, log(s.victim, 8))
	assert.EqualValues(t, 5, statUint(t, s.victim, "vbucket-seqno", 8, "high_seqno"))
	assert.Equal(t, before, f.Count(), "the truth is not counted")
	f.Remove()

	s.add(fault.Rule{Do: fault.Seqnos{By: -3}})
	assert.Equal(t, map[uint16]uint64{7: 2, 8: 2}, all(s.victim))
	assert.EqualValues(t, 0, log(s.victim, 7))
}

// The failover log that a consumer is given with its stream.
func TestLiesInTheFailoverLogOfAStream(t *testing.T) {
	p, script := scriptedPair(t, 7, 8)
	addRule(t, script, fault.Rule{Match: fault.Match{Role: fault.Producer, VBuckets: []uint16{7}}, Do: fault.Seqnos{By: 9}})
	for vb, want := range map[uint16]uint64{7: 9, 8: 0} {
		at := p.r.position()
		p.r.open(vb, 0)
		f, _ := p.r.await("the answer", at, func(s seen) bool {
			return s.frame.Opcode() == mcbp.OpDCPStreamReq && s.frame.IsResponse()
		})
		m, err := mcbp.ParseStreamRequestAnswer(f)
		require.NoError(t, err)
		assert.Equal(t, want, m.Log[0].Seqno)
	}
}

func TestSlowDisk(t *testing.T) {
	s := stageFor(t)
	s.admin.set(7, "k", "v")
	other := addRule(t, s.script, fault.Rule{Match: fault.Match{Node: "n1"}, Do: fault.SlowDisk{}})
	reads := addRule(t, s.script, fault.Rule{Do: fault.SlowDisk{Kinds: []kvnode.DiskKind{kvnode.DiskRead}}})
	f := addRule(t, s.script, fault.Rule{Match: fault.Match{Node: "n0", Bucket: testBucket}, Do: fault.SlowDisk{}, Times: 1})
	ask := &mcbp.Packet{Opcode: mcbp.OpSeqnoPersistence, VBucket: 7, Extras: binary.BigEndian.AppendUint64(nil, 1)}
	opaque := s.victim.send(ask)
	happened(t, f, 1)
	s.victim.silent()
	f.Remove()
	s.victim.expect(opaque, mcbp.StatusSuccess)
	s.victim.ok(ask)
	assert.Zero(t, other.Count()+reads.Count())
	struck := s.script.Strikes()
	require.Len(t, struck, 1)
	assert.Equal(t, "write", struck[0].Disk)

	f = addRule(t, s.script, fault.Rule{Do: fault.SlowDisk{}})
	s.victim.send(ask)
	happened(t, f, 1)
	require.NoError(t, s.node.Close(), "a node with a disk that hangs can be closed")
}

// In a node with a directory, the flusher and the warm-up are held up, and clients are not.
func TestSlowDiskOfANodeThatHasOne(t *testing.T) {
	script := fault.NewScript(1)
	n := startNode(t, "n0", onDisk(t.TempDir()), scripted(script))
	c := login(t, n)
	f := addRule(t, script, fault.Rule{Do: fault.SlowDisk{Kinds: []kvnode.DiskKind{kvnode.DiskWrite}}})
	c.setVBucket(7, mcbp.VBucketActive)
	c.set(7, "k", "v")
	happened(t, f, 1)
	ask := c.send(&mcbp.Packet{Opcode: mcbp.OpSeqnoPersistence, VBucket: 7, Extras: binary.BigEndian.AppendUint64(nil, 1)})
	c.silent()
	login(t, n).set(7, "k", "nobody waits for the disk")
	f.Remove()
	c.expect(ask, mcbp.StatusSuccess)

	f = addRule(t, script, fault.Rule{Do: fault.SlowDisk{Kinds: []kvnode.DiskKind{kvnode.DiskRead}}})
	require.NoError(t, n.Stop())
	require.NoError(t, n.Restart())
	happened(t, f, 1)
	ctx, cancel := context.WithTimeout(t.Context(), aWhile)
	defer cancel()
	require.ErrorIs(t, n.Warm(ctx), context.DeadlineExceeded)
	f.Remove()
	require.NoError(t, n.Warm(t.Context()))

	f = addRule(t, script, fault.Rule{Do: fault.SlowDisk{}})
	c = login(t, n)
	c.set(7, "k", "w")
	happened(t, f, 1)
	require.NoError(t, n.Close(), "and it can be closed")
}

func TestPauseOfANode(t *testing.T) {
	s := stageFor(t)
	s.node.Pause()
	s.node.Pause()
	set := s.victim.send(setPacket(7, "k", "v"))
	fresh := connect(t, s.node) // by the kernel
	hello := fresh.send(noop())
	s.victim.silent()
	fresh.silent()
	s.node.Resume()
	s.victim.expect(set, mcbp.StatusSuccess)
	fresh.expect(hello, mcbp.StatusSuccess)
	s.node.Resume()
	s.node.Pause()
	s.victim.send(noop())
	require.NoError(t, s.node.Close(), "a paused node can be closed")
}

func TestAPausedNodeLeavesItsDiskAlone(t *testing.T) {
	n := startNode(t, "n0", onDisk(t.TempDir()))
	c := login(t, n)
	c.setVBucket(7, mcbp.VBucketActive)
	c.set(7, "k", "v")
	require.Equal(t, mcbp.StatusSuccess, c.persist(7, 1))
	n.Pause()
	n.Kill()
	require.NoError(t, n.Restart())
	ctx, cancel := context.WithTimeout(t.Context(), aWhile)
	defer cancel()
	require.ErrorIs(t, n.Warm(ctx), context.DeadlineExceeded)
	n.Resume()
	require.NoError(t, n.Warm(t.Context()))
}

// Nothing is acted on while the node is paused, whoever is asked first.
func TestPauseOfANodeWithoutAScript(t *testing.T) {
	n := startNode(t, "n0")
	c := login(t, n)
	c.setVBucket(7, mcbp.VBucketActive)
	n.Pause()
	set := c.send(setPacket(7, "k", "v"))
	c.silent()
	resumed := time.Now()
	n.Resume()
	assert.GreaterOrEqual(t, c.expect(set, mcbp.StatusSuccess).CAS(), uint64(resumed.UnixNano())&^0xffff)
}

func TestAPausedNodeAcceptsNobody(t *testing.T) {
	script := fault.NewScript(1)
	n := startNode(t, "n0", scripted(script))
	n.Pause()
	cut := addRule(t, script, fault.Rule{Do: fault.Cut{}})
	c := connect(t, n)
	c.silent()
	assert.Zero(t, cut.Count())
	n.Resume()
	_, err := c.tryRead()
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestPauseByAFrame(t *testing.T) {
	for _, match := range []fault.Match{received(aSet), sent(aSet)} {
		s := stageFor(t)
		f := s.add(fault.Rule{Match: match, Do: fault.Pause{}, Times: 1})
		set, ping := setPacket(7, "k", "v"), noop()
		set.Opaque, ping.Opaque = mcbp.Opaque{1}, mcbp.Opaque{2}
		s.victim.write(ping.Append(set.Append(nil))) // whose answers leave together
		happened(t, f, 1)
		if match.Direction == fault.Sent {
			s.victim.expect(set.Opaque, mcbp.StatusSuccess)
		}
		s.victim.silent()
		resumed := time.Now()
		f.Remove()
		if match.Direction == fault.Received {
			answer := s.victim.expect(set.Opaque, mcbp.StatusSuccess)
			assert.GreaterOrEqual(t, answer.CAS(), uint64(resumed.UnixNano())&^0xffff, "not acted on before")
		}
		s.victim.expect(ping.Opaque, mcbp.StatusSuccess)

		s.add(fault.Rule{Match: match, Do: fault.Pause{For: time.Millisecond}, Times: 1})
		s.victim.set(7, "k", "it ends by itself")
		s.victim.ping()
	}
}

func TestCutANode(t *testing.T) {
	script := fault.NewScript(1)
	n0, n1 := startNode(t, "n0", scripted(script)), startNode(t, "n1", scripted(script))
	spared, there := login(t, n0), login(t, n1)
	cut := addRule(t, script, fault.Rule{Match: fault.Match{Node: "n1"}, Do: fault.Cut{}})
	_, err := there.tryRead()
	require.ErrorIs(t, err, syscall.ECONNRESET)
	later, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", n1.Addr())
	if err == nil { // else it was reset even before the dialer looked
		_, err = later.Read(make([]byte, 1))
		require.NoError(t, later.Close())
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
	spared.ping()
	assert.Equal(t, 2, cut.Count())
	cut.Remove()
	login(t, n1)
	for _, s := range script.Strikes() {
		assert.Equal(t, "n1", s.Node)
		assert.Equal(t, fault.Either, s.Direction)
	}
}

// A connection that is cut by its name is known to fit only when it says its name.
func TestCutByName(t *testing.T) {
	s := stageFor(t)
	s.add(fault.Rule{Do: fault.Cut{}})
	_, err := s.victim.tryRead()
	require.ErrorIs(t, err, syscall.ECONNRESET)
	c := login(t, s.node)
	c.send(&mcbp.Packet{Opcode: mcbp.OpHello, Key: []byte(victim)})
	_, err = c.tryRead()
	require.ErrorIs(t, err, syscall.ECONNRESET)
	s.admin.ping()
}

// A rule ends the pauses that it began, and nobody else's.
func TestARuleEndsItsOwnPausesOnly(t *testing.T) {
	for _, do := range []fault.Pause{{}, {For: time.Hour}} {
		s := stageFor(t)
		f := s.add(fault.Rule{Match: received(aSet), Do: do})
		for range 2 {
			set := s.victim.send(setPacket(7, "k", "v"))
			answered := make(chan struct{})
			var somebody sync.WaitGroup
			somebody.Go(func() {
				for ticker := time.NewTicker(time.Millisecond); ; s.node.Resume() {
					select {
					case <-ticker.C:
					case <-answered:
						ticker.Stop()
						return
					}
				}
			})
			s.victim.expect(set, mcbp.StatusSuccess)
			close(answered)
			somebody.Wait()
		}
		require.Equal(t, 2, f.Count())
		s.node.Pause()
		f.Remove()
		ping := s.victim.send(noop())
		s.victim.silent()
		s.node.Resume()
		s.victim.expect(ping, mcbp.StatusSuccess)
	}
}

func ends(frames []seen, vb uint16) (story []string) {
	for _, s := range frames {
		if s.from != kvnode.RoleProducer || s.frame.IsResponse() && s.frame.Opcode() != mcbp.OpDCPStreamReq {
			continue
		}
		switch s.frame.Opcode() {
		case mcbp.OpDCPStreamReq:
			story = append(story, "accepted")
		case mcbp.OpDCPMutation, mcbp.OpDCPStreamEnd:
			if s.frame.VBucket() == vb {
				story = append(story, fmt.Sprint(s.frame.Opcode()))
			}
		}
	}
	return story
}

func TestEndAStreamBeforeOrAfterAnyStep(t *testing.T) {
	const mutation, end = "DCP_MUTATION", "DCP_STREAM_END"
	answer := fault.Match{Opcodes: []mcbp.Opcode{mcbp.OpDCPStreamReq}, Direction: fault.Sent, VBuckets: []uint16{7}}
	document := fault.Match{Opcodes: []mcbp.Opcode{mcbp.OpDCPMutation}, Direction: fault.Sent, VBuckets: []uint16{7}}
	for _, c := range []struct {
		name   string
		match  fault.Match
		after  int
		before bool
		want   []string
	}{
		{"before the answer", answer, 0, true, []string{end, "accepted"}},
		{"after the answer", answer, 0, false, []string{"accepted", end}},
		{"before the third document", document, 2, true, []string{"accepted", mutation, mutation, end}},
		{"after the third document", document, 2, false, []string{"accepted", mutation, mutation, mutation, end}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, script := scriptedPair(t, 7, 8)
			for i := range 20 {
				p.a.set(7, fmt.Sprint(i), "v")
			}
			f := addRule(t, script, fault.Rule{
				Match: c.match, After: c.after, Times: 1, Do: fault.EndStream{Reason: mcbp.EndTooSlow, Before: c.before},
			})
			at := p.r.position()
			p.r.add(7, 0)
			happened(t, f, 1)
			got, next := p.r.await("the end", at, isRequest(mcbp.OpDCPStreamEnd, 7))
			m, err := mcbp.ParseStreamEnd(got)
			require.NoError(t, err)
			assert.Equal(t, mcbp.EndTooSlow, m.Reason)
			request, _ := p.r.await("the request", at, isRequest(mcbp.OpDCPStreamReq, 7))
			assert.Equal(t, request.Opaque(), m.Opaque)
			p.r.inject(kvnode.RoleProducer, (&mcbp.Packet{Opcode: mcbp.OpDCPNoop, Opaque: mcbp.Opaque{probeMark}}).Frame())
			_, next = p.r.await("what is behind it", next, func(s seen) bool { return s.frame.Opaque() == mcbp.Opaque{probeMark} })
			assert.Equal(t, c.want, ends(p.r.frames(at)[:next-at], 7))

			p.a.set(7, "later", "v") // to nobody
			p.r.close()
			p.r = join(t, p.n0, p.n1, testLink)
			p.r.open(7, 0)
			p.same(t, 7)
		})
	}
}

// The producer ends a stream because of what it receives: here, in a takeover, that the consumer has become pending.
func TestEndAStreamByWhatIsReceived(t *testing.T) {
	for _, before := range []bool{true, false} {
		p, script := scriptedPair(t, 7)
		f := addRule(t, script, fault.Rule{
			Match: fault.Match{Opcodes: []mcbp.Opcode{mcbp.OpDCPSetVBucketState}, Direction: fault.Received, Frames: fault.Answers},
			Do:    fault.EndStream{Reason: mcbp.EndDisconnected, Before: before},
		})
		at := p.r.position()
		p.r.open(7, mcbp.StreamFlagTakeover)
		happened(t, f, 1)
		got, _ := p.r.await("the end", at, isRequest(mcbp.OpDCPStreamEnd, 7))
		m, err := mcbp.ParseStreamEnd(got)
		require.NoError(t, err)
		assert.Equal(t, mcbp.EndDisconnected, m.Reason)
		want := map[bool]string{true: "active", false: "dead"}[before]
		assert.Equal(t, want, p.stateOn(p.a, 7), "the producer has acted on the answer, or not")
	}
}

// What a producer did not send because its stream was ended, it does not wait for an acknowledgement of.
func TestAnEndedStreamTakesNoRoomInTheBuffer(t *testing.T) {
	script := fault.NewScript(1)
	n := startNode(t, "n0", scripted(script))
	admin := login(t, n)
	admin.setVBucket(7, mcbp.VBucketActive)
	admin.setVBucket(8, mcbp.VBucketActive)
	admin.set(8, "k", "v")
	for i := range 20 {
		admin.set(7, fmt.Sprint(i), string(make([]byte, 1000)))
	}
	for _, before := range []bool{false, true} {
		f := addRule(t, script, fault.Rule{
			Match: fault.Match{Opcodes: []mcbp.Opcode{mcbp.OpDCPMutation}, Direction: fault.Sent}, After: 2, Times: 1,
			Do: fault.EndStream{Reason: mcbp.EndTooSlow, Before: before},
		})
		p := openDCP(t, n, kvnode.RoleProducer, testLink, "")
		p.control("connection_buffer_size", "1000000")
		var cost, end int
		p.write(mcbp.StreamRequest{VBucket: 7, Opaque: mcbp.Opaque{1}, End: mcbp.EndSeqnoForever}.Append(nil))
		for {
			m := p.read()
			if m.Opcode() == mcbp.OpDCPStreamEnd {
				end = int(mcbp.FlowControlCost(m))
				break
			}
			cost += int(mcbp.FlowControlCost(m))
		}
		happened(t, f, 1)
		assert.Empty(t, p.untilQuiet())
		p.write(mcbp.BufferAck{Bytes: uint32(cost)}.Append(nil))
		p.control("connection_buffer_size", "1")
		p.write(mcbp.StreamRequest{VBucket: 8, Opaque: mcbp.Opaque{2}, End: mcbp.EndSeqnoForever}.Append(nil))
		require.Equal(t, mcbp.StatusSuccess, p.read().Status())
		assert.Empty(t, p.untilQuiet(), "the end takes room")
		p.write(mcbp.BufferAck{Bytes: uint32(end)}.Append(nil))
		assert.Equal(t, mcbp.OpDCPSnapshotMarker, p.read().Opcode(), "there is room for it")
	}
}
