package kvnode_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Durable writers of TestCrashes: who writes what, what a level promises when nodes are killed, and which copy is to follow an active
// that is gone.

// attempt is one durable write of a key. All of a key come from one writer, one after another.
type attempt struct {
	value   string
	deleted bool
	level   mcbp.DurabilityLevel
	// acked says that it was answered with success; cycle is when.
	acked bool
	cycle int
}

// onEveryDisk is the level of what all copies have on disk.
const onEveryDisk mcbp.DurabilityLevel = 0xff

// hopes is what has been tried of each key since all of it was on every disk, oldest first. The first attempt of each is what was there then.
type hopes map[string][]attempt

const (
	durableWriters = 2
	durableKeys    = 4
)

func durableKey(writer, key int) string { return fmt.Sprintf("durable-%d-%d", writer, key) }

// chains is a topology with one of the nodes first.
func (k *crashing) chains(active int) string {
	names := []string{k.nodes[active].Name()}
	for i, n := range k.nodes {
		if i != active {
			names = append(names, n.Name())
		}
	}
	return `[["` + strings.Join(names, `","`) + `"]]`
}

// durableWriter writes durably to a vbucket until its node goes. What has no answer, or none that says how it ended, may have happened.
func (k *crashing) durableWriter(vb int, h hopes, keys []string, rng *rand.Rand, c *client, ops *atomic.Int64) {
	for {
		key := keys[rng.IntN(len(keys))]
		a := attempt{value: fmt.Sprint(rng.Uint64()), level: mcbp.DurabilityLevel(1 + rng.IntN(3)), cycle: k.cycles}
		p := setPacket(uint16(vb), "\x00"+key, a.value)
		if a.deleted = rng.IntN(6) == 0; a.deleted {
			p, a.value = &mcbp.Packet{Opcode: mcbp.OpDelete, VBucket: uint16(vb), Key: []byte("\x00" + key)}, ""
		}
		durably(p, a.level, time.Duration(1+rng.IntN(60))*time.Millisecond)
		h[key] = append(h[key], a)
		latest := &h[key][len(h[key])-1]
		if _, err := c.socket.Write(p.Frame()); err != nil {
			return
		}
		f, err := c.tryRead()
		if err != nil {
			return
		}
		switch f.Status() {
		case mcbp.StatusSuccess:
			latest.acked = true
		case mcbp.StatusSyncWriteAmbiguous:
		case mcbp.StatusSyncWriteInProgress, mcbp.StatusKeyNotFound, mcbp.StatusTemporaryFailure:
			h[key] = h[key][:len(h[key])-1]
		default:
			k.fault.CompareAndSwap(nil, fmt.Sprintf("vbucket %d: a durable write is answered with %v", vb, f.Status()))
			return
		}
		ops.Add(1)
	}
}

// possible are the attempts of which one must be there: the newest that counts as kept, and all that came later.
func possible(list []attempt, kept func(attempt) bool) []attempt {
	for i, a := range slices.Backward(list) {
		if a.level == onEveryDisk || a.acked && kept(a) {
			return list[i:]
		}
	}
	return list
}

// keeps is what the levels promise of a vbucket whose active was old and is next, when nodes have gone down as how says: a copy in the
// memory of a killed node is gone, one on its disk is not. On the disk of an active is what it acknowledged as persisted there; others may
// have begun from nothing since an earlier cycle.
func (k *crashing) keeps(old, next int, how []string) func(attempt) bool {
	killed := 0
	for i := range how {
		if i != old && how[i] == "killed" {
			killed++
		}
	}
	cycle := k.cycles
	return func(a attempt) bool {
		if next == old {
			return how[old] != "killed" || a.level != mcbp.DurabilityMajority
		}
		return killed == 0 || a.level == mcbp.DurabilityPersistToMajority && a.cycle == cycle
	}
}

// best is the copy, the active's aside, that has most of what was prepared.
func (k *crashing) best(vb int) (at int) {
	var most uint64
	at = -1
	for i, n := range k.nodes {
		if i == k.active[vb] {
			continue
		}
		c := login(k.t, n)
		if has := statUint(k.t, c, "vbucket-seqno", uint16(vb), "high_prepared_seqno"); at < 0 || has > most {
			at, most = i, has
		}
		c.socket.Close()
	}
	return at
}

// decided waits until no durable write of a vbucket is without an end: those that its active found are committed when its replicas are back.
func (k *crashing) decided(vb int) {
	c := login(k.t, k.nodes[k.active[vb]])
	defer c.socket.Close()
	for _, h := range k.hopes[vb] {
		for key := range h {
			eventually(k.t, "a durable write has ended", func() bool {
				return c.get(uint16(vb), key).Status() != mcbp.StatusSyncWriteRecommitInProgress
			})
		}
	}
}

// verify looks for durable writes that are lost, when all copies are the same. If all of it is on every disk, what is there is what there
// will be.
func (k *crashing) verify(vb int, onDisk bool) {
	c := login(k.t, k.nodes[k.active[vb]])
	defer c.socket.Close()
	for _, h := range k.hopes[vb] {
		for key, list := range h {
			now := attempt{level: onEveryDisk, deleted: true}
			if f := c.get(uint16(vb), key); f.Status() == mcbp.StatusSuccess {
				now.value, now.deleted = string(f.Value()), false
			} else {
				require.Equal(k.t, mcbp.StatusKeyNotFound, f.Status())
			}
			may := possible(list, k.kept[vb])
			is := slices.IndexFunc(may, func(a attempt) bool { return a.value == now.value && a.deleted == now.deleted })
			require.GreaterOrEqualf(k.t, is, 0, "%s: %q is %+v, which is none of %+v\nof %+v", k.what[vb], key, now, may, list)
			for i := is + 1; i < len(may); i++ {
				may[i].acked = may[i].acked && may[i].deleted && now.deleted // lost, as its level allows; of deletions nobody knows
			}
			if onDisk {
				h[key] = []attempt{now}
			}
		}
	}
}
