package kvnode

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
)

// statDigest is the node's own statistic, which real engines do not have: vb_N:high_seqno, vb_N:uuid and vb_N:digest,
// taken at one moment. Two copies with the same high seqno and digest hold the same live documents, with the same values,
// CAS, seqnos and flags.
func statDigest(v *vbucket, s stats, prefix string) {
	v.mu.Lock()
	items := v.history.appendSince(nil, 0)
	high, uuid := v.high, v.log.uuid()
	v.mu.Unlock()
	s.addUint(prefix+":high_seqno", high)
	s.addUint(prefix+":uuid", uuid)
	s.add(prefix+":digest", digest(items))
}

// digest is the sum, lane by lane, of the SHA-256 sums of the live documents: it does not depend on their order.
func digest(items []*item) string {
	var lanes [4]uint64
	h := sha256.New()
	var sum [sha256.Size]byte
	for _, it := range items {
		if !it.live() {
			continue
		}
		h.Reset()
		it.hash(h)
		h.Sum(sum[:0])
		for i := range lanes {
			lanes[i] += binary.BigEndian.Uint64(sum[8*i:])
		}
	}
	var b []byte
	for _, lane := range lanes {
		b = binary.BigEndian.AppendUint64(b, lane)
	}
	return hex.EncodeToString(b)
}

func (it *item) hash(h hash.Hash) {
	var head [32]byte
	binary.BigEndian.PutUint64(head[:], it.cas)
	binary.BigEndian.PutUint64(head[8:], it.seqno)
	binary.BigEndian.PutUint64(head[16:], it.rev)
	binary.BigEndian.PutUint32(head[24:], it.flags)
	binary.BigEndian.PutUint32(head[28:], uint32(len(it.key)))
	h.Write(head[:])
	h.Write([]byte(it.key))
	h.Write(it.value)
}
