// Package bench measures processes of packages actors and supervisor, and the relay of dcp/relay, against what they are
// built on and against what one would write without them. It contains no code for others.
//
// Three worlds do the same work: ours (actors and supervisor, with their defaults), raw Proto.Actor (default props, its own
// futures and its own one_for_one supervision, a silent logger), and plain goroutines with channels. The last is the floor:
// it has no exit reasons, names, links or supervision worth the name, and shows what any of that costs at most.
//
// # How to run
//
//	go test ./test/bench -run '^$' -bench Side -benchtime 9x
//
// One iteration is one round, of quick work a few: each world once, in an order that changes from round to round, each in a
// fresh system and after a garbage collection. -benchtime says how many iterations; fewer than nine say little. All of it
// takes two or three minutes; -bench Side/call$ runs the rows of one workload. The table comes at the end.
//
// Without -bench, go test does every workload once, small, and checks that each world really did the work: that it was
// counted, answered, restarted and stopped as often as the others'.
//
// A profile wants one world by itself:
//
//	go test ./test/bench -run '^$' -bench Alone/ours/crash -benchtime 100x -cpuprofile cpu.prof
//
// # How to read
//
// A figure of ours, raw or plain is the median of the rounds; ours/raw and ours/plain are ratios of these medians. By
// rounds is the median of the ratios that the single rounds gave, with the lowest and the highest of them in brackets: if
// it is far from ours/raw, or the brackets are wide, something else used the machine. Whether a ratio should be high or low
// depends on the unit: a rate should be high, a duration or a size low; the target says it once more.
//
// Ratios are what counts. A figure in nanoseconds belongs to one machine and one hour; two worlds that were measured in
// turns on the same machine in the same minute had the same troubles.
//
// # What is measured
//
//   - cast: messages to one process that counts them, until it has counted all: from one goroutine, from four, and from
//     another process. The channel of the plain world holds 1024; the mailboxes have no bound.
//   - call: a call and its answer, one after the other, from a goroutine without a bound and with a bound of 5 s of its own
//     for each call (a context with timeout; Proto.Actor's timeout of the future), and from another process.
//   - spawn: a process is started and stopped, and is known to be dead before the next is started. The p50 suffers less
//     from a busy machine than the rate. "unseen" is the same without waiting: start, tell to end, and wait for all ends at
//     the end.
//   - crash: a child under one_for_one is made to panic; it is over when the next incarnation runs its first callback. No
//     round comes near the intensity. Ours counts the restarts of the last 5 s. Proto.Actor is measured twice: counting all
//     restarts, which is the fastest that it can do, and those of the last 5 s, for which it looks at all of them each time.
//   - idle: the memory of processes that have handled their first message and rest: the growth of heap and stacks, after
//     garbage collections, over the number of processes.
//   - children: a one_for_one supervisor with 1 000 and with 100 000 children, per child: from nothing until the first
//     callback of all of them is over, and from the order to stop until all are dead. "growth" is the larger's over the
//     smaller's: 1 means linear.
//
// A rate is the work divided by the time for all of it. A p50 is the median of single operations. For those the clock is
// read once per operation: an operation lasts from one reading to the next (crash: from the reading before the crash is
// sent to the one in the first callback). So each sample holds the cost of one reading, a good part of a fast operation,
// which would pull all ratios towards 1; it is measured before each round, by reading the clock in a loop, and taken off.
//
// # The relay
//
//	go test ./test/bench -run '^$' -bench 'Relay$' -benchtime 9x -timeout 0
//
// Documents go from a producer to a consumer, through a mover in between: our relay; io.Copy, which between two TCP sockets
// of Linux is splice; io.Copy that must not, a plain loop with a buffer of 64 KiB; the same loop with a look at every header;
// and haproxy, with one thread and free to splice, if it is installed. Producer, mover and consumer are processes of their
// own, the test binary started again, and all is over loopback. The CPU time is the mover's, from getrusage (for haproxy from
// the scheduler), over the bytes that it moved. Allocations are those of the whole run, starting and ending included, over
// the frames. An iteration is one round, each mover once. Six sizes take five to ten minutes. Copying suffers more than
// splicing when others use the processors' caches: on a busy machine the ratios of small documents are higher.
//
// With SHEARPIN_BENCH_PROFILE=cpu.prof a mover in the test binary leaves the CPU profile of its moving there; -bench
// 'Relay/^64$' chooses a size.
//
// # Nodes
//
//	go test ./test/bench -run '^$' -bench 'Node$' -benchtime 9x
//
// The documents of an embedded node that it has already leave it by DCP, over 16 vbuckets: to a client that throws them away,
// which is what the node does alone; to a second embedded node by a link of package dcp; and to a second node by io.Copy, which
// is what a link cannot be faster than. All are in one process, and so share its processors. A figure is documents a second
// from the first request until the last document was read, or the second node has it.
//
// # Links
//
//	go test ./test/bench -run '^$' -bench Links -benchtime 1x -timeout 0
//
// Whole links of package dcp between scripted nodes. These are one process of their own, and since they stand for other
// machines the system is told (nice) that it can wait.
//
//   - early end: a set-up of 16 streams, of which the producer ends one before its ADD_STREAM is answered. The time is that
//     from the return of the relay's read that brought the STREAM_END to the return of the caller's Apply with the error.
//     A thousand times, each with a fresh manager: with nothing else to do; while two other relays in the same process move
//     documents; while the link's other direction does; and with both. That twice: at a rate of some hundred MiB a second,
//     which leaves two processors time, and at full rate, where everybody writes whenever he can and the processors are
//     never idle. The rates that were reached are in the table; the opposite direction's counts the time between two links
//     as well. A thousand times in seven conditions take two to three minutes.
//   - set-up: 1024 streams, set up by one call and closed by another, twenty times, with all messages of real nodes.
//   - idle: the growth of heap and stacks by links that have one stream each, over their number.
package bench
