package kvnode

import (
	"encoding/binary"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

const (
	// maxValue is the largest document, in bytes.
	maxValue = 20 << 20
	// maxKeyLen is the longest key, in bytes, without its collection prefix.
	maxKeyLen = 250
)

// documentKey takes a key off a frame. If the connection knows collections, the key starts with a collection id, of
// which only the default, 0, exists; without collections every key is in the default collection.
func (s featureSet) documentKey(f mcbp.Frame) (string, mcbp.Status) {
	key := f.Key()
	if s.has(mcbp.FeatureCollections) {
		if len(key) == 0 {
			return "", mcbp.StatusInvalid
		}
		if key[0] != 0 {
			return "", mcbp.StatusUnknownCollection
		}
		key = key[1:]
	}
	if len(key) == 0 || len(key) > maxKeyLen {
		return "", mcbp.StatusInvalid
	}
	return string(key), mcbp.StatusSuccess
}

// access is the part that reads and writes have in common: the key, and the vbucket if it may be used.
func (c *conn) access(b *bucket, f mcbp.Frame) (v *vbucket, key string, status mcbp.Status) {
	key, status = c.features.documentKey(f)
	if status != mcbp.StatusSuccess {
		return nil, "", status
	}
	if !b.traffic.Load() {
		return nil, "", mcbp.StatusTemporaryFailure
	}
	if v = b.vb(f.VBucket()); v == nil {
		return nil, "", mcbp.StatusNotMyVBucket
	}
	return v, key, mcbp.StatusSuccess
}

// admits says whether a client may use the copy. A pending one is about to become active: try again. The caller holds mu.
func (v *vbucket) admits() mcbp.Status {
	switch {
	case v.deleted:
		return mcbp.StatusNotMyVBucket
	case v.state == mcbp.VBucketActive:
		return mcbp.StatusSuccess
	case v.state == mcbp.VBucketPending:
		return mcbp.StatusTemporaryFailure
	}
	return mcbp.StatusNotMyVBucket
}

// lookup is a way to find a version of a key in a copy.
type lookup func(v *vbucket, key string, now time.Time) (*item, mcbp.Status)

// find takes the version that a read is about, or answers why there is none and returns nil.
func (c *conn) find(b *bucket, f mcbp.Frame, look lookup) (it *item) {
	v, key, status := c.access(b, f)
	if status == mcbp.StatusSuccess {
		it, status = look(v, key, c.node.opts.Now())
	}
	if status != mcbp.StatusSuccess {
		c.refuse(b, f, status)
		return nil
	}
	return it
}

// get answers GET and GETK, and GET_REPLICA, which looks elsewhere.
func (c *conn) get(b *bucket, f mcbp.Frame, look lookup) {
	if f.ExtrasLen() != 0 || len(f.Value()) != 0 {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	if it := c.find(b, f, look); it != nil {
		c.replyDocument(f, it)
	}
}

// replyDocument answers with a document, and with its key if that was asked for.
func (c *conn) replyDocument(f mcbp.Frame, it *item) {
	value, datatype := it.value, it.datatype
	if !c.features.has(mcbp.FeatureSnappy) {
		var status mcbp.Status
		if value, status = plain(value, datatype); status != mcbp.StatusSuccess {
			c.answer(f, status)
			return
		}
	}
	var extras [4]byte
	binary.BigEndian.PutUint32(extras[:], it.flags)
	p := mcbp.Response(f, mcbp.StatusSuccess)
	p.Extras, p.Value, p.CAS, p.Datatype = extras[:], value, it.cas, datatype&c.features.datatypes()
	if op := f.Opcode(); op == mcbp.OpGetK || op == mcbp.OpGetKQ {
		p.Key = f.Key()
	}
	c.reply(p)
}

// read returns the document of a key as it is now.
func (v *vbucket) read(key string, now time.Time) (*item, mcbp.Status) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if status := v.admits(); status != mcbp.StatusSuccess {
		return nil, status
	}
	if v.recommits(key) {
		return nil, mcbp.StatusSyncWriteRecommitInProgress
	}
	it := v.live(key, now)
	if it == nil {
		return nil, mcbp.StatusKeyNotFound
	}
	return it, mcbp.StatusSuccess
}

// storeExtras is the length of the extras of SET, ADD and REPLACE: flags and expiry.
const storeExtras = 8

// store acts on SET, ADD, REPLACE and DELETE, and their quiet forms.
func (c *conn) store(b *bucket, f mcbp.Frame) {
	op, wantExtras := aloud(f.Opcode()), storeExtras
	if op == mcbp.OpDelete {
		wantExtras = 0
	}
	if f.ExtrasLen() != wantExtras || op == mcbp.OpDelete && len(f.Value()) != 0 || f.Datatype()&^c.storable() != 0 {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	if len(f.Value()) > maxValue {
		c.answer(f, mcbp.StatusTooBig)
		return
	}
	durability, status := c.durabilityOf(f)
	if status != mcbp.StatusSuccess {
		c.answer(f, status)
		return
	}
	v, key, status := c.access(b, f)
	if status != mcbp.StatusSuccess {
		c.refuse(b, f, status)
		return
	}
	it, now := &item{key: key, datatype: f.Datatype(), deleted: op == mcbp.OpDelete}, c.node.opts.Now()
	if it.deleted {
		it.deleteTime = uint32(now.Unix())
	} else {
		it.value = append([]byte(nil), f.Value()...)
		it.flags = binary.BigEndian.Uint32(f.Extras())
		it.expiry = expiryAt(binary.BigEndian.Uint32(f.Extras()[4:]), now)
	}
	it, uuid, status := c.put(v, op, it, f.CAS(), durability, now)
	if status != mcbp.StatusSuccess {
		c.refuse(b, f, status)
		return
	}
	c.stored(f, it, uuid, nil)
}

// stored answers a change that has been made, with the mutation token if the client knows it, and a value. A quiet command is
// not answered.
func (c *conn) stored(f mcbp.Frame, it *item, uuid uint64, value []byte) {
	if isQuiet(f.Opcode()) {
		return
	}
	var token [16]byte
	p := mcbp.Response(f, mcbp.StatusSuccess)
	p.CAS, p.Value = it.cas, value
	if c.features.has(mcbp.FeatureMutationSeqno) {
		binary.BigEndian.PutUint64(token[:], uuid)
		binary.BigEndian.PutUint64(token[8:], it.seqno)
		p.Extras = token[:]
	}
	c.reply(p)
}

// storable are the datatype bits that a client may give a document. Extended attributes have commands of their own.
func (c *conn) storable() mcbp.Datatype { return c.features.datatypes() &^ mcbp.DatatypeXattr }

// put makes a client's new version, durably if that is demanded. It returns the version that there is then.
func (c *conn) put(v *vbucket, op mcbp.Opcode, it *item, cas uint64, d *mcbp.Durability, now time.Time) (*item, uint64, mcbp.Status) {
	if d != nil {
		return c.writeDurably(v, op, it, cas, *d, now)
	}
	uuid, status := v.write(op, it, cas, now)
	return it, uuid, status
}

// write puts a client's new version in place, if the operation's condition on the present one holds. It gives the
// version its seqno and CAS, and returns the UUID of the history that they belong to.
func (v *vbucket) write(op mcbp.Opcode, it *item, cas uint64, now time.Time) (uuid uint64, status mcbp.Status) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if status = v.admits(); status != mcbp.StatusSuccess {
		return 0, status
	}
	if status = v.accepts(op, it, cas, now); status != mcbp.StatusSuccess {
		return 0, status
	}
	it.cas, it.seqno = v.nextCAS(), v.high+1
	v.put(it)
	return v.log.uuid(), mcbp.StatusSuccess
}

// accepts says whether an active copy takes a client's new version, and gives the version its revision if it does. The caller holds
// mu.
func (v *vbucket) accepts(op mcbp.Opcode, it *item, cas uint64, now time.Time) mcbp.Status {
	if v.backup {
		return mcbp.StatusTemporaryFailure
	}
	if v.pending(it.key) != nil {
		return mcbp.StatusSyncWriteInProgress
	}
	old := v.items[it.key]
	exists := old != nil && !old.deleted && !old.expiredAt(now)
	switch {
	case op == mcbp.OpAdd && (exists || cas != 0):
		return mcbp.StatusKeyExists
	case !exists && (op == mcbp.OpReplace || op == mcbp.OpDelete || cas != 0):
		v.live(it.key, now) // an expired one becomes a deletion
		return mcbp.StatusKeyNotFound
	case cas != 0 && cas != old.cas:
		return mcbp.StatusKeyExists
	}
	if !it.deleted {
		if status := v.bucket.room(it.size()); status != mcbp.StatusSuccess {
			return status
		}
	}
	it.rev = 1
	if old != nil {
		it.rev = old.rev + 1
	}
	return mcbp.StatusSuccess
}

// refuse answers a document command that failed. NOT_MY_VBUCKET carries the bucket's cluster configuration, so that the
// client can find the vbucket, unless the client asked not to be told what it knows.
func (c *conn) refuse(b *bucket, f mcbp.Frame, status mcbp.Status) {
	if status == mcbp.StatusKeyNotFound && isQuietRead(f.Opcode()) {
		return
	}
	p := mcbp.Response(f, status)
	if status == mcbp.StatusNotMyVBucket {
		c.attachConfig(p, b.config.Load())
	}
	c.reply(p)
}
