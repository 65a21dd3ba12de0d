package dcp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/relay"
)

// settled stands in for a consumer connection: it does at once whatever it is asked for.
type settled struct{ actors.Base }

func (settled) HandleCall(_ *actors.Context, from actors.From, _ any) error {
	from.Reply(map[uint16]error(nil))
	return nil
}

func (settled) HandleInfo(*actors.Context, any) error { return nil }

// A connection may open and die before its replicator has come to either message. A call must not be handed to it, since no
// Down would come any more that could fail it.
func TestAConnectionThatDiedBeforeItsReplicatorKnewIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		sys := actors.NewSystem(actors.Options{})
		defer sys.Close(ctx)
		start := func(p actors.Process) *actors.PID {
			pid, err := sys.Start(ctx, p)
			require.NoError(t, err)
			return pid
		}
		events := actors.NewBus[Event]()
		news := events.Subscribe(16)
		defer news.Close()
		env := &linkEnv{link: Link{Bucket: "orders", Producer: "n0", Consumer: "n1"}, log: slog.New(slog.DiscardHandler), events: events}
		env.manager = start(settled{})
		r := start(newReplicator(env))
		boom := errors.New("boom")
		dead := start(settled{})
		dead.Exit(boom)
		<-dead.Done()
		producer, consumer := start(settled{}), start(settled{})

		answer := r.SendRequest(linkRequest{changes: []streamChange{{1, opAdd}}})
		for _, of := range []*actors.PID{dead, consumer} {
			r.Send(connStarted{role: RoleProducer, pid: producer})
			r.Send(connStarted{role: RoleConsumer, pid: of})
			r.Send(connOpened{role: RoleProducer, pid: producer})
			r.Send(connOpened{role: RoleConsumer, pid: of})
		}
		got, err := answer.Wait(ctx)
		require.NoError(t, err)
		assert.Equal(t, linkReply{incarnation: 2}, got)
		for {
			if crash, ok := (<-news.C()).(LinkCrashed); ok {
				assert.EqualValues(t, 1, crash.Incarnation)
				require.ErrorIs(t, crash.Reason, boom)
				break
			}
		}
	})
}

// A connection process that is stuck is given up after answerLimit.
func TestACallOfAStuckConnectionIsAnswered(t *testing.T) {
	p := newPost(t)
	p.open()
	p.request(1)
	p.m.failed(1, context.DeadlineExceeded)
	p.perform()
	var link *LinkError
	require.ErrorAs(t, p.answers[1].err, &link)
	require.ErrorIs(t, p.answers[1].err, context.DeadlineExceeded)
	assert.EqualValues(t, 1, p.answers[1].incarnation, "an engine may have been told")
	p.down(RoleConsumer, ErrSocketClosed)
	p.m.failed(1, ErrSocketClosed)
	p.perform()
}

// Nobody knows what has become of its streams, so they must not live on unknown to those who asked for them.
func TestAConnectionThatOwesAnAnswerForTooLongIsClosed(t *testing.T) {
	p := newPost(t)
	p.open()
	p.request(1)
	p.m.failed(1, context.DeadlineExceeded)
	p.perform()
	require.Len(t, p.closed, 1)
	require.ErrorIs(t, p.closed[0], context.DeadlineExceeded)
	p.down(RoleConsumer, p.closed[0])
	assert.IsType(t, LinkCrashed{}, p.events[len(p.events)-1])
}

// While a node is down its fences wait. Who gives up and asks again must not make them pile up without end.
func TestFencesThatWaitAreBounded(t *testing.T) {
	p := newPost(t)
	p.m.limits.Calls = 2
	for id := range callID(3) {
		p.m.fence(id)
		p.perform()
	}
	var refused *OverloadedError
	require.ErrorAs(t, p.answers[2].err, &refused)
	assert.Equal(t, OverloadedError{What: "fences of the link", Limit: 2}, *refused)
	assert.Len(t, p.answers, 1)
	p.open()
	assert.Len(t, p.answers, 3)
	assert.NoError(t, p.answers[0].err)
	p.m.fence(3)
	p.perform()
	assert.NotContains(t, p.answers, callID(3), "there is room again")
}

// A producer connection that dies has its socket closed. The relay may notice before anybody is told of the death: the reason of the
// death is the true cause all the same.
func TestTheSocketOfADeadConnectionFailsForItsReason(t *testing.T) {
	sys := actors.NewSystem(actors.Options{})
	defer sys.Close(t.Context())
	boom := errors.New("boom")
	closed := &relay.Failure{Side: relay.Producer, Err: io.ErrClosedPipe}
	for reason, c := range map[error]struct {
		role string
		want error
	}{
		boom:            {RoleProducer, boom},
		actors.Killed:   {RoleProducer, actors.Killed},
		actors.Shutdown: {RoleConsumer, ErrSocketClosed},
	} {
		partner, err := sys.Start(t.Context(), settled{})
		require.NoError(t, err)
		partner.Exit(reason)
		partner.Kill() // who traps exits
		<-partner.Done()
		require.ErrorIs(t, partner.Reason(), reason)
		p := newConsumerConn(&linkEnv{log: slog.New(slog.DiscardHandler)})
		p.flight, p.partner = newFlightRecorder(16, flightStart), partner
		var crash *CrashError
		require.ErrorAs(t, p.relayStopped(nil, closed), &crash)
		assert.Equal(t, c.role, crash.Role, "%v", reason)
		assert.ErrorIs(t, crash, c.want)
	}
}
