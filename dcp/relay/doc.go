// Package relay is the data path of one replication: it moves frames between the socket that is open to the consumer's KV
// and the one open to the producer's KV, and asks about the few frames that matter.
//
// A replication is a pair of byte streams, one per direction. Each direction is one goroutine that reads into a buffer,
// walks the frame headers, and passes whole runs of frames on with one write; no frame is decoded, copied or allocated on
// the way. A [Table], indexed by magic and opcode, says which frames pass, which are dropped, and which a [Decider] is
// asked about. Everything that was read before an asked frame has been written when the decider sees it, and what it
// decides about is written only after it has returned: the bookkeeping of a frame happens before anyone can observe the
// frame's effect.
//
// What holds at all times:
//
//   - The order of frames in a direction is the order in which they were read. [Relay.Inject] adds frames at frame
//     boundaries only, in the order of the calls, also while the direction is idle or busy.
//   - Back-pressure is TCP's. Who cannot write does not read; a direction holds one buffer, small while idle and at most
//     [MaxBuffer] long, and a frame that is longer streams through it. Between two TCP sockets of Linux long frames do not
//     come to the buffer at all: their headers are looked at where they are, and the kernel moves them.
//   - The relay owns both sockets. They are closed at the first failure of either direction and when the context ends,
//     whatever the peers are doing, and [Relay.Run] returns that first failure when all its goroutines have ended.
package relay
