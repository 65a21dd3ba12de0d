// Package mcbp is the memcached binary protocol as KV nodes and their replications speak it: a read-only view of a
// frame, an encoder, and the numbers (opcodes, statuses, features). It performs no I/O and keeps no state.
//
// A [Frame] is a slice that holds exactly one frame; its accessors read the bytes in place and never copy. Code that moves
// frames, such as a relay, only needs [FrameLen] and the header accessors. Code that builds frames fills a [Packet] and
// calls its Append method, which can write into a reused buffer.
//
// Above the frame there is a type for each message of DCP, with a Parse function and an Append method. The decoders are
// strict: what a type does not keep must have its only value, so that what is accepted encodes to the same bytes again. They
// point into the frame and allocate nothing where the message has only numbers, keys and values. [CheckLayout] holds any
// frame against its layout, those of other commands included.
//
// Two errors tell two kinds of trouble apart. After a [MalformedError] nobody knows where the next frame begins, and the
// connection is lost. After a [LayoutError] the stream of bytes is sound, and the receiver decides.
//
// Stream opaques are compared as the four raw bytes on the wire ([Opaque]); engines write them in the byte order of
// their host, so no integer form of them means anything.
package mcbp
