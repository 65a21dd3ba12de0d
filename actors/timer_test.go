package actors_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

func TestSendAfter(t *testing.T) {
	clock := actortest.NewClock(time.Unix(0, 0))
	sys := actortest.NewSystem(t, actors.Options{Clock: clock})
	probe, pid := start(t, sys, false)
	actortest.Do(t, pid, func(c *actors.Context) error {
		c.SendAfter(2*time.Second, "second")
		c.SendAfter(time.Second, "first")
		c.SendAfter(time.Hour, "never")
		assert.Equal(t, clock.Now(), c.Clock().Now())
		return nil
	})
	clock.Advance(time.Second - 1)
	settle(t, pid)
	require.Empty(t, probe.Received())
	clock.Advance(time.Minute)
	probe.Expect(t, "first", "second")
	pid.Kill()
	actortest.Eventually(t, func() bool { return clock.Pending() == 0 }, "a dead process keeps no timer")
}

// A stopped timer's message is never handled, whether it is still to be sent or in the mailbox already.
func TestTimerStop(t *testing.T) {
	clock := actortest.NewClock(time.Unix(0, 0))
	sys := actortest.NewSystem(t, actors.Options{Clock: clock})
	probe, pid := start(t, sys, false)
	var handled actors.Timer
	actortest.Do(t, pid, func(c *actors.Context) error {
		early := c.SendAfter(time.Second, "stopped early")
		queued := c.SendAfter(time.Second, "stopped in the mailbox")
		handled = c.SendAfter(time.Second, "handled")
		assert.True(t, early.Stop())
		clock.Advance(time.Second)
		assert.True(t, queued.Stop())
		assert.False(t, queued.Stop())
		assert.False(t, actors.Timer{}.Stop())
		return nil
	})
	settle(t, pid)
	probe.Expect(t, "handled")
	require.False(t, handled.Stop())
	require.Zero(t, clock.Pending())
}

// Stop and the clock at the same moment: the message is handled if and only if Stop said that it came too late.
func TestTimerStopUnderAttack(t *testing.T) {
	sys := newSystem(t)
	for i := range 500 {
		probe, pid := start(t, sys, false)
		var timer actors.Timer
		actortest.Do(t, pid, func(c *actors.Context) error {
			timer = c.SendAfter(time.Duration(i)*100, "x")
			return nil
		})
		if timer.Stop() {
			settle(t, pid)
			require.Empty(t, probe.Received())
		} else {
			probe.Expect(t, "x")
		}
		pid.Kill()
	}
}
