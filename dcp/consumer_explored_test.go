package dcp

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// What the exploration of test/explore has found, each as a story of its own.

func TestATakeoversLimitBeginsWithItsAddAnswer(t *testing.T) {
	s := newScript(t)
	limits := Limits{}.withDefaults()
	s.request(streamChange{VB: 3, Kind: opTakeover})
	s.streamReq(3, 1)
	s.reqAnswer(1, mcbp.StatusSuccess)
	s.pass(limits.Add / 2)
	s.addAnswer(3, mcbp.StatusSuccess)
	s.pass(limits.Takeover - limits.Add/4)
	require.NoError(t, s.crash, "the answer was progress")
	s.pass(limits.Add / 4)
	var timeout *TakeoverTimeout
	require.ErrorAs(t, s.crash, &timeout)
	assert.Equal(t, []uint16{3}, timeout.VBs)
}

func TestAnEndBeforeTheAddAnswerOfACompleteTakeoverLeavesNothingBehind(t *testing.T) {
	s := newScript(t)
	id := s.request(streamChange{VB: 3, Kind: opTakeover})
	s.streamReq(3, 1)
	s.reqAnswer(1, mcbp.StatusSuccess)
	s.state(1, mcbp.VBucketActive)
	s.stateAnswer(1, mcbp.StatusSuccess)
	s.end(3, 1, mcbp.EndOK)
	s.unanswered(id)
	s.addAnswer(3, mcbp.StatusSuccess)
	s.ok(id)
	assert.Empty(t, s.m.byStream)
}

func TestTheReplyIsTheTruthAboutAStreamThatWasThereBefore(t *testing.T) {
	s := newScript(t)
	s.live(1, 1)
	id := s.call(opAdd, 1, 2)
	s.streamReq(2, 2)
	s.end(1, 1, mcbp.EndStateChanged)
	assert.Len(t, s.ended, 1, "whoever had asked for the stream before hears of its end")
	s.addAnswer(2, mcbp.StatusSuccess)
	var ended *StreamEndedError
	s.failed(id, 1, &ended)
	require.NoError(t, s.answers[id][2])
	s.live(1, 3)
	s.end(1, 3, mcbp.EndStateChanged)
	assert.Len(t, s.ended, 2, "a call that is answered is told nothing more")
}

func TestTheReplyIsTheTruthAboutAStreamThatAnotherCallHasClosed(t *testing.T) {
	s := newScript(t)
	id := s.call(opAdd, 1, 2)
	s.streamReq(1, 1)
	s.streamReq(2, 2)
	s.addAnswer(1, mcbp.StatusSuccess)
	other := s.call(opClose, 1)
	s.closeAnswer(relay.Consumer, 1, mcbp.StatusSuccess)
	s.closeAnswer(relay.Producer, 1, mcbp.StatusSuccess)
	s.ok(other)
	s.addAnswer(2, mcbp.StatusSuccess)
	var ended *StreamEndedError
	s.failed(id, 1, &ended)
	assert.Equal(t, mcbp.EndClosed, ended.Reason)
	assert.NotContains(t, s.answers[id], uint16(2))

	both := s.request(streamChange{VB: 3, Kind: opAdd}, streamChange{VB: 3, Kind: opClose})
	s.streamReq(3, 3)
	s.addAnswer(3, mcbp.StatusSuccess)
	s.closeAnswer(relay.Consumer, 3, mcbp.StatusSuccess)
	s.closeAnswer(relay.Producer, 3, mcbp.StatusSuccess)
	s.ok(both)
}
