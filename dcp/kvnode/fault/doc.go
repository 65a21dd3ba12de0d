// Package fault makes embedded KV nodes go wrong on purpose.
//
// # Scripts
//
// A [Script] is what tests of code that talks to nodes want: rules that say what is done to which frames of which
// connections, and how often. It is given to every node, and changed while they run:
//
//	script := fault.NewScript(1)
//	n0, err := kvnode.Start(kvnode.Options{Name: "n0", Faults: script})
//	n1, err := kvnode.Start(kvnode.Options{Name: "n1", Faults: script})
//	…
//	ends, err := script.Add(fault.Rule{
//		Match: fault.Match{Node: "n0", Opcodes: []mcbp.Opcode{mcbp.OpDCPMutation}, VBuckets: []uint16{7}},
//		After: 100, Times: 1,
//		Do:    fault.EndStream{Reason: mcbp.EndStateChanged},
//	})
//	…
//	err = ends.Wait(ctx, 1) // it has happened
//
// Nothing has to sleep: [Fault.Wait] returns when the fault has happened, [Script.Strikes] tells what happened, where, and in
// which order, and [Fault.Remove] lets go of whatever a rule holds up. The same seed makes the same draws.
//
// What can be done:
//
//	to a frame          Delay, Drop, Duplicate, Hold until another frame has passed, Opaque, StaleOpaque
//	to a request        Answer with a status, NoAnswer
//	to a frame's bytes  Trickle, Garbage, Truncate, HugeLength
//	to a connection     Close with FIN, RST or one half, StopReading, Cut
//	to a replication    EndStream before or behind any frame, RefuseRollback
//	to a whole node     Pause, SlowDisk, lies about Seqnos
//
// Frames are seen as they are on the wire, of ordinary connections and of DCP alike. A rule costs only the connections that
// it is for, and there one look per frame; a rule that has happened as often as it may costs nothing.
//
// # Plans
//
// A [Plan] is one of eight ways in which real engines have been seen to get out of step while a replication is set up, most
// of which need both ends:
//
//	plan := fault.New(fault.Options{Kind: fault.EarlyStreamEnd, VB: fault.AnyVBucket})
//	n0, err := kvnode.Start(kvnode.Options{Name: "n0", Hooks: plan.For("n0")})
//	n1, err := kvnode.Start(kvnode.Options{Name: "n1", Hooks: plan.For("n1")})
//	…
//	plan.Arm()
//	<-plan.Happened()
//	record, _ := plan.Record()
//
// It strikes the first stream that fits after Arm, and never again. A node can have a plan and a script.
package fault
