package kvnode

import "github.com/shearpin/shearpin/dcp/mcbp"

// apply acts on a message that carries data. It is answered only if it cannot be applied, or if it completes a snapshot
// that the producer wants confirmed. A producer that sends more than the bucket and the buffer hold loses its connection.
func (c *consumer) apply(s *passiveStream, f mcbp.Frame) error {
	if c.b.overrun() {
		return errOverrun
	}
	status := mcbp.StatusInvalid
	switch f.Opcode() {
	case mcbp.OpDCPSnapshotMarker:
		if m, err := mcbp.ParseSnapshotMarker(f); err == nil {
			status = s.marker(m)
		}
	case mcbp.OpDCPMutation:
		if m, err := mcbp.ParseMutation(f); err == nil {
			status = c.document(s, m.Key, &item{
				value: append([]byte(nil), m.Value...), datatype: m.Datatype, cas: m.CAS, seqno: m.BySeqno, rev: m.RevSeqno,
				flags: m.Flags, expiry: m.Expiration,
			})
		}
	case mcbp.OpDCPSeqnoAdvanced:
		if m, err := mcbp.ParseSeqnoMessage(f); err == nil {
			status = s.advanced(m.Seqno)
		}
	case mcbp.OpDCPPrepare:
		if m, err := mcbp.ParsePrepare(f); err == nil {
			status = c.document(s, m.Key, prepareOf(m))
		}
	case mcbp.OpDCPCommit, mcbp.OpDCPAbort:
		if m, err := mcbp.ParseCompletion(f); err == nil {
			status = c.completion(s, m)
		}
		if status == mcbp.StatusKeyNotFound {
			return errNoPrepare
		}
	case mcbp.OpDCPDeletion, mcbp.OpDCPExpiration:
		if m, err := mcbp.ParseDeletion(f); err == nil {
			status = c.document(s, m.Key, &item{
				value: append([]byte(nil), m.Value...), datatype: m.Datatype, cas: m.CAS, seqno: m.BySeqno, rev: m.RevSeqno,
				deleted: true, expired: m.Version == mcbp.DeletionByExpiry, deleteTime: m.DeleteTime,
			})
		}
	}
	if status == mcbp.StatusStreamNotFound {
		c.forget(s)
		status = c.noStream()
	}
	if status != mcbp.StatusSuccess {
		c.answer(f, status)
		return nil
	}
	c.confirm(s)
	return nil
}

// marker opens a snapshot. If the last one was not received whole, the range in which the copy is incomplete grows.
func (s *passiveStream) marker(m mcbp.SnapshotMarker) mcbp.Status {
	v := s.vb
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.passive != s:
		return mcbp.StatusStreamNotFound
	case m.Start > m.End || m.End < v.high:
		return mcbp.StatusRange
	case v.high >= v.snapEnd:
		v.snapStart = v.high
	}
	v.snapEnd, v.snapCompleted = m.End, m.HighCompleted
	s.last = v.high
	s.confirm, s.ackAt = m.Flags&mcbp.SnapshotAck != 0, m.End
	return mcbp.StatusSuccess
}

// plainKey is a key without its collection.
func (c *consumer) plainKey(key []byte) ([]byte, mcbp.Status) {
	if c.collections {
		if len(key) == 0 || key[0] != 0 {
			return nil, mcbp.StatusUnknownCollection
		}
		key = key[1:]
	}
	if len(key) == 0 || len(key) > maxKeyLen {
		return nil, mcbp.StatusInvalid
	}
	return key, mcbp.StatusSuccess
}

// document puts one version in place, exactly as the producer has it.
func (c *consumer) document(s *passiveStream, key []byte, it *item) mcbp.Status {
	key, status := c.plainKey(key)
	if status != mcbp.StatusSuccess {
		return status
	}
	if len(it.value) > maxValue {
		return mcbp.StatusInvalid
	}
	it.key = string(key)
	v := s.vb
	v.mu.Lock()
	defer v.mu.Unlock()
	if status := s.admits(it.seqno); status != mcbp.StatusSuccess {
		return status
	}
	if it.kind == document {
		v.put(it)
	} else {
		v.hold(it)
	}
	v.progress()
	return mcbp.StatusSuccess
}

// advanced takes a seqno at which there is nothing for this copy.
func (s *passiveStream) advanced(seqno uint64) mcbp.Status {
	v := s.vb
	v.mu.Lock()
	defer v.mu.Unlock()
	if status := s.admits(seqno); status != mcbp.StatusSuccess {
		return status
	}
	v.visible = seqno
	v.advance(seqno)
	v.progress()
	return mcbp.StatusSuccess
}

// admits checks that a seqno is the stream's to bring: it goes forward and stays in the snapshot. The caller holds the
// vbucket.
func (s *passiveStream) admits(seqno uint64) mcbp.Status {
	switch v := s.vb; {
	case v.passive != s:
		return mcbp.StatusStreamNotFound
	case seqno <= v.high || seqno > v.snapEnd:
		return mcbp.StatusRange
	}
	s.last = seqno
	return mcbp.StatusSuccess
}

// confirm answers the snapshot's marker when all of it is there, if the producer asked for that.
func (c *consumer) confirm(s *passiveStream) {
	if !s.confirm || s.last < s.ackAt {
		return
	}
	s.confirm = false
	c.put((&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: mcbp.OpDCPSnapshotMarker, Opaque: s.opaque}).Frame())
}
