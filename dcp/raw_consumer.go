package dcp

import (
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// RawConsumer is the connection machine without its process: every decision of one replication connection, both sockets
// included, and no socket, goroutine or clock. An event goes in with the time at which it happened, what is to be done
// comes out, in order. It is the machine that ships, not a copy of it.
//
// RawConsumer and [RawReplicator] are there for exhaustive tests and for those who bring their own I/O. They are not part
// of the stable API. Neither may be used from two goroutines at once.
type RawConsumer struct{ machine *consumerMachine }

type (
	// RawChange is one operation of a call. Those of one call run in their order if they name the same vbucket.
	RawChange = streamChange
	// RawKind is what an operation does.
	RawKind = opKind
	// RawCall names a call; its owner uses each value once.
	RawCall = callID
)

// The operations.
const (
	RawAdd      = opAdd
	RawClose    = opClose
	RawTakeover = opTakeover
)

// RawEffect is something that the owner of a raw machine has to do.
type RawEffect interface{ rawEffect() }

// Effects of a [RawConsumer].
type (
	// RawInject writes a frame of ours to one of the sockets, between two others.
	RawInject struct {
		To    relay.Side
		Frame mcbp.Frame
	}
	// RawAnswer answers a call; what is not in Errs is as asked for.
	RawAnswer struct {
		Call RawCall
		Errs map[uint16]error
	}
	// RawStreamEnded says that a live stream ended though no call closed it.
	RawStreamEnded struct {
		VB     uint16
		Opaque mcbp.Opaque
		Reason mcbp.EndReason
	}
	// RawWatch sets the vbuckets whose stream frames count as progress.
	RawWatch struct{ VBs []uint16 }
	// RawCrash ends the connection. Both sockets must be closed, every open call fails with the reason, and the machine
	// takes no further event.
	RawCrash struct{ Reason error }
	// RawShutDone answers a planned stop.
	RawShutDone struct{ Call RawCall }
)

func (RawInject) rawEffect()      {}
func (RawAnswer) rawEffect()      {}
func (RawStreamEnded) rawEffect() {}
func (RawWatch) rawEffect()       {}
func (RawCrash) rawEffect()       {}
func (RawShutDone) rawEffect()    {}

// RawTraffic is what a tick asks about the sockets.
type RawTraffic struct {
	// Progress grows with the CONTROL frames of the connection and with the vbucket's stream frames.
	Progress func(vb uint16) uint64
	// Unwritten reports whether injected frames wait for the socket.
	Unwritten func(side relay.Side) bool
}

func (t RawTraffic) progress(vb uint16) uint64      { return t.Progress(vb) }
func (t RawTraffic) unwritten(side relay.Side) bool { return t.Unwritten(side) }

// NewRawConsumer makes the machine of a connection whose sockets are not yet joined.
func NewRawConsumer(limits Limits) *RawConsumer { return &RawConsumer{newConsumerMachine(limits)} }

// Opened says that both sockets are joined.
func (c *RawConsumer) Opened(now time.Time) []RawEffect {
	c.machine.opened(now)
	return c.take()
}

// Request takes a call. It is answered by one [RawAnswer], or by the crash.
func (c *RawConsumer) Request(call RawCall, changes []RawChange, now time.Time) []RawEffect {
	c.machine.request(call, changes, now)
	return c.take()
}

// Shut begins the planned stop. It is answered by one [RawShutDone], or by the crash.
func (c *RawConsumer) Shut(call RawCall, now time.Time) []RawEffect {
	c.machine.shut(call, now)
	return c.take()
}

// Frame decides one of the frames that [relay.DefaultTable] asks about, read from a socket. Frames must come in the order
// in which they were read on each socket.
func (c *RawConsumer) Frame(from relay.Side, f mcbp.Frame, now time.Time) (relay.Verdict, []RawEffect) {
	verdict := c.machine.frame(from, f, now)
	return verdict, c.take()
}

// Tick looks at the deadlines. It must be called now and then while [RawConsumer.Awaits].
func (c *RawConsumer) Tick(now time.Time, seen RawTraffic) []RawEffect {
	c.machine.tick(now, seen)
	return c.take()
}

// Awaits reports whether something waits for a peer.
func (c *RawConsumer) Awaits() bool { return c.machine.awaits() }

// Streams lists the vbuckets with a live stream, sorted.
func (c *RawConsumer) Streams() []uint16 { return c.machine.streams() }

func (c *RawConsumer) take() []RawEffect {
	effects := c.machine.take()
	if len(effects) == 0 {
		return nil
	}
	raw := make([]RawEffect, len(effects))
	for i, e := range effects {
		switch e := e.(type) {
		case injectFrame:
			raw[i] = RawInject{To: e.to, Frame: e.frame}
		case answerCall:
			raw[i] = RawAnswer{Call: e.call, Errs: e.errs}
		case publishEnd:
			raw[i] = RawStreamEnded{VB: e.vb, Opaque: e.opaque, Reason: e.reason}
		case watchStreams:
			raw[i] = RawWatch{VBs: e.vbs}
		case crashConn:
			raw[i] = RawCrash{Reason: e.reason}
		case shutDone:
			raw[i] = RawShutDone{Call: e.call}
		}
	}
	return raw
}
