package rebalance

import (
	"time"

	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// LoggedEvent is one entry of a cluster's event log. Its JSON is an object that fits on a line; fields that do not apply are
// left out. docs/operations.md lists the types and their fields.
type LoggedEvent struct {
	// Seq counts the events of this cluster from 1, without a gap. A gap in what was read are events that have been
	// overtaken.
	Seq uint64
	// Type is what happened, as the reference's master events call it where they have a name for it (rebalance.md §11.2).
	Type string
	At   time.Time
	// Run is the rebalance that it belongs to.
	Run    string
	Bucket string
	// HasVB says that the event is about one vbucket.
	HasVB bool
	VB    uint16
	// Node is where it happened. For a replication Node is the consumer's and Producer the other.
	Node, Producer string
	// Nodes are all that take part in it.
	Nodes []string
	// Keep, Eject, Failed and Delta are the nodes of a rebalance as in [ReportNodes].
	Keep, Eject, Failed, Delta []string
	// Before and After are chains.
	Before, After vbmap.Chain
	Step          Step
	// State is that of a vbucket.
	State string
	// Connection is the name of a DCP connection.
	Connection string
	// Reason says why in a word or a sentence; Cause is an error, one text per layer, outermost first.
	Reason string
	Cause  []string
	// Count is how many there were of what the type is about.
	Count int
}
