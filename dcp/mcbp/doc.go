// Package mcbp is the memcached binary protocol as KV nodes and their replications speak it: a read-only view of a
// frame, an encoder, and the numbers (opcodes, statuses, features). It performs no I/O and keeps no state.
//
// A [Frame] is a slice that holds exactly one frame; its accessors read the bytes in place and never copy. Code that moves
// frames, such as a relay, only needs [FrameLen] and the header accessors. Code that builds frames fills a [Packet] and
// calls its Append method, which can write into a reused buffer.
//
// Stream opaques are compared as the four raw bytes on the wire ([Opaque]); engines write them in the byte order of
// their host, so no integer form of them means anything.
package mcbp
