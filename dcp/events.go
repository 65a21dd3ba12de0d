package dcp

import (
	"errors"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Link names one replication: a pair of connections of one bucket between two nodes.
type Link struct {
	Bucket             string
	Producer, Consumer string
	// Conn is the connection number, 0 for the first.
	Conn int
}

// Name is the DCP connection name of the link.
func (l Link) Name() string { return ConnectionName(l.Producer, l.Consumer, l.Bucket, l.Conn) }

// wrap says on which link something went wrong, unless the error says it already.
func (l Link) wrap(err error) error {
	var said *LinkError
	if err == nil || errors.As(err, &said) {
		return err
	}
	return &LinkError{Producer: l.Producer, Consumer: l.Consumer, Conn: l.Conn, Err: err}
}

// Event is news of a replication, published on [Options].Events. Incarnations of a link's consumer connection count
// from 1; news of an older incarnation than the one a subscriber knows is out of date.
type Event interface{ replicationEvent() }

type (
	// ConsumerStarted is published for each incarnation of a consumer connection, before it connects.
	ConsumerStarted struct {
		Link
		Incarnation uint64
		At          time.Time
	}
	// LinkUp is published when both sockets of a link are joined and streams can be set up.
	LinkUp struct {
		Link
		Incarnation uint64
		At          time.Time
	}
	// LinkCrashed is published when a link loses its connections for any reason but a planned stop or a fence. All its
	// streams are gone.
	LinkCrashed struct {
		Link
		Incarnation uint64
		Reason      error
		// VBs are the vbuckets that the reason names; it may be empty.
		VBs []uint16
		At  time.Time
	}
	// LinkFenced is published when a link's connections were closed so that the consumer's can be opened again. All its
	// streams are gone; those that nobody owns come back by themselves.
	LinkFenced struct {
		Link
		Incarnation uint64
		At          time.Time
	}
	// LinkGaveUp is published when a link's supervisor has restarted its connections too often, or when the link's name is
	// in use elsewhere ([NameInUseError]). The manager tries again later.
	LinkGaveUp struct {
		Link
		Reason error
		At     time.Time
	}
	// StreamEnded is published when a producer ended a live stream that nobody here had closed.
	StreamEnded struct {
		Link
		VB     uint16
		Reason mcbp.EndReason
		At     time.Time
	}
	// StreamLost is published when a vbucket that somebody is at work on loses its stream without his doing. It is left to
	// him to open it again.
	StreamLost struct {
		Link
		VB    uint16
		Owner string
		Epoch uint64
		At    time.Time
	}
)

func (ConsumerStarted) replicationEvent() {}
func (LinkUp) replicationEvent()          {}
func (LinkCrashed) replicationEvent()     {}
func (LinkFenced) replicationEvent()      {}
func (LinkGaveUp) replicationEvent()      {}
func (StreamEnded) replicationEvent()     {}
func (StreamLost) replicationEvent()      {}
