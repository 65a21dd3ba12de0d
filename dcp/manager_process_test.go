package dcp

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// A call that was given up may still be in the mailbox, so it must not hold what its caller goes on with.
func TestACallKeepsNothingThatIsItsCallers(t *testing.T) {
	for name, call := range map[string]func(s *stage, ctx context.Context, vbs map[uint16]string) error{
		"Apply": func(s *stage, ctx context.Context, vbs map[uint16]string) error {
			return s.manager.Apply(ctx, 1, "", vbs)
		},
		"Want": func(s *stage, ctx context.Context, vbs map[uint16]string) error { return s.manager.Want(ctx, 1, vbs) },
		"Retain": func(s *stage, ctx context.Context, vbs map[uint16]string) error {
			return s.manager.Retain(ctx, 1, "", vbs)
		},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, nil, func(s *stage) {
				s.up(1, 2)
				busy, leave := make(chan struct{}), make(chan struct{})
				held := s.in(func() error {
					return actors.Inspect(s.ctx, s.manager.pid.Load(), func(*managerProcess) {
						close(busy)
						<-leave
					})
				})
				<-busy
				vbs := map[uint16]string{1: "n0", 2: "n0"}
				ctx, cancel := context.WithTimeout(s.ctx, time.Second)
				defer cancel()
				require.ErrorIs(t, call(s, ctx, vbs), context.DeadlineExceeded)
				clear(vbs)
				vbs[1] = ""
				vbs[3] = "n2"
				close(leave)
				require.NoError(t, next(s, held))
				synctest.Wait()
				status, err := s.manager.Status(s.ctx)
				require.NoError(t, err)
				assert.Equal(t, map[uint16]string{1: "n0", 2: "n0"}, status.Desired)
			})
		})
	}
}

// One of the two nodes has closed the stream, the other one refuses. There is none then, and the status must not say that
// there is.
func TestTheStatusKnowsNoStreamThatOneSideHasClosed(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0, 1)
		closing := s.apply(-1)
		s.c.write(answerTo(s.c.read(), mcbp.StatusSuccess))
		s.p.write(answerTo(s.p.read(), mcbp.StatusBusy))
		var refused *StreamStatusError
		require.ErrorAs(t, next(s, closing), &refused)
		assert.True(t, refused.Gone)
		assert.Equal(t, []uint16{1}, s.status().Streams)
		status, err := s.manager.Status(s.ctx)
		require.NoError(t, err)
		assert.Equal(t, map[uint16]string{0: "n0", 1: "n0"}, status.Desired, "wanted as before")
		require.NoError(t, s.manager.Want(s.ctx, 1, map[uint16]string{0: "n0"}))
		add := s.c.read()
		assert.Equal(t, uint16(0), add.VBucket())
	})
}

// Frames of its stream are progress, and there may be some for ever. Who waits for the end is answered all the same, and the
// connection, whose streams nobody knows any more, is opened anew.
func TestATakeoverThatMovesForEverIsGivenUp(t *testing.T) {
	onStage(t, func(s *stage) { s.patience = 4 * time.Hour }, func(s *stage) {
		s.up(0)
		done := s.takeover(3)
		add := s.c.read()
		s.request(3, 9)
		s.c.write(answerTo(add, mcbp.StatusSuccess))
		since := time.Now()
		for len(done) == 0 && time.Since(since) < 3*answerLimit {
			s.p.write(&mcbp.Packet{Opcode: mcbp.OpDCPMutation, VBucket: 3, Opaque: streamOpaque(9), Extras: make([]byte, 31)})
			s.c.arrived()
			actortest.Elapse(time.Minute)
		}
		var link *LinkError
		require.ErrorAs(t, next(s, done), &link)
		require.ErrorIs(t, link, context.DeadlineExceeded)
		require.ErrorContains(t, link, "consumer connection", "it is the one that owes")
		assert.LessOrEqual(t, time.Since(since), answerLimit+time.Minute)
		given := time.Now()
		s.bothClosed()
		assert.Zero(t, time.Since(given), "nobody waits for the takeover's own limit")
		s.link()
		assert.EqualValues(t, 0, s.c.read().VBucket(), "its neighbours come back")
		assert.Equal(t, "up", s.status().State)
	})
}

// Limits.Connect is for every handshake of a manager: also for those of its fences and of its look for what an earlier one
// has left.
func TestASlowNodeIsGivenTheSameTimeForEveryHandshake(t *testing.T) {
	slow := func(f mcbp.Frame) *mcbp.Packet {
		virtually(20 * time.Second)
		answer := answerTo(f, mcbp.StatusSuccess)
		answer.Value = f.Value()
		return answer
	}
	onStage(t, func(s *stage) {
		s.limits.Connect = 30 * time.Second
		s.nodes["n1"].replies[mcbp.OpHello] = slow
		s.nodes["n1"].stats = []string{"eq_dcpq:" + ConnectionName("n0", "n1", "orders", 0) + ":type", "consumer"}
	}, func(s *stage) { // the epoch has been prepared
		require.NoError(t, s.manager.Fence(s.ctx, 0, "n0"))
		for range 2 {
			next(s, s.nodes["n1"].opened).rest()
		}
		s.up(0)
	})
}

// A link that gives up takes its replicator down. Who still waits there hears what the connections died of.
func TestACallOfALinkThatGivesUpHearsOfTheLastCrash(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.nodes["n1"].on(mcbp.OpDCPOpen, silent)
		adding := s.apply(0)
		synctest.Wait() // now there is a link
		fencing := s.in(func() error { return s.manager.Fence(s.ctx, 0, "n0") })
		synctest.Wait()
		boom := errors.New("boom")
		for range connRestarts + 1 {
			delete(s.started, "producer connection")
			s.process("producer connection").Exit(boom)
			synctest.Wait()
		}
		for name, answer := range map[string]<-chan error{"Apply": adding, "Fence": fencing} {
			var link *LinkError
			err := next(s, answer)
			require.ErrorAs(t, err, &link, name)
			require.ErrorIs(t, link, boom, name)
			assert.Equal(t, 1, strings.Count(err.Error(), "replication n0→n1/0"), "%v", err)
		}
	})
}
