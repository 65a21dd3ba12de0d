// Package explore drives the machines of a replication through every order of events that two KV engines, their sockets
// and the callers can bring about, and says where a promise of design §5 is broken. It contains no code for others.
//
// What is explored are the machines that ship ([dcp.RawConsumer], [dcp.RawReplicator]; the producer's connection has no
// decisions of its own). Around them is a model of what is not ours: the two engines, as free as real ones were seen to be
// (spec/kv-observed.md), four queues of frames between them and the relay, the two connection processes with their
// supervisor, and callers. A referee, who sees the same frames and knows the rules, tells what must come out.
//
// A search goes breadth first through states that are told apart by a fingerprint of everything that can bear on what
// happens next, so its end is the end of all that can happen, and the story of a violation is a shortest one. What bounds it:
// a stream that was closed has at most one end under way, a STREAM_REQ is answered with a given number of rollbacks, each
// caller has one call at a time, and time moves in steps of half a deadline. Some searches also limit the faults: how often
// an engine or a socket does what it need not do, such as to refuse, to end a stream, to keep silent or to close. How often
// callers ask is never limited.
//
// Not explored: a connection whose opaques are used up, and more than 25 rollbacks of one add; both have tests of their own
// in package dcp. Nor what the callers of a link hear that its supervisor has given up: its replicator is dead then, and
// actors.Call answers them. Engines that stop reading are the relay's.
//
// go test makes the small searches and some random walks, and shows that the mistakes about ends that matter most are found
// (misread_test.go). Flags make them larger:
//
//	go test ./test/explore -run TestExploration -v -explore.config=two-faults
//	go test ./test/explore -run TestExploration -v -explore.config=large -timeout 0
//	go test ./test/explore -run TestRandomWalks -v -explore.walks=100000
//	go test ./test/explore -run TestMistakes -v -mistakes
//
// docs/dcp.md has the figures.
package explore
