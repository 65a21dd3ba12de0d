package relay

import "github.com/shearpin/shearpin/dcp/mcbp"

// tallySet is a set of vbuckets, as bits. It is immutable, so that the direction that counts needs no lock.
type tallySet []uint64

func newTallySet(vbs []uint16) *tallySet {
	if len(vbs) == 0 {
		return nil
	}
	highest := vbs[0]
	for _, vb := range vbs {
		highest = max(highest, vb)
	}
	s := make(tallySet, int(highest)/64+1)
	for _, vb := range vbs {
		s[vb/64] |= 1 << (vb % 64)
	}
	return &s
}

// weigh is how many bytes a frame from the producer has, if it is about one of the vbuckets.
func (s tallySet) weigh(f mcbp.Frame) uint64 {
	vb := f.VBucket()
	if int(vb/64) >= len(s) || s[vb/64]&(1<<(vb%64)) == 0 || f.IsResponse() || f.Opcode() == mcbp.OpDCPNoop {
		return 0
	}
	return mcbp.HeaderLen + uint64(f.BodyLen())
}

// Tally replaces the set of vbuckets of which [Relay.Tallied] adds up the bytes; an empty set makes that free. It may be called
// from any goroutine.
func (r *Relay) Tally(vbs []uint16) { r.tallySet.Store(newTallySet(vbs)) }

// Tallied is how many bytes of requests the producer has sent about vbuckets while they were in the set of [Relay.Tally]; NOOPs
// are none. A frame counts when its header has been read. It never falls.
func (r *Relay) Tallied() uint64 { return r.tallied.Load() }
