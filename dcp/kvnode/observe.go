package kvnode

import (
	"encoding/binary"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// readReplica returns the document of a key on a replica. One that has expired is hidden; its deletion is the active's to make.
func (v *vbucket) readReplica(key string, now time.Time) (*item, mcbp.Status) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.deleted || v.state != mcbp.VBucketReplica {
		return nil, mcbp.StatusNotMyVBucket
	}
	it := v.items[key]
	if it == nil || it.deleted || it.expiredAt(now) {
		return nil, mcbp.StatusKeyNotFound
	}
	return it, mcbp.StatusSuccess
}

// metaWithDatatype asks GET_META for the datatype as well.
const metaWithDatatype = 2

// getMeta answers GET_META: what is known of the newest version of a key, or of its deletion.
func (c *conn) getMeta(b *bucket, f mcbp.Frame) {
	x := f.Extras()
	if len(x) > 1 || len(x) == 1 && (x[0] == 0 || x[0] > metaWithDatatype) || len(f.Value()) != 0 {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	it := c.find(b, f, (*vbucket).newest)
	if it == nil {
		return
	}
	deleted, expiry := uint32(0), it.expiry
	if it.deleted {
		deleted, expiry = 1, it.deleteTime
	}
	p := mcbp.Response(f, mcbp.StatusSuccess)
	p.CAS = it.cas
	for _, word := range []uint32{deleted, it.flags, expiry} {
		p.Extras = binary.BigEndian.AppendUint32(p.Extras, word)
	}
	p.Extras = binary.BigEndian.AppendUint64(p.Extras, it.rev)
	if len(x) == 1 && x[0] == metaWithDatatype {
		p.Extras = append(p.Extras, byte(it.datatype))
	}
	c.reply(p)
}

// newest returns the newest version of a key, which may be its deletion, or have expired.
func (v *vbucket) newest(key string, _ time.Time) (*item, mcbp.Status) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if status := v.admits(); status != mcbp.StatusSuccess {
		return nil, status
	}
	if v.recommits(key) {
		return nil, mcbp.StatusSyncWriteRecommitInProgress
	}
	it := v.items[key]
	if it == nil {
		return nil, mcbp.StatusKeyNotFound
	}
	return it, mcbp.StatusSuccess
}

// The formats of the answer to OBSERVE_SEQNO: whether the client's UUID is still that of the newest history.
const (
	observedSame byte = iota
	observedFailover
)

// observeSeqno answers OBSERVE_SEQNO, by which clients find out whether what they wrote has reached a copy, and its disk. The value
// is the UUID that the client knows; if there has been a failover since, the answer tells where the history of that one ended.
func (c *conn) observeSeqno(b *bucket, f mcbp.Frame) {
	if f.ExtrasLen() != 0 || f.KeyLen() != 0 || len(f.Value()) != 8 {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	v := b.vb(f.VBucket())
	if v == nil {
		c.refuse(b, f, mcbp.StatusNotMyVBucket)
		return
	}
	value, status := v.observe(binary.BigEndian.Uint64(f.Value()))
	if status != mcbp.StatusSuccess {
		c.refuse(b, f, status)
		return
	}
	p := mcbp.Response(f, mcbp.StatusSuccess)
	p.Value = value
	c.reply(p)
}

func (v *vbucket) observe(uuid uint64) (value []byte, status mcbp.Status) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.deleted || v.state == mcbp.VBucketDead {
		return nil, mcbp.StatusNotMyVBucket
	}
	for i, e := range v.log {
		if e.UUID != uuid {
			continue
		}
		format := observedSame
		if i > 0 {
			format = observedFailover
		}
		value = binary.BigEndian.AppendUint16([]byte{format}, v.id)
		for _, word := range []uint64{v.log.uuid(), v.persisted(), v.high} { // persisted, and in memory
			value = binary.BigEndian.AppendUint64(value, word)
		}
		if i > 0 {
			value = binary.BigEndian.AppendUint64(value, uuid)
			value = binary.BigEndian.AppendUint64(value, v.log[i-1].Seqno)
		}
		return value, mcbp.StatusSuccess
	}
	return nil, mcbp.StatusKeyNotFound
}
