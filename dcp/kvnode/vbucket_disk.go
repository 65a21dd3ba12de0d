package kvnode

import (
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// changed tells the flusher, if there is one, that the copy is not what the disk has. The caller holds mu.
func (v *vbucket) changed() {
	if w := v.bucket.flusher; w != nil && !v.unflushed {
		v.unflushed = true
		w.push(v.id)
	}
}

// persisted is the newest seqno that a restart would not lose. Without a disk, that is the newest there is: nothing says
// what is lost then. The caller holds mu.
func (v *vbucket) persisted() uint64 {
	if v.bucket.flusher == nil {
		return v.high
	}
	return v.disk.persisted
}

// header is the copy as the disk is to know it. The caller holds mu.
func (v *vbucket) header() header {
	h := header{State: v.state, Topology: v.topology, Log: append(failoverLog(nil), v.log...), High: v.high, LastCAS: v.lastCAS}
	h.SnapStart, h.SnapEnd = v.snapshot()
	h.HighPrepared, h.HighCompleted = v.durability.highPrepared, v.durability.highCompleted
	return h
}

// flushed hears that a batch is on disk, and tells whoever waited for it.
func (v *vbucket) flushed(b batch) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.disk.committed(b)
	v.releaseWaiters()
	if !v.deleted {
		v.progress()
	}
}

// restored makes a copy of what lay on disk. It writes that down again only if the restart changes it.
func restored(b *bucket, id uint16, found header, items []*item, clean bool) *vbucket {
	h := found.revived(clean, newUUID())
	v := &vbucket{
		id: id, bucket: b, state: h.State, topology: h.Topology, log: h.Log, high: h.High, lastCAS: h.LastCAS,
		snapStart: h.SnapStart, snapEnd: h.SnapEnd, items: make(map[string]*item, len(items)), disk: foundOnDisk(found),
		durability: newDurability(b.member()), prepares: map[string]*item{}, writers: map[uint64]*syncWrite{},
	}
	v.durability.highPrepared, v.durability.highCompleted = h.HighPrepared, h.HighCompleted
	for _, it := range items {
		v.history.push(it)
		b.memory.Add(it.size())
		if it.kind != document {
			v.prepares[it.key] = it
			if it.kind == prepared {
				v.durability.prepare(preparedWrite{seqno: it.seqno, key: it.key, level: it.level})
			}
			continue
		}
		v.items[it.key] = it
		if it.live() {
			v.documents++
		}
		v.noteExpiry(it)
	}
	v.visible = v.findVisible()
	if h.Log.uuid() != found.Log.uuid() {
		v.changed()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.roleChanged()
	return v
}

// awaitDisk waits for something that the disk is to do, as long as a SEQNO_PERSISTENCE may. The status is a temporary
// failure if that is not long enough; alive is false if the connection has gone meanwhile, and nobody wants an answer.
func (c *conn) awaitDisk(reached <-chan struct{}) (status mcbp.Status, alive bool) {
	c.flush()
	timeout := time.NewTimer(c.node.opts.PersistenceTimeout)
	defer timeout.Stop()
	select {
	case <-reached:
		return mcbp.StatusSuccess, true
	case <-timeout.C:
		return mcbp.StatusTemporaryFailure, true
	case <-c.done:
		return 0, false
	}
}
