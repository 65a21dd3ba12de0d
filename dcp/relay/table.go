package relay

import (
	"context"
	"fmt"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Side is one of the two sockets of a relay: the one a frame was read from, or the one an injection is written to.
type Side uint8

// The sides.
const (
	// Consumer is the socket opened as DCP consumer, to the KV that receives the documents.
	Consumer Side = iota
	// Producer is the socket opened as DCP producer, to the KV that sends them.
	Producer
)

// Other is the opposite side.
func (s Side) Other() Side { return 1 - s }

func (s Side) String() string {
	switch s {
	case Consumer:
		return "consumer"
	case Producer:
		return "producer"
	}
	return fmt.Sprintf("side %d", uint8(s))
}

// Verdict is what a [Decider] makes of one asked frame.
type Verdict uint8

// The verdicts. The zero value passes the frame on.
const (
	Pass Verdict = iota
	Drop
)

// Action is what a relay does with the frames of one magic and opcode.
type Action uint8

// The actions. The zero value passes frames on without looking at them.
const (
	ActionPass Action = iota
	ActionDrop
	ActionAsk
)

// MaxAskBody is the longest body, in bytes, of a frame that a [Decider] is asked about. All such frames are short by the
// protocol (a failover log of 25 entries is the longest); a longer one is a protocol error.
const MaxAskBody = 64 << 10

// Decider judges the frames that a [Table] marks with [ActionAsk].
type Decider interface {
	// Decide judges a batch of consecutive asked frames that were read from one side. It sets verdicts[i] for frames[i];
	// all are Pass when it is called. Everything read before the batch has been written to the other side.
	//
	// The frames are valid only during the call, unless it returns an error: then they stay as they are, and so do the
	// verdicts, because whoever was asked on behalf of the call may still be at it. Calls for the two sides come from two
	// goroutines, possibly at once; those for one side come in the order of the bytes. An error stops the relay with that
	// error, and none of the batch is passed on. Decide must return when ctx ends, which it does as soon as the relay has
	// failed.
	Decide(ctx context.Context, side Side, frames []mcbp.Frame, verdicts []Verdict) error
}

// Table holds an [Action] for every magic and opcode. The zero value passes everything. A magic that is not
// [mcbp.Magic.Known] is a protocol error whatever the table says.
type Table struct {
	rows [6][256]Action
}

// row is the row of a known magic: 0x80 to 0x83, then 0x08 and 0x18.
func row(m mcbp.Magic) int {
	if m&0x80 != 0 {
		return int(m & 3)
	}
	return 4 + int(m>>4&1)
}

// Set changes the action for one magic and opcode. It panics if the magic is not one of the protocol's.
func (t *Table) Set(m mcbp.Magic, op mcbp.Opcode, a Action) {
	if !m.Known() {
		panic(fmt.Sprintf("relay: unknown magic %#02x", byte(m)))
	}
	t.rows[row(m)][op] = a
}

// Action looks up the action for one magic and opcode. It panics if the magic is not one of the protocol's.
func (t *Table) Action(m mcbp.Magic, op mcbp.Opcode) Action {
	if !m.Known() {
		panic(fmt.Sprintf("relay: unknown magic %#02x", byte(m)))
	}
	return t.rows[row(m)][op]
}

// actionCount is set in a direction's own copy of its table for the frames that [Relay.Controls] counts, so that a frame
// that only has to pass still costs one look-up.
const actionCount Action = 1 << 7

func (t *Table) counting() *Table {
	c := *t
	for i := range c.rows {
		c.rows[i][mcbp.OpDCPControl] |= actionCount
	}
	return &c
}

// DefaultTable is what a replication needs to have decided among the frames read from side (dcp-wire §13): the answers to
// ADD_STREAM and CLOSE_STREAM, which are ours alone; STREAM_REQ and its answer, which name a stream's opaque and its
// rollback; STREAM_END; and SET_VBUCKET_STATE with its answer, which are the steps of a takeover. All else passes, frames
// with framing extras and unknown opcodes included.
func DefaultTable(side Side) *Table {
	t := new(Table)
	t.Set(mcbp.MagicResponse, mcbp.OpDCPAddStream, ActionAsk)
	t.Set(mcbp.MagicResponse, mcbp.OpDCPCloseStream, ActionAsk)
	switch side {
	case Consumer:
		t.Set(mcbp.MagicRequest, mcbp.OpDCPStreamReq, ActionAsk)
		t.Set(mcbp.MagicResponse, mcbp.OpDCPSetVBucketState, ActionAsk)
	case Producer:
		t.Set(mcbp.MagicResponse, mcbp.OpDCPStreamReq, ActionAsk)
		t.Set(mcbp.MagicRequest, mcbp.OpDCPStreamEnd, ActionAsk)
		t.Set(mcbp.MagicRequest, mcbp.OpDCPSetVBucketState, ActionAsk)
	}
	return t
}
