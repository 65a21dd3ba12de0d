package dcp

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
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
