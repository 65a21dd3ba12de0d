// Package fault makes embedded KV nodes go wrong on purpose, once, in one of the ways in which real engines have been seen
// to get out of step while a replication is set up.
//
// One [Plan] serves all nodes of a cluster, because most faults need both ends of a replication:
//
//	plan := fault.New(fault.Options{Kind: fault.EarlyStreamEnd, VB: fault.AnyVBucket})
//	n0, err := kvnode.Start(kvnode.Options{Name: "n0", Hooks: plan.For("n0")})
//	n1, err := kvnode.Start(kvnode.Options{Name: "n1", Hooks: plan.For("n1")})
//	…
//	plan.Arm()
//	<-plan.Happened()
//	record, _ := plan.Record()
//
// The fault strikes the first stream that fits after Arm, and never again.
package fault
