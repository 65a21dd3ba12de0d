// Package dcp runs supervised vbucket replications between KV nodes over DCP.
//
// A replication from a producer node to a consumer node is a pair of sockets in the cluster manager, one to each node's
// KV engine. A relay moves every frame between the two; a handful of frames are decided by a pure machine that knows
// which streams are being added, live, closing or taken over. When the two engines get out of step, the process that
// holds the machine crashes on purpose: its sockets close, its replicator tells every caller why, and its supervisor
// builds the connections afresh.
//
// A [Manager] looks after all replications of one bucket into one node. Start one with [Start], or place one under a
// supervisor with [Child]; raise its epoch with Prepare, then say which vbucket is to be streamed from which node:
//
//	m, err := dcp.Start(ctx, dcp.Options{System: system, Bucket: "orders", Consumer: "n1", Endpoints: directory})
//	err = m.Prepare(ctx, 1)
//	err = m.Apply(ctx, 1, "", map[uint16]string{17: "n0"})
//
// Apply returns when the stream is live, or with the reason why it is not; it never waits for ever. What happens to a
// link later is published on [Options].Events.
//
// Where to read what: consumer_machine.go and its sister files decide the protocol, consumer_conn.go acts on it,
// replicator_machine.go and replicator.go watch the two connections, link.go is their supervision, manager_machine.go
// and its sisters keep the desired state.
package dcp
