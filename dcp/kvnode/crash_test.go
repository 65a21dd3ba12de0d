package kvnode_test

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

var (
	crashes   = flag.Int("crashes", 10, "how often TestCrashes takes nodes down")
	crashSeed = flag.Uint64("crashseed", 0, "the seed of TestCrashes; 0 draws one")
)

// version is one version of a document, as its writer or a stream knows it.
type version struct {
	seqno, cas uint64
	value      string
	deleted    bool
}

// copyOf is all that a node has of a vbucket: its newest versions, its failover log and how far it claims to have all, which is its high
// seqno, or the start of a snapshot of which it has a part.
type copyOf struct {
	docs map[string]version
	log  []mcbp.FailoverEntry
	high uint64
}

// dump streams a vbucket from a node, up to where it is. The node may still be taking frames from a connection that was
// closed: the documents are then those of a later moment than the high seqno, never of an earlier one.
func dump(t testing.TB, n *kvnode.Node, vb uint16) copyOf {
	t.Helper()
	admin := login(t, n)
	defer admin.socket.Close()
	high := statUint(t, admin, "vbucket-seqno", vb, "high_seqno")
	c := openDCP(t, n, kvnode.RoleProducer, "dump", "")
	defer c.socket.Close()
	r := mcbp.StreamRequest{
		VBucket: vb, Opaque: mcbp.Opaque{1}, Flags: mcbp.StreamFlagToLatest, End: mcbp.EndSeqnoForever,
	}
	c.write(r.Append(nil))
	answer, err := mcbp.ParseStreamRequestAnswer(c.read())
	require.NoError(t, err)
	require.Equal(t, mcbp.StatusSuccess, answer.Status)
	all := copyOf{docs: map[string]version{}, log: answer.Log, high: high}
	for {
		switch f := c.read(); f.Opcode() {
		case mcbp.OpDCPSnapshotMarker, mcbp.OpDCPSeqnoAdvanced:
		case mcbp.OpDCPMutation:
			m, err := mcbp.ParseMutation(f)
			require.NoError(t, err)
			all.docs[string(m.Key[1:])] = version{m.BySeqno, m.CAS, string(m.Value), false}
		case mcbp.OpDCPDeletion:
			m, err := mcbp.ParseDeletion(f)
			require.NoError(t, err)
			all.docs[string(m.Key[1:])] = version{m.BySeqno, m.CAS, string(m.Value), true}
		case mcbp.OpDCPStreamEnd:
			return all
		default:
			require.Fail(t, "another frame", "%v", f)
		}
	}
}

// claims asks a replica how far it has all, as it asks for a stream: within a snapshot it may lack what the snapshot replaces later on. A
// stream whose connection has been closed may still be there for a while.
func claims(t testing.TB, n *kvnode.Node, vb uint16) (upTo uint64) {
	t.Helper()
	c := openDCP(t, n, kvnode.RoleConsumer, "claims", "")
	defer c.socket.Close()
	add := mcbp.AddStream{VBucket: vb, Opaque: mcbp.Opaque{0xff, 0, 1, 0xff}}.Append(nil)
	c.write(add)
	for deadline := time.Now().Add(patience); ; {
		switch f := c.read(); f.Opcode() {
		case mcbp.OpDCPStreamReq:
			request, err := mcbp.ParseStreamRequest(f)
			require.NoError(t, err)
			upTo = request.SnapStart
			c.write(mcbp.StreamRequestAnswer{Opaque: request.Opaque, Status: mcbp.StatusNotMyVBucket}.Append(nil))
		case mcbp.OpDCPAddStream:
			if f.Status() == mcbp.StatusNotMyVBucket {
				return upTo
			}
			require.Equal(t, mcbp.StatusKeyExists, f.Status())
			require.False(t, time.Now().After(deadline), "the old stream stays")
			c.write(add)
		default:
			c.write(mcbp.Response(f, mcbp.StatusSuccess).Frame())
		}
	}
}

// upper is how far a copy has the history of a UUID; ok is false if it has none of it.
func (c copyOf) upper(uuid uint64) (seqno uint64, ok bool) {
	for i, e := range c.log {
		if e.UUID != uuid {
			continue
		}
		if i == 0 {
			return c.high, true
		}
		return min(c.high, c.log[i-1].Seqno), true
	}
	return 0, false
}

// common is the seqno up to which two copies claim the same history.
func common(a, b copyOf) uint64 {
	for _, e := range a.log {
		mine, _ := a.upper(e.UUID)
		if theirs, ok := b.upper(e.UUID); ok {
			return min(mine, theirs)
		}
	}
	return 0
}

// agrees requires that two copies have the same documents as far as they claim the same history. What one has replaced by
// something newer than that it need not have.
func agrees(t testing.TB, what string, a, b copyOf) {
	t.Helper()
	upTo := common(a, b)
	for _, pair := range [][2]copyOf{{a, b}, {b, a}} {
		for key, mine := range pair[0].docs {
			if mine.seqno > upTo {
				continue
			}
			theirs, there := pair[1].docs[key]
			require.Truef(t, there, "%s: %q of seqno %d is missing, common up to %d\n%+v\n%+v", what, key, mine.seqno, upTo, a, b)
			if theirs.seqno <= upTo {
				require.Equalf(t, mine, theirs, "%s: %q differs, common up to %d\n%+v\n%+v", what, key, upTo, a, b)
			}
		}
	}
}

// crashing is a cluster that is taken down again and again. Vbucket i has one active and two replicas.
type crashing struct {
	t      *testing.T
	rng    *rand.Rand
	nodes  []*kvnode.Node
	active []int
	// acked and durable are what each vbucket's writer knows: what was acknowledged, and what was after a SEQNO_PERSISTENCE.
	acked, durable []map[string]version
	// hopes is what each vbucket's durable writers know; kept is which of their attempts must be there when all is connected again, and
	// what says what has happened.
	hopes  [][]hopes
	kept   []func(attempt) bool
	what   []string
	fault  atomic.Value
	cycles int

	relays                 []*relay
	lost, rolled, promoted int
}

const crashKeys = 12

func (k *crashing) vbuckets() []int { return []int{0, 1, 2, 3} }

// rates are those of a disk that hardly lags, of slow ones, and of one that stands still.
var crashRates = []int64{0, 0, 4 << 20, 300 << 10, kvnode.DiskStalled}

// connect has every active replicated to the two other nodes, waits until all copies are the same, and looks for durable writes that are
// lost.
func (k *crashing) connect() {
	t := k.t
	for _, n := range k.nodes {
		n.SetDiskRate(0)
	}
	for from, producer := range k.nodes {
		for to, consumer := range k.nodes {
			var r *relay
			for _, vb := range k.vbuckets() {
				if from == to || k.active[vb] != from {
					continue
				}
				if r == nil {
					r = join(t, producer, consumer, fmt.Sprintf("replication:n%d->n%d:default", from, to))
					k.relays = append(k.relays, r)
				}
				r.open(uint16(vb), 0)
			}
			if r != nil {
				k.rolled += len(rollbacks(r))
			}
		}
	}
	admins := make([]*client, len(k.nodes))
	for i, n := range k.nodes {
		admins[i] = login(t, n)
		defer admins[i].socket.Close()
	}
	for _, vb := range k.vbuckets() {
		k.decided(vb)
		eventually(t, "copies are the same", func() bool {
			var all []string
			for _, c := range admins {
				pairs, _ := c.stats("vbucket-digest " + utoa(uint16(vb)))
				all = append(all, fmt.Sprint(pairs))
			}
			return all[0] == all[1] && all[1] == all[2]
		})
	}
	onDisk := k.rng.IntN(2) == 0
	if onDisk {
		for _, c := range admins {
			c.settled()
		}
	}
	for _, vb := range k.vbuckets() {
		k.verify(vb, onDisk)
	}
}

func rollbacks(r *relay) (list []seen) {
	for _, s := range r.frames(0) {
		if s.frame.Opcode() == mcbp.OpDCPStreamReq && s.frame.IsResponse() && s.frame.Status() == mcbp.StatusRollback {
			list = append(list, s)
		}
	}
	return list
}

// writer writes to a vbucket until its node goes. Whatever is acknowledged before that, it remembers.
func (k *crashing) writer(vb int, rng *rand.Rand, c *client, ops *atomic.Int64) {
	acked, durable := k.acked[vb], k.durable[vb]
	request := func(p *mcbp.Packet) (mcbp.Frame, bool) {
		p.VBucket = uint16(vb)
		if _, err := c.socket.Write(p.Frame()); err != nil {
			return nil, false
		}
		f, err := c.tryRead()
		return f, err == nil
	}
	for {
		key := fmt.Sprintf("key-%d", rng.IntN(crashKeys))
		v := version{value: fmt.Sprintf("%d-%s", rng.Uint64(), strings.Repeat("x", rng.IntN(100)))}
		p := setPacket(0, "\x00"+key, v.value)
		if v.deleted = rng.IntN(6) == 0; v.deleted {
			p, v.value = &mcbp.Packet{Opcode: mcbp.OpDelete, Key: []byte("\x00" + key)}, ""
		}
		f, ok := request(p)
		if !ok {
			return
		}
		if f.Status() == mcbp.StatusSuccess {
			v.cas, v.seqno = f.CAS(), binary.BigEndian.Uint64(f.Extras()[8:])
			acked[key] = v
		}
		ops.Add(1)
		if rng.IntN(5) > 0 || v.seqno == 0 {
			continue
		}
		f, ok = request(&mcbp.Packet{Opcode: mcbp.OpSeqnoPersistence, Extras: binary.BigEndian.AppendUint64(nil, v.seqno)})
		if !ok {
			return
		}
		if f.Status() == mcbp.StatusSuccess {
			for key, v := range acked {
				durable[key] = v
			}
		}
	}
}

// writeAlone lets actives write before their replicas are back. Where they have lost something, they give its seqnos to other
// documents now, which replicas that still have it must not mistake for what they know.
func (k *crashing) writeAlone() {
	for _, vb := range k.vbuckets() {
		c := login(k.t, k.nodes[k.active[vb]], mcbp.FeatureMutationSeqno)
		for range k.rng.IntN(3) * 10 {
			key := fmt.Sprintf("key-%d", k.rng.IntN(crashKeys))
			v := version{value: fmt.Sprintf("alone-%d", k.rng.Uint64())}
			f := c.set(uint16(vb), key, v.value)
			v.cas, v.seqno = f.CAS(), binary.BigEndian.Uint64(f.Extras()[8:])
			k.acked[vb][key] = v
		}
		c.socket.Close()
	}
}

// cycle writes, takes some nodes down while it does, brings them back, and compares.
func (k *crashing) cycle() {
	t := k.t
	k.cycles++
	k.writeAlone()
	k.connect()
	for _, n := range k.nodes {
		n.SetDiskRate(crashRates[k.rng.IntN(len(crashRates))])
	}
	var ops atomic.Int64
	var writers sync.WaitGroup
	var clients []*client
	for _, vb := range k.vbuckets() {
		c := login(t, k.nodes[k.active[vb]], append(replicationFeatures, mcbp.FeatureMutationSeqno)...)
		clients = append(clients, c)
		rng := rand.New(rand.NewPCG(k.rng.Uint64(), 0))
		writers.Go(func() { k.writer(vb, rng, c, &ops) })
		for w, h := range k.hopes[vb] {
			c := login(t, k.nodes[k.active[vb]], append(replicationFeatures, durableFeatures...)...)
			clients = append(clients, c)
			rng, keys := rand.New(rand.NewPCG(k.rng.Uint64(), 0)), []string{}
			for i := range durableKeys {
				keys = append(keys, durableKey(w, i))
			}
			writers.Go(func() { k.durableWriter(vb, h, keys, rng, c, &ops) })
		}
	}
	until := 1 + k.rng.Int64N(200)
	eventually(t, "documents are written", func() bool { return ops.Load() >= until })

	how := make([]string, len(k.nodes))
	victims := k.rng.Perm(len(k.nodes))[:1+k.rng.IntN(len(k.nodes))]
	for _, i := range victims {
		if how[i] = "killed"; k.rng.IntN(5) == 0 {
			how[i] = "stopped"
		}
		if how[i] == "stopped" {
			require.NoError(t, k.nodes[i].Stop())
		} else {
			k.nodes[i].Kill()
		}
	}
	for _, c := range clients {
		c.socket.Close()
	}
	writers.Wait()
	for _, r := range k.relays {
		r.close()
	}
	k.relays = nil
	require.Nil(t, k.fault.Load())
	for _, i := range victims {
		require.NoError(t, k.nodes[i].Restart())
		k.nodes[i].SetDiskRate(0)
		require.NoError(t, k.nodes[i].Warm(t.Context()))
	}
	for _, vb := range k.vbuckets() {
		k.compare(vb, how)
	}
}

// compare looks for what must not be lost, and for copies that differ where they claim not to. Sometimes it then fails the
// active over, to the copy that has most of what was prepared.
func (k *crashing) compare(vb int, how []string) {
	t := k.t
	copies := make([]copyOf, len(k.nodes))
	for i, n := range k.nodes {
		claimed := uint64(math.MaxUint64)
		if i != k.active[vb] {
			claimed = claims(t, n, uint16(vb))
		}
		copies[i] = dump(t, n, uint16(vb))
		copies[i].high = min(copies[i].high, claimed)
	}
	what := fmt.Sprintf("vbucket %d, active on n%d, %q", vb, k.active[vb], how)
	for i := range copies {
		for j := range i {
			agrees(t, fmt.Sprintf("%s, n%d and n%d", what, i, j), copies[i], copies[j])
		}
	}
	active := copies[k.active[vb]]
	kept := k.acked[vb]
	if how[k.active[vb]] == "killed" {
		kept = k.durable[vb]
		for key, v := range k.acked[vb] {
			if active.docs[key].seqno < v.seqno {
				k.lost++
			}
		}
	}
	for key, v := range kept {
		now, there := active.docs[key]
		require.Truef(t, there, "%s: %q is lost", what, key)
		require.GreaterOrEqualf(t, now.seqno, v.seqno, "%s: %q is an older version", what, key)
		if now.seqno == v.seqno {
			require.Equalf(t, v, now, "%s: %q is another document", what, key)
		}
	}
	if how[k.active[vb]] != "" {
		k.acked[vb], k.durable[vb] = versions(active), versions(active) // all that a restart finds is on disk
	}
	old, next := k.active[vb], k.active[vb]
	if k.rng.IntN(4) == 0 || how[old] == "killed" && k.rng.IntN(2) == 0 {
		next = k.best(vb)
	}
	k.what[vb], k.kept[vb] = fmt.Sprintf("%s, then on n%d", what, next), k.keeps(old, next, how)
	if next == old {
		return
	}
	k.promoted++
	k.active[vb] = next
	demoted, promoted := login(t, k.nodes[old]), login(t, k.nodes[next], mcbp.FeatureJSON)
	defer demoted.socket.Close()
	defer promoted.socket.Close()
	demoted.setVBucket(uint16(vb), mcbp.VBucketReplica)
	promoted.topology(uint16(vb), k.chains(next))
	for i, c := range map[int]*client{old: demoted, next: promoted} {
		k.nodes[i].SetDiskRate(0)
		c.settled()
	}
	k.acked[vb], k.durable[vb] = versions(copies[next]), map[string]version{}
}

func versions(c copyOf) map[string]version {
	list := map[string]version{}
	for key, v := range c.docs {
		list[key] = v
	}
	return list
}

// Nodes that are killed at any moment, and come back, lose nothing that they said was on disk, nor what a durable write's level promises,
// and no replica differs from its active where both claim the same history.
func TestCrashes(t *testing.T) {
	seed := *crashSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-crashseed=%d", seed)
	k := &crashing{t: t, rng: rand.New(rand.NewPCG(seed, 0))}
	for i := range 3 {
		n := startNode(t, fmt.Sprintf("n%d", i), func(o *kvnode.Options) {
			o.Dir, o.DiskNoSync, o.PersistenceTimeout = t.TempDir(), true, 50*time.Millisecond
		})
		k.nodes = append(k.nodes, n)
	}
	for _, vb := range k.vbuckets() {
		k.active = append(k.active, vb%len(k.nodes))
		k.acked, k.durable = append(k.acked, map[string]version{}), append(k.durable, map[string]version{})
		k.kept, k.what = append(k.kept, nil), append(k.what, "")
		k.hopes = append(k.hopes, nil)
		for w := range durableWriters {
			h := hopes{}
			for i := range durableKeys {
				h[durableKey(w, i)] = []attempt{{deleted: true, level: onEveryDisk}}
			}
			k.hopes[vb] = append(k.hopes[vb], h)
		}
		for i, n := range k.nodes {
			c := login(t, n, mcbp.FeatureJSON)
			if i == k.active[vb] {
				c.topology(uint16(vb), k.chains(i))
			} else {
				c.setVBucket(uint16(vb), mcbp.VBucketReplica)
			}
			c.settled() // a copy that the disk has not heard of would be gone
			c.socket.Close()
		}
	}
	for range *crashes {
		k.cycle()
	}
	k.writeAlone()
	k.connect()
	t.Logf("%d acknowledged writes that were not on disk were lost, %d streams began with a rollback, %d replicas were promoted",
		k.lost, k.rolled, k.promoted)
}
