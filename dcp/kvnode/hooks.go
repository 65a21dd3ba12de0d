package kvnode

import "github.com/shearpin/shearpin/dcp/mcbp"

// Interceptor bends what a node does with the control frames of its DCP connections: OPEN, ADD_STREAM, CLOSE_STREAM,
// STREAM_REQ, STREAM_END and SET_VBUCKET_STATE, requests and answers alike. It never sees documents, and a node without
// one does not pay for it.
//
// Both methods are called from the goroutines of several connections at once, in frame order per connection and
// direction, with the locks of that connection's end held: they must not block and must not call into a node. The frame
// may be kept only if it is copied.
type Interceptor interface {
	// Received is asked before the node acts on a frame. An ADD_STREAM is shown only if the consumer would go on to
	// request the stream. vb is the vbucket that the frame is about, also where the frame itself does not say.
	Received(c Connection, vb uint16, f mcbp.Frame) Action

	// Sending is asked before a frame goes on the wire.
	Sending(c Connection, vb uint16, f mcbp.Frame) Action
}

// Action is an [Interceptor]'s decision. Its zero value changes nothing.
type Action struct {
	// Drop keeps the node from acting on the frame, or from sending it.
	Drop bool
	// Send holds whole frames that go on the wire of this connection, ahead of whatever the node does.
	Send []mcbp.Frame
	// Close closes the connection's socket; the node does nothing else with the frame.
	Close bool
	// End makes a producer end the frame's stream, for Reason, right after an accepted STREAM_REQ was answered. The
	// vbucket's state stays as it is.
	End    bool
	Reason mcbp.EndReason
}

// Role is an end of a replication.
type Role uint8

// The two ends.
const (
	RoleConsumer Role = iota
	RoleProducer
)

// String is the word that the statistics use.
func (r Role) String() string {
	if r == RoleProducer {
		return "producer"
	}
	return "consumer"
}

// Connection names the DCP connection that an [Interceptor] is asked about.
type Connection struct {
	// Node is the name of the node that asks.
	Node   string
	Bucket string
	// Name is the connection's name as given in its OPEN; both ends of a replication have the same.
	Name string
	Role Role
}
