package rebalance

import (
	"encoding/json"
	"math"
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

// loggedJSON is a LoggedEvent as it is written.
type loggedJSON struct {
	Seq        uint64      `json:"seq"`
	Type       string      `json:"type"`
	Time       float64     `json:"ts"`
	Run        string      `json:"rebalanceId,omitempty"`
	Bucket     string      `json:"bucket,omitempty"`
	VB         *uint16     `json:"vbucket,omitempty"`
	Node       string      `json:"node,omitempty"`
	Producer   string      `json:"producerNode,omitempty"`
	Nodes      []string    `json:"nodes,omitempty"`
	Keep       []string    `json:"keepNodes,omitempty"`
	Eject      []string    `json:"ejectNodes,omitempty"`
	Failed     []string    `json:"failedNodes,omitempty"`
	Delta      []string    `json:"deltaNodes,omitempty"`
	Before     vbmap.Chain `json:"chainBefore,omitempty"`
	After      vbmap.Chain `json:"chainAfter,omitempty"`
	Step       Step        `json:"step,omitempty"`
	State      string      `json:"state,omitempty"`
	Connection string      `json:"connectionName,omitempty"`
	Reason     string      `json:"reason,omitempty"`
	Cause      []string    `json:"cause,omitempty"`
	Count      int         `json:"count,omitempty"`
}

// MarshalJSON implements [json.Marshaler]. The time is in seconds since 1970, to the microsecond.
func (e LoggedEvent) MarshalJSON() ([]byte, error) {
	out := loggedJSON{
		e.Seq, e.Type, float64(e.At.UnixMicro()) / 1e6, e.Run, e.Bucket, nil, e.Node, e.Producer, e.Nodes, e.Keep, e.Eject, e.Failed,
		e.Delta, e.Before, e.After, e.Step, e.State, e.Connection, e.Reason, e.Cause, e.Count,
	}
	if e.HasVB {
		out.VB = &e.VB
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements [json.Unmarshaler].
func (e *LoggedEvent) UnmarshalJSON(text []byte) error {
	var in loggedJSON
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	*e = LoggedEvent{
		in.Seq, in.Type, time.UnixMicro(int64(math.Round(in.Time * 1e6))), in.Run, in.Bucket, in.VB != nil, 0, in.Node, in.Producer, in.Nodes,
		in.Keep, in.Eject, in.Failed, in.Delta, in.Before, in.After, in.Step, in.State, in.Connection, in.Reason, in.Cause, in.Count,
	}
	if in.VB != nil {
		e.VB = *in.VB
	}
	return nil
}
