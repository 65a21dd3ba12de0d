package dcp

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
)

// post drives a replicator machine like the two connections and the manager.
type post struct {
	t                  *testing.T
	m                  *replicatorMachine
	now                time.Time
	consumer, producer *actors.PID
	answers            map[callID]answerLink
	forwarded          []callID
	joins              int
	events             []Event
	closed             []error
}

func newPost(t *testing.T) *post {
	t.Helper()
	p := &post{
		t: t, m: newReplicatorMachine(Link{Bucket: "orders", Producer: "n0", Consumer: "n3"}, Limits{}),
		now: time.Unix(1, 0), answers: map[callID]answerLink{},
	}
	p.restart()
	return p
}

// restart is what the connection supervisor does: both connections anew, the producer's first.
func (p *post) restart() {
	p.consumer, p.producer = new(actors.PID), new(actors.PID)
	p.m.started(RoleProducer, p.producer, p.now)
	p.m.started(RoleConsumer, p.consumer, p.now)
	p.perform()
}

func (p *post) open() {
	p.m.opened(RoleConsumer, p.consumer, p.now)
	p.m.opened(RoleProducer, p.producer, p.now)
	p.perform()
}

func (p *post) perform() {
	for _, e := range p.m.take() {
		switch e := e.(type) {
		case joinSockets:
			p.joins++
			assert.Same(p.t, p.consumer, e.consumer)
			assert.Same(p.t, p.producer, e.producer)
		case forwardCall:
			p.forwarded = append(p.forwarded, e.call.id)
		case answerLink:
			require.NotContains(p.t, p.answers, e.call, "answered twice")
			p.answers[e.call] = e
		case publishLink:
			p.events = append(p.events, e.event)
		case closeLink:
			p.closed = append(p.closed, e.reason)
		}
	}
}

func (p *post) request(id callID) {
	p.m.request(id, []streamChange{{VB: 1}}, p.now)
	p.perform()
}

func (p *post) down(role string, reason error) {
	pid := p.consumer
	if role == RoleProducer {
		pid = p.producer
	}
	p.m.down(role, pid, reason, p.now)
	p.perform()
}

func (p *post) crashes() []LinkCrashed {
	var all []LinkCrashed
	for _, e := range p.events {
		if c, ok := e.(LinkCrashed); ok {
			all = append(all, c)
		}
	}
	return all
}

func TestCallsWaitUntilBothSocketsAreJoined(t *testing.T) {
	p := newPost(t)
	p.request(1)
	p.m.opened(RoleConsumer, p.consumer, p.now)
	p.perform()
	assert.Empty(t, p.forwarded)
	p.m.opened(RoleProducer, p.producer, p.now)
	p.perform()
	assert.Equal(t, []callID{1}, p.forwarded)
	assert.Equal(t, 1, p.joins)
}

func TestACrashFailsEveryCallInFlightWithTheTrueCause(t *testing.T) {
	for _, role := range []string{RoleConsumer, RoleProducer} {
		p := newPost(t)
		p.open()
		p.request(1)
		p.request(2)
		cause := &CrashError{Role: role, Err: ErrSocketClosed}
		p.down(role, cause)
		sibling := RoleConsumer
		if role == RoleConsumer {
			sibling = RoleProducer
		}
		p.down(sibling, actors.Shutdown)
		for _, id := range []callID{1, 2} {
			var link *LinkError
			require.ErrorAs(t, p.answers[id].err, &link)
			require.ErrorIs(t, p.answers[id].err, error(cause))
		}
		require.Len(t, p.crashes(), 1, "one crash, one event")
		require.ErrorIs(t, p.crashes()[0].Reason, ErrSocketClosed)
		assert.EqualValues(t, 1, p.crashes()[0].Incarnation)
	}
}

func TestTheSiblingsShutdownDoesNotHideTheCause(t *testing.T) {
	p := newPost(t)
	p.open()
	p.request(1)
	p.down(RoleProducer, actors.Shutdown)
	assert.Empty(t, p.answers)
	p.down(RoleConsumer, &CrashError{Role: RoleConsumer, Err: ErrSocketClosed})
	require.ErrorIs(t, p.answers[1].err, ErrSocketClosed)
}

func TestACallThatWaitsSurvivesACrashOfTheConnecting(t *testing.T) {
	p := newPost(t)
	p.request(1)
	p.down(RoleConsumer, errors.New("crash while connecting"))
	assert.Empty(t, p.answers)
	p.restart()
	p.open()
	assert.Equal(t, []callID{1}, p.forwarded)
}

func TestTheDeathOfAnOlderIncarnationIsIgnored(t *testing.T) {
	p := newPost(t)
	old := p.consumer
	p.restart()
	p.open()
	p.request(1)
	p.m.down(RoleConsumer, old, errors.New("late"), p.now)
	p.perform()
	assert.Empty(t, p.answers)
	assert.Empty(t, p.crashes())
}

func TestACallIsAnsweredWhenNoConnectionComesUp(t *testing.T) {
	p := newPost(t)
	p.request(1)
	p.m.connectFailed(errors.New("connection refused"))
	p.now = p.now.Add(p.m.limits.Join - 1)
	p.m.tick(p.now)
	p.perform()
	assert.Empty(t, p.answers)
	p.now = p.now.Add(1)
	p.m.tick(p.now)
	p.perform()
	require.ErrorContains(t, p.answers[1].err, "not connected: connection refused")
}

func TestAPlannedStopIsNoCrash(t *testing.T) {
	p := newPost(t)
	p.open()
	p.request(1)
	p.m.beginShut()
	p.perform()
	p.down(RoleConsumer, actors.Shutdown)
	p.down(RoleProducer, actors.Shutdown)
	assert.Empty(t, p.crashes())
	require.ErrorIs(t, p.answers[1].err, actors.Shutdown)
	p.request(2)
	require.ErrorIs(t, p.answers[2].err, ErrShut)
}

func TestFenceIsAnsweredByTheNextOpen(t *testing.T) {
	t.Run("of the following incarnation, when one is open", func(t *testing.T) {
		p := newPost(t)
		p.open()
		p.request(1)
		p.m.fence(9)
		p.perform()
		assert.Equal(t, []error{ErrFenced}, p.closed)
		p.down(RoleConsumer, ErrFenced)
		require.ErrorIs(t, p.answers[1].err, ErrFenced)
		assert.Empty(t, p.crashes(), "a fence is no crash")
		assert.Equal(t, LinkFenced{Link: p.m.link, Incarnation: 1, At: p.now}, p.events[len(p.events)-1], "but its streams are gone")
		p.restart()
		assert.NotContains(t, p.answers, callID(9))
		p.m.opened(RoleConsumer, p.consumer, p.now)
		p.perform()
		require.Contains(t, p.answers, callID(9), "the consumer's OPEN is enough")
	})
	t.Run("of this one, while it connects", func(t *testing.T) {
		p := newPost(t)
		p.m.fence(9)
		p.perform()
		assert.Empty(t, p.closed)
		p.m.opened(RoleConsumer, p.consumer, p.now)
		p.perform()
		require.Contains(t, p.answers, callID(9))
	})
}

func TestCancelAnswersOnlyWhatNoEngineHasSeen(t *testing.T) {
	p := newPost(t)
	p.request(1)
	p.m.cancelWaiting(ErrSuperseded)
	p.perform()
	require.ErrorIs(t, p.answers[1].err, ErrSuperseded)
	p.open()
	p.request(2)
	p.m.cancelWaiting(ErrSuperseded)
	p.perform()
	assert.NotContains(t, p.answers, callID(2))
}

func TestFenceAfterAnIncarnation(t *testing.T) {
	t.Run("that is open closes it", func(t *testing.T) {
		p := newPost(t)
		p.open()
		p.m.fenceAfter(9, 1)
		p.perform()
		assert.Equal(t, []error{ErrFenced}, p.closed)
		assert.NotContains(t, p.answers, callID(9))
	})
	t.Run("that a later open one has followed is answered at once", func(t *testing.T) {
		p := newPost(t)
		p.open()
		p.down(RoleConsumer, ErrSocketClosed)
		p.restart()
		p.m.fenceAfter(8, 1)
		p.perform()
		assert.NotContains(t, p.answers, callID(8), "not open yet")
		p.open()
		require.Contains(t, p.answers, callID(8))
		p.m.fenceAfter(9, 1)
		p.perform()
		require.Contains(t, p.answers, callID(9))
		assert.Empty(t, p.closed)
	})
}
