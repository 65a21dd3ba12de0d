package kvnode

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// A durable write is a prepare until its end is decided (durability_machine.go): a version with a seqno that is streamed, counted and
// brought to disk like a document, but beside the documents, where no reader looks. A commit makes it the document, at a seqno of its
// own; an abort leaves a mark in its place, because a copy that has the prepare has to hear of it however long it was away. The mark goes
// with the next version of the key.

// defaultDurabilityTimeout is how long a durable write may take that does not say.
const defaultDurabilityTimeout = 30 * time.Second

// syncWrite is a durable write that a client waits for. done is closed when the other fields are set.
type syncWrite struct {
	done   chan struct{}
	status mcbp.Status
	it     *item
	uuid   uint64
}

// durabilityOf is what a request demands of its write, nil if nothing, or why it cannot have it. Answers keep the order of requests, so
// whatever a client sends behind a durable write waits as well; a DCP connection, whose frames must flow, may therefore not ask.
func (c *conn) durabilityOf(f mcbp.Frame) (*mcbp.Durability, mcbp.Status) {
	d, status := durabilityIn(f.FramingExtras())
	if d != nil && (!c.features.has(mcbp.FeatureSyncReplication) || c.end() != nil) {
		return nil, mcbp.StatusNotSupported
	}
	return d, status
}

// durabilityIn looks for the durability requirement among framing extras. One of the right length that says what none can say is of a level
// that there is not, as engines see it.
func durabilityIn(frames []byte) (d *mcbp.Durability, status mcbp.Status) {
	for len(frames) > 0 {
		info, rest, err := mcbp.NextFrameInfo(frames)
		if err != nil {
			return nil, mcbp.StatusInvalid
		}
		frames = rest
		if info.ID != mcbp.FrameInfoDurability {
			continue
		}
		found, err := mcbp.ParseDurability(info.Data)
		switch {
		case err == nil:
			d = &found
		case len(info.Data) == 1 || len(info.Data) == 3:
			return nil, mcbp.StatusDurabilityInvalidLevel
		default:
			return nil, mcbp.StatusInvalid
		}
	}
	return d, mcbp.StatusSuccess
}

// mayBeDurable says which commands write what can be prepared first.
func mayBeDurable(op mcbp.Opcode) bool {
	switch aloud(op) {
	case mcbp.OpSet, mcbp.OpAdd, mcbp.OpReplace, mcbp.OpDelete, mcbp.OpAppend, mcbp.OpPrepend, mcbp.OpIncrement, mcbp.OpDecrement:
		return true
	}
	return false
}

// writeDurably is [vbucket.write] for a durable write: it waits for the end. It returns the version that was committed.
func (c *conn) writeDurably(v *vbucket, op mcbp.Opcode, it *item, cas uint64, d mcbp.Durability, now time.Time) (*item, uint64, mcbp.Status) {
	if d.Timeout == 0 {
		d.Timeout = defaultDurabilityTimeout
	}
	it.level = d.Level
	w, status := v.prepare(op, it, cas, now, time.Now().Add(d.Timeout))
	if status != mcbp.StatusSuccess {
		return nil, 0, status
	}
	c.flush()
	if !v.waitFor(w, d.Timeout, c.done) {
		return nil, 0, mcbp.StatusSyncWriteAmbiguous // which nobody reads any more
	}
	return w.it, w.uuid, w.status
}

// waitFor waits for the end of a write, which comes when its time is over if not before. It reports false if the client has gone; the
// write goes on without it.
func (v *vbucket) waitFor(w *syncWrite, timeout time.Duration, gone <-chan struct{}) bool {
	over := time.NewTimer(timeout)
	defer over.Stop()
	for {
		select {
		case <-w.done:
			return true
		case <-gone:
			return false
		case <-over.C:
			v.mu.Lock()
			v.progress()
			v.mu.Unlock()
			over.Reset(tick)
		}
	}
}

// prepare begins a client's durable write, under the conditions of any other.
func (v *vbucket) prepare(op mcbp.Opcode, it *item, cas uint64, now, deadline time.Time) (*syncWrite, mcbp.Status) {
	v.mu.Lock()
	defer v.mu.Unlock()
	status := v.admits()
	switch {
	case status != mcbp.StatusSuccess:
		return nil, status
	case !v.durability.possible():
		return nil, mcbp.StatusDurabilityImpossible
	}
	if status = v.accepts(op, it, cas, now); status != mcbp.StatusSuccess {
		return nil, status
	}
	if it.deleted {
		if status = v.bucket.room(it.size()); status != mcbp.StatusSuccess {
			return nil, status
		}
	}
	it.kind, it.cas, it.seqno = prepared, v.nextCAS(), v.high+1
	w := &syncWrite{done: make(chan struct{})}
	v.writers[it.seqno] = w
	v.bucket.undecided.Add(1)
	v.holdUntil(it, deadline)
	v.progress()
	return w, mcbp.StatusSuccess
}

// pending is the prepare of a key that has no end yet, or nil. The caller holds mu.
func (v *vbucket) pending(key string) *item {
	if p := v.prepares[key]; p != nil && p.kind == prepared {
		return p
	}
	return nil
}

// recommits reports whether readers have to wait for a key: it has a prepare that this copy found, which some client may know as
// committed already. The caller holds mu.
func (v *vbucket) recommits(key string) bool {
	p := v.pending(key)
	return p != nil && v.writers[p.seqno] == nil
}

// hold puts a prepare, or the mark of an abort, in place. The caller holds mu and has set the seqno.
func (v *vbucket) hold(it *item) { v.holdUntil(it, time.Time{}) }

func (v *vbucket) holdUntil(it *item, deadline time.Time) {
	if old := v.prepares[it.key]; old != nil {
		v.endPrepare(old)
		it.follows(old)
	}
	v.prepares[it.key] = it
	v.history.push(it)
	v.bucket.memory.Add(it.size())
	v.lastCAS = max(v.lastCAS, it.cas)
	if it.kind == prepared {
		v.durability.prepare(preparedWrite{seqno: it.seqno, key: it.key, level: it.level, deadline: deadline})
	} else {
		v.durability.completed(it.prior)
	}
	v.advance(it.seqno)
}

// endPrepare takes a prepare, or the mark of an abort, out of its place. The caller holds mu.
func (v *vbucket) endPrepare(old *item) {
	delete(v.prepares, old.key)
	v.drop(old)
	if old.kind == prepared {
		v.durability.completed(old.seqno)
	}
}

// commitAt is the document that a prepare becomes.
func (it *item) commitAt(seqno uint64) *item {
	return &item{
		key: it.key, value: it.value, datatype: it.datatype, deleted: it.deleted, cas: it.cas, seqno: seqno, rev: it.rev, flags: it.flags,
		expiry: it.expiry, deleteTime: it.deleteTime, prior: it.seqno,
	}
}

// abortAt is the mark that a prepare leaves behind.
func (it *item) abortAt(seqno uint64) *item {
	return &item{kind: aborted, key: it.key, deleted: true, cas: it.cas, seqno: seqno, rev: it.rev, prior: it.seqno}
}

// progress ends the writes that can be ended, or tells the active how far this copy is. It is called whenever something has come here,
// to the disk, or from another copy, or time has passed. The caller holds mu.
func (v *vbucket) progress() {
	complete := v.high
	switch {
	case v.state == mcbp.VBucketActive:
	case v.high < v.snapEnd:
		complete = v.snapStart
	default:
		v.durability.ended(min(v.snapCompleted, v.high))
	}
	v.durability.reached(complete, v.persisted())
	for _, end := range v.durability.decide(time.Now()) {
		v.end(end)
	}
	v.acknowledge()
}

// end makes the end of a prepare that was decided. The caller holds mu.
func (v *vbucket) end(e completion) {
	p, status := v.prepares[e.key], mcbp.StatusSuccess
	it := p.commitAt(v.high + 1)
	if e.commit {
		v.put(it)
	} else {
		status = mcbp.StatusSyncWriteAmbiguous
		v.hold(p.abortAt(v.high + 1))
	}
	if w := v.writers[e.seqno]; w != nil {
		w.it, w.uuid = it, v.log.uuid()
		v.release(e.seqno, status)
	}
}

// release lets go of the client that waits for a write. The caller holds mu.
func (v *vbucket) release(seqno uint64, status mcbp.Status) {
	w := v.writers[seqno]
	delete(v.writers, seqno)
	v.bucket.undecided.Add(-1)
	w.status = status
	close(w.done)
}

// roleChanged follows a change of state or topology. Whoever waits for a write on a copy that is not active any more learns that nobody
// here knows its end. The caller holds mu.
func (v *vbucket) roleChanged() {
	active := v.state == mcbp.VBucketActive && !v.deleted
	v.durability.assume(active, chainsOf(v.topology))
	if !active {
		for seqno := range v.writers {
			v.release(seqno, mcbp.StatusSyncWriteAmbiguous)
		}
	}
	if !v.deleted {
		v.progress()
	}
}

// chainsOf reads a topology, which has been checked.
func chainsOf(topology []byte) []chain {
	var names [][]*string
	if json.Unmarshal(topology, &names) != nil {
		return nil
	}
	chains := make([]chain, len(names))
	for i, members := range names {
		for _, name := range members {
			if name == nil {
				name = new(string)
			}
			chains[i] = append(chains[i], *name)
		}
	}
	return chains
}

// expireSyncWrites ends the durable writes whose time is over, also those whose clients have gone.
func (n *Node) expireSyncWrites() {
	for _, b := range n.allBuckets() {
		if b.undecided.Load() == 0 {
			continue
		}
		for i := range b.vbs {
			if v := b.vbs[i].Load(); v != nil {
				v.mu.Lock()
				if len(v.writers) > 0 {
					v.progress()
				}
				v.mu.Unlock()
			}
		}
	}
}

// findVisible works out what visible is, by what is there. The caller holds mu.
func (v *vbucket) findVisible() uint64 {
	if it := v.history.newest; it == nil || it.seqno < v.high {
		return v.high
	}
	for it := v.history.newest; it != nil; it = it.older {
		if it.kind == document {
			return it.seqno
		}
	}
	return 0
}

// acknowledge tells the active how far this copy has what was prepared, if there is something new to tell. The caller holds mu.
func (v *vbucket) acknowledge() {
	if s := v.passive; s != nil && v.state != mcbp.VBucketActive && s.acknowledges && v.durability.highPrepared > s.acknowledged {
		s.acknowledged = v.durability.highPrepared
		s.consumer.put(mcbp.SeqnoMessage{
			Opcode: mcbp.OpDCPSeqnoAcknowledged, VBucket: v.id, Opaque: s.opaque, Seqno: s.acknowledged,
		}.Append(nil))
		s.consumer.c.signal()
	}
}

// acknowledged takes what a replica says of how far it is. Only one that has a name in topologies counts.
func (p *producer) acknowledged(f mcbp.Frame) {
	s := p.streams[f.VBucket()]
	m, err := mcbp.ParseSeqnoMessage(f)
	switch {
	case err != nil:
		p.respond(f.VBucket(), f, mcbp.StatusInvalid)
	case s == nil || s.ending() || s.request.Opaque != f.Opaque() || s.node == "":
		// It is late, or from somebody who has no say.
	default:
		s.vb.acknowledged(s, m.Seqno)
	}
}

func (v *vbucket) acknowledged(s *activeStream, seqno uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !slices.Contains(v.streams, s) {
		return // its vbucket has ended it meanwhile
	}
	v.durability.acknowledged(s.node, min(seqno, s.sent.Load()))
	v.progress()
}

// prepareOf is a prepare as its producer has it, but for the key. One that deletes does not expire, and says when it was made instead.
func prepareOf(m mcbp.Prepare) *item {
	it := &item{
		kind: prepared, level: m.Level, value: append([]byte(nil), m.Value...), datatype: m.Datatype, cas: m.CAS, seqno: m.BySeqno,
		rev: m.RevSeqno, flags: m.Flags, expiry: m.Expiration, deleted: m.Deleted,
	}
	if it.deleted {
		it.expiry, it.deleteTime = 0, m.Expiration
	}
	return it
}

// completion makes the end of a durable write that the active has decided. The caller holds the consumer.
func (c *consumer) completion(s *passiveStream, m mcbp.Completion) mcbp.Status {
	key, status := c.plainKey(m.Key)
	if status != mcbp.StatusSuccess {
		return status
	}
	if m.Prepared == 0 || m.Prepared >= m.Seqno {
		return mcbp.StatusInvalid
	}
	v := s.vb
	v.mu.Lock()
	defer v.mu.Unlock()
	if status := s.admits(m.Seqno); status != mcbp.StatusSuccess {
		return status
	}
	p := v.pending(string(key))
	switch {
	case m.Opcode == mcbp.OpDCPAbort:
		// A copy that was away for the prepare hears of its end all the same.
		v.hold(&item{kind: aborted, key: string(key), deleted: true, seqno: m.Seqno, prior: m.Prepared})
	case p == nil || p.seqno != m.Prepared:
		return mcbp.StatusKeyNotFound // without the document there is no going on
	default:
		v.put(p.commitAt(m.Seqno))
	}
	v.progress()
	return mcbp.StatusSuccess
}

// encodeSyncWrite appends what is no document.
func (s *activeStream) encodeSyncWrite(b []byte, it *item, key []byte) []byte {
	switch it.kind {
	case prepared:
		value, datatype := s.p.shown(it)
		m := mcbp.Prepare{
			VBucket: s.vb.id, Opaque: s.request.Opaque, Datatype: datatype, CAS: it.cas, BySeqno: it.seqno, RevSeqno: it.rev,
			Flags: it.flags, Expiration: it.expiry, Deleted: it.deleted, Level: it.level, Key: key, Value: value,
		}
		if it.deleted { // which does not expire, so there is room for when it was deleted
			m.Expiration = it.deleteTime
		}
		return m.Append(b)
	case gap:
		return mcbp.SeqnoMessage{
			Opcode: mcbp.OpDCPSeqnoAdvanced, VBucket: s.vb.id, Opaque: s.request.Opaque, Seqno: it.seqno,
		}.Append(b)
	}
	m := mcbp.Completion{
		Opcode: mcbp.OpDCPCommit, VBucket: s.vb.id, Opaque: s.request.Opaque, Prepared: it.prior, Seqno: it.seqno, Key: key,
	}
	if it.kind == aborted {
		m.Opcode = mcbp.OpDCPAbort
	}
	return m.Append(b)
}

// hide takes out of a snapshot what a consumer that knows no durable writes must not see. If that was the end of it, the consumer is
// told of the seqno, or, if it knows no collections either, that the snapshot ends before. It returns the end.
func (s *activeStream) hide(end uint64) uint64 {
	n := len(s.queue)
	if n == 0 {
		return end
	}
	newest := s.queue[n-1]
	s.queue = slices.DeleteFunc(s.queue, func(it *item) bool { return it.kind != document })
	if newest.kind == document {
		return end
	}
	if s.p.collections {
		s.queue = append(s.queue, &item{kind: gap, seqno: newest.seqno})
		return end
	}
	s.sent.Store(newest.seqno)
	if len(s.queue) == 0 {
		return end
	}
	return s.queue[len(s.queue)-1].seqno
}
