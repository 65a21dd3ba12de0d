// Package vbmap holds vbucket maps: who has which copy of which vbucket. It validates them, compares them, and
// generates balanced ones with few moves. It is pure: no clock, no I/O, and no randomness but the seed that a caller
// gives.
//
// A [Chain] lists the copies of one vbucket: position 0 is the active, the others are replicas, and the empty name is a
// member that nobody is. A [Map] is one chain per vbucket. A cluster manager generates a target from the map in force,
// and moves the vbuckets that differ:
//
//	target, err := vbmap.Generate(vbmap.Params{
//		VBuckets: 1024,
//		Replicas: 1,
//		Nodes:    []vbmap.Node{{Name: "n0"}, {Name: "n1"}, {Name: "n2"}},
//		Current:  current, // nil for a new bucket
//	})
//	for _, change := range vbmap.Diff(current, target) {
//		// move change.VB from change.Old to change.New
//	}
//
// Replication is a star: every replica streams from the active ([WantedStreams]).
package vbmap
