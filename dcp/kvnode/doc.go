// Package kvnode is an embedded Couchbase-like KV node: a TCP server that speaks the memcached binary protocol and both
// ends of DCP, for managers that want a node without an installation, and for tests of code that talks to nodes.
//
// A node holds buckets; a bucket holds vbuckets; a vbucket holds documents, their seqnos and its failover log, all in
// memory, and behind it on disk if the node has a directory. Everything else is protocol: clients read and write documents, a cluster manager sets vbucket states, and
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
// # Disk and restart
//
// With [Options.Dir] every bucket has a file. What changes goes there behind the writers' backs, vbucket by vbucket, each
// as a whole: documents, state, topology, failover log, seqnos and snapshot as they were at one moment. The disk lags as
// fast disks do, or as slow ones with [Node.SetDiskRate], and the seqnos that count as persisted are those that are there.
//
// [Node.Kill] takes a node down as the end of its process would, [Node.Stop] in good order; [Node.Restart] brings it back on
// the same port. A copy comes back with what was on disk, so after a kill it is one that the node had a moment before; if it
// is active it then begins a new entry in its failover log, and replicas that know more roll back. Buckets warm up first.
//
// # Durable writes
//
// SET, ADD, REPLACE and DELETE may say how durable they are to be, if HELLO negotiated alternative requests and synchronous
// replication. The active prepares the write, replicas whose connections have a name acknowledge it, and a majority of each chain of
// the topology decides. Its client waits, and so do the requests behind it; when the time is over, 30 s if the client did not say, the
// write is aborted and the answer ambiguous. Others read what was there before.
//
// A copy that becomes active, or comes back from the disk as one, may find writes that are prepared. It cannot know if somebody
// was told that they were made, so it never aborts them: they are committed as soon as the topology allows, and until then readers
// of their keys are told that a write is being committed again.
//
// # What it does not do
//
// All documents are in memory; the disk is read in a restart only. Without a directory, a seqno is persisted as soon as it
// exists, and what goes down is gone. Only the default collection exists. Tombstones are kept for ever, so the
// purge seqno is always 0.
//
// # As a test double
//
// Package fault breaks nodes on command: frames that are late, lost, doubled, held back, refused or spoilt, connections that
// close or stall, streams that end at any step, a node that stops; its page has examples, and [Node.Pause] stops a node by
// hand. Whatever happened is recorded, so that a test waits for it instead of sleeping.
//
// # Concurrency
//
// Each connection has one goroutine that reads, and a DCP connection a second that writes. Documents are guarded by their
// vbucket's lock, so different vbuckets never wait for each other. Locks are taken in the order connection end, vbucket,
// ready list or output buffer, and no lock is held while a socket is written.
package kvnode
