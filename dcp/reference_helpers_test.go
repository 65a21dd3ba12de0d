package dcp

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// The tests named TestReference_… hold what ns_server's DCP proxy was recorded doing, one row of the recording each, and
// those named TestState_… a row of its state tables. Where Shearpin does something else on purpose, the test's comment
// says "Differs", and docs/dcp.md says why. testdata/reference_rows.txt lists the rows.

// asked lists the vbuckets of the frames of an opcode that we sent to a side, in order.
func (s *script) asked(to relay.Side, op mcbp.Opcode) []uint16 {
	var vbs []uint16
	for _, f := range s.sent[to] {
		if f.Opcode() == op {
			vbs = append(vbs, f.VBucket())
		}
	}
	return vbs
}

// forget empties what was sent.
func (s *script) forget() { clear(s.sent) }

// stray is an answer with an opaque of the test's choice.
func (s *script) stray(from relay.Side, op mcbp.Opcode, opaque mcbp.Opaque, status mcbp.Status) relay.Verdict {
	return s.frame(from, answerOf(op, opaque, status))
}

// closed answers the close of a vbucket on both sides.
func (s *script) closed(vb uint16, consumer, producer mcbp.Status) {
	s.closeAnswer(relay.Consumer, vb, consumer)
	s.closeAnswer(relay.Producer, vb, producer)
}

func (s *script) stop(id callID) {
	s.m.shut(id, s.now)
	s.perform()
}

// refused requires that a call failed for a vbucket with that status, and that a refused close says whether there is a stream.
func (s *script) refused(id callID, vb uint16, op mcbp.Opcode, role string, status mcbp.Status) {
	s.t.Helper()
	var refused *StreamStatusError
	s.failed(id, vb, &refused)
	gone := op == mcbp.OpDCPCloseStream && !slices.Contains(s.m.streams(), vb)
	assert.Equal(s.t, StreamStatusError{Op: op, VB: vb, Role: role, Status: status, Gone: gone}, *refused)
}

func (s *script) crashedWithEndOf(vb uint16) UnexpectedStreamEnd {
	s.t.Helper()
	var end *UnexpectedStreamEnd
	require.ErrorAs(s.t, s.crash, &end)
	assert.Equal(s.t, vb, end.VB)
	return *end
}

func (s *script) crashedWithOpaque(opaque mcbp.Opaque) UnknownOpaque {
	s.t.Helper()
	var unknown *UnknownOpaque
	require.ErrorAs(s.t, s.crash, &unknown)
	assert.Equal(s.t, opaque, unknown.Opaque)
	return *unknown
}

// alien is of our form and was never issued.
var alien = mcbp.Opaque{0xff, 0x7e, 0x7e, 0xff}

// taking is a machine that takes over vbucket 3; the STREAM_REQ with stream opaque 1 has passed.
func taking(t *testing.T) (*script, callID) {
	t.Helper()
	s := newScript(t)
	id := s.call(opTakeover, 3)
	require.Equal(t, relay.Pass, s.streamReq(3, 1))
	return s, id
}

// acknowledged is the producer's state change and the consumer's yes to it.
func (s *script) acknowledged(n uint32, state mcbp.VBucketState) {
	s.t.Helper()
	require.Equal(s.t, relay.Pass, s.state(n, state))
	require.Equal(s.t, relay.Pass, s.stateAnswer(n, mcbp.StatusSuccess))
}
