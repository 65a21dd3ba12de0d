package kvnode

import "github.com/shearpin/shearpin/dcp/mcbp"

// A bucket has three marks. Clients may fill it to the first: beyond, they are told to try again, because what is left is for
// replication. A document that does not fit at all is refused for good. At the quota consumers stop acknowledging, so that
// their producers stop sending when the buffers are full; this bounds what a peer can make the node keep, and a peer that
// does not stop loses its connection.

// clientShare is the part of the quota, in per cent, that clients may fill.
const clientShare = 93

// room says whether a client's document of that size may come in.
func (b *bucket) room(size int64) mcbp.Status {
	switch used := b.memory.Load() + size; {
	case used > b.quota:
		return mcbp.StatusNoMemory
	case used > b.quota*clientShare/100:
		return mcbp.StatusTemporaryFailure
	}
	return mcbp.StatusSuccess
}

// takesReplicas says whether consumers may ask for more.
func (b *bucket) takesReplicas() bool { return b.memory.Load() <= b.quota }

// overrun says that more came than the quota and the consumers' buffers allow: each may be overstepped by one document, and
// the smallest items cost four times their bytes on the wire.
func (b *bucket) overrun() bool {
	if b.takesReplicas() {
		return false
	}
	b.mu.Lock()
	consumers := int64(max(b.consumers, 1))
	b.mu.Unlock()
	return b.memory.Load() > b.quota+consumers*(maxBody+4*int64(b.consumerBuffer()))
}
