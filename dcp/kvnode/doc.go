// Package kvnode is an embedded Couchbase-like KV node: a TCP server that speaks the memcached binary protocol and both
// ends of DCP, for managers that want a node without an installation, and for tests of code that talks to nodes.
//
// A node holds buckets; a bucket holds vbuckets; a vbucket holds documents, their seqnos and its failover log, all in
// memory. Everything else is protocol: clients read and write documents, a cluster manager sets vbucket states, and
// replications stream a vbucket from one node's producer end to another node's consumer end.
//
// What the node does byte for byte follows recorded conversations with real engines, and where those are silent the
// protocol's description. It deliberately behaves like them where they are awkward: a consumer is silent until its first
// ADD_STREAM and then negotiates one CONTROL at a time, stream opaques count in little-endian order, the STREAM_END of a
// closed stream follows the answer to its CLOSE_STREAM, a stream closed while it is being added is never answered, and
// SEQNO_PERSISTENCE holds up the connection that asked. docs/kvnode.md has what engines were seen to do and the node does
// as well, row by row. Engines differ: a node plays the newest, or the one that [Options.Version] names.
//
// # What it adds
//
// STAT vbucket-digest, with or without a vbucket's number, gives vb_N:high_seqno, vb_N:uuid and vb_N:digest, all taken at
// one moment. Two copies with the same high seqno and digest hold the same documents: keys, values, CAS, seqnos, revisions
// and flags. Real engines do not have it.
//
// # What it does not do
//
// There is no disk: a seqno is persisted as soon as it exists. Durable writes are refused. Only the default collection
// exists. Tombstones are kept for ever, so the purge seqno is always 0.
//
// # Concurrency
//
// Each connection has one goroutine that reads, and a DCP connection a second that writes. Documents are guarded by their
// vbucket's lock, so different vbuckets never wait for each other. Locks are taken in the order connection end, vbucket,
// ready list or output buffer, and no lock is held while a socket is written.
package kvnode
