package dcp

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
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
