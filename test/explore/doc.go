// Package explore drives the machines of a replication through every order of events that two KV engines, their sockets
// and the callers can bring about, and says where a promise of design §5 is broken. It contains no code for others.
//
// What is explored are the machines that ship ([dcp.RawConsumer], [dcp.RawReplicator]; the producer's connection has no
// decisions of its own). Around them is a model of what is not ours: the two engines, as free as real ones were seen to be
// (spec/kv-observed.md), four queues of frames between them and the relay, the two connection processes with their
// supervisor, and callers. A referee, who sees the same frames and knows the rules, tells what must come out.
//
// The tests search breadth first, so the story of a violation is a shortest one. Flags make them larger:
//
//	go test ./test/explore -run TestExploration -v -explore.config=all
//	go test ./test/explore -run TestRandomWalks -v -explore.walks=100000
//	go test ./test/explore -run TestMistakes -v -mistakes
package explore
