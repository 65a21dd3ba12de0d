package fault

import (
	"fmt"
	"strings"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Strike is one fault that happened.
type Strike struct {
	// Seq counts the faults of a script from 1.
	Seq uint64
	// At is just before the fault took effect. It has a monotonic reading.
	At time.Time
	// Rule and Name are the number and the name of the rule.
	Rule   uint64
	Name   string
	Action Action

	// Where it happened.
	Node, Bucket, Connection, Peer string
	Role                           Role

	// What it happened to: a frame, or, if Direction is Either, a connection, or the disk if Disk says how it was used.
	Direction Direction
	Opcode    mcbp.Opcode
	Answer    bool
	// VBucket is -1 if the frame is about none.
	VBucket int
	Opaque  mcbp.Opaque
	Disk    string
}

// String is the record on one line.
func (r Strike) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %v: node %s", r.Seq, r.Action, r.Node)
	if r.Disk != "" {
		fmt.Fprintf(&b, " disk %s", r.Disk)
		return b.String()
	}
	fmt.Fprintf(&b, " %v %s", r.Role, r.Peer)
	if r.Connection != "" {
		fmt.Fprintf(&b, " %q", r.Connection)
	}
	if r.Direction != Either {
		kind := "request"
		if r.Answer {
			kind = "answer"
		}
		fmt.Fprintf(&b, " %v %v %s opaque %v", r.Direction, r.Opcode, kind, r.Opaque)
	}
	if r.VBucket >= 0 {
		fmt.Fprintf(&b, " vb %d", r.VBucket)
	}
	return b.String()
}
