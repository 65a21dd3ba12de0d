package rebalance

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/rebalance/schedule"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// fillingMove is a move whose copy is being filled in the simulated time of [throttled].
type fillingMove struct {
	vb   uint16
	left uint64
}

// throttled plays a mover whose moves fill copies at the speed of a line, in simulated time.
type throttled struct {
	m       *moverMachine
	now     time.Time
	sizes   map[uint16]uint64
	filling []fillingMove
	carried uint64
	timer   time.Time // when the machine wants to look again; zero if not
	over    bool
	err     error
	most    int
}

func (s *throttled) perform(effects []moverEffect) {
	for _, effect := range effects {
		switch e := effect.(type) {
		case startMove:
			s.filling = append(s.filling, fillingMove{e.Plan.VB, s.sizes[e.Plan.VB]})
			s.most = max(s.most, len(s.filling))
		case armThrottle:
			s.timer = s.now.Add(e.After)
		case moverFinished:
			s.over, s.err = true, e.Err
		}
	}
}

// pass lets time pass: what the line can carry is shared by the moves under way.
func (s *throttled) pass(d time.Duration, line uint64) {
	s.now = s.now.Add(d)
	for budget := uint64(float64(line) * d.Seconds()); budget > 0 && len(s.filling) > 0; {
		each := max(budget/uint64(len(s.filling)), 1)
		for i := range s.filling {
			some := min(each, s.filling[i].left, budget)
			s.filling[i].left -= some
			s.carried += some
			budget -= some
		}
		if !s.collect() && each == 1 {
			break
		}
	}
	s.collect()
	if !s.timer.IsZero() && !s.timer.After(s.now) {
		s.timer = time.Time{}
		s.m.measured(s.carried, s.now)
		s.perform(s.m.unthrottled())
	}
}

// collect tells the machine of the copies that are full.
func (s *throttled) collect() (some bool) {
	for i := 0; i < len(s.filling); {
		if s.filling[i].left > 0 {
			i++
			continue
		}
		vb := s.filling[i].vb
		s.filling = slices.Delete(s.filling, i, i+1)
		s.m.measured(s.carried, s.now)
		s.perform(s.m.backfillDone(vb))
		s.perform(s.m.moveEnded(vb, nil, nil))
		some = true
	}
	return some
}

func newThrottled(moves int, size func(vb int) uint64, limits schedule.Limits) *throttled {
	s := &throttled{now: time.Unix(1_000_000, 0), sizes: map[uint16]uint64{}}
	var plans []movePlan
	for vb := range moves {
		plan, err := planMove(uint16(vb), vbmap.Chain{"n0"}, vbmap.Chain{"n1"})
		if err != nil {
			panic(err)
		}
		plans = append(plans, plan)
		s.sizes[uint16(vb)] = size(vb)
	}
	s.m = newMoverMachine(plans, limits)
	return s
}

// At no time has more been carried than the limit allows, a second's worth, and what the vbuckets under way brought beyond it.
func TestWhatIsCarriedStaysWithinTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := uint64(rapid.IntRange(1_000, 100_000).Draw(t, "rate"))
		line := rate * uint64(rapid.IntRange(1, 50).Draw(t, "line"))
		largest := uint64(0)
		s := newThrottled(rapid.IntRange(1, 40).Draw(t, "moves"), func(int) uint64 {
			size := uint64(rapid.IntRange(0, 200_000).Draw(t, "size"))
			largest = max(largest, size)
			return size
		}, schedule.Limits{BackfillsPerNode: 4})
		s.m.throttle(schedule.Limits{BackfillsPerNode: 4}, int64(rate), s.now)
		began := s.now
		s.perform(s.m.begin())
		for !s.over {
			require.Less(t, s.now.Sub(began), 24*time.Hour, "it does not come to its end")
			s.pass(time.Duration(rapid.IntRange(1, 200).Draw(t, "ms"))*time.Millisecond, line)
			allowed := rate + uint64(float64(rate)*s.now.Sub(began).Seconds())
			require.LessOrEqual(t, s.carried, allowed+uint64(max(s.most, 1))*largest)
		}
		require.NoError(t, s.err)
		require.Equal(t, len(s.sizes), s.m.done)
		// What was beyond it has been waited for.
		require.Zero(t, s.m.bytes.filling)
		require.Zero(t, s.m.bytes.aside)
	})
}

// In the mean over many vbuckets the limit is kept, and used: nobody asked for less.
func TestTheLimitIsKeptAndUsed(t *testing.T) {
	const rate, size, moves = 100_000, 50_000, 100
	s := newThrottled(moves, func(int) uint64 { return size }, schedule.Limits{})
	s.m.throttle(schedule.Limits{}, rate, s.now)
	began := s.now
	s.perform(s.m.begin())
	require.Len(t, s.filling, 1, "of the first nobody knows how large it is")
	for !s.over {
		s.pass(10*time.Millisecond, 10*rate)
		require.LessOrEqual(t, s.carried, uint64(rate+int(rate*s.now.Sub(began).Seconds())+2*size))
	}
	took := s.now.Sub(began).Seconds()
	assert.InDelta(t, moves*size/float64(rate), took, 5, "simulated seconds")
}

func TestALimitThatIsLiftedHoldsNothing(t *testing.T) {
	s := newThrottled(20, func(int) uint64 { return 1_000_000 }, schedule.Limits{})
	s.m.throttle(schedule.Limits{}, 10, s.now)
	s.perform(s.m.begin())
	s.pass(time.Minute, 1_000_000)
	require.Equal(t, 1, s.m.done)
	require.Empty(t, s.filling, "a day and more to wait")
	require.False(t, s.timer.IsZero())
	s.m.throttle(schedule.Limits{}, 0, s.now)
	s.perform(s.m.round(nil))
	assert.Len(t, s.filling, 4)
	for !s.over {
		s.pass(time.Minute, 1_000_000)
	}
	assert.Equal(t, 20, s.m.done)
	assert.Empty(t, s.m.unthrottled(), "a late timer")
}

// Another limit does not forgive what was carried beyond the one before it.
func TestADebtOutlivesAChangeOfTheLimit(t *testing.T) {
	s := newThrottled(20, func(int) uint64 { return 1_000_000 }, schedule.Limits{})
	s.m.throttle(schedule.Limits{}, 10, s.now)
	s.perform(s.m.begin())
	s.pass(time.Second, 2_000_000)
	require.Equal(t, 1, s.m.done)
	s.m.throttle(schedule.Limits{}, 1000, s.now)
	s.perform(s.m.round(nil))
	require.Empty(t, s.filling)
	s.pass(900*time.Second, 0)
	require.Empty(t, s.filling)
	s.pass(200*time.Second, 0)
	assert.Len(t, s.filling, 1)
}

// What carries nothing is not held: a move whose copies are all there already, or none.
func TestMovesPerNodeAreThrottled(t *testing.T) {
	assert.Equal(t, schedule.Limits{BackfillsPerNode: 1, MovesPerNode: 1}, Throttle{MovesPerNode: 1}.limits(schedule.Limits{}))
	assert.Equal(t, schedule.Limits{BackfillsPerNode: 3, MovesPerNode: 10}, Throttle{MovesPerNode: 10}.limits(schedule.Limits{BackfillsPerNode: 3}))
	assert.Equal(t, schedule.Limits{BackfillsPerNode: 3}, Throttle{}.limits(schedule.Limits{BackfillsPerNode: 3}))
	s := newThrottled(20, func(int) uint64 { return 1 }, schedule.Limits{})
	s.m.throttle(schedule.Limits{BackfillsPerNode: 2, MovesPerNode: 2}, 0, s.now)
	s.perform(s.m.begin())
	assert.Len(t, s.filling, 2)
}

// In a pause nobody looks at the bytes; afterwards somebody does.
func TestAPauseOfAThrottledMover(t *testing.T) {
	s := newThrottled(5, func(int) uint64 { return 1000 }, schedule.Limits{})
	s.m.throttle(schedule.Limits{}, 100, s.now)
	s.perform(s.m.begin())
	s.perform(s.m.pause(true))
	s.pass(time.Second, 100_000)
	require.True(t, s.timer.IsZero())
	s.perform(s.m.pause(false))
	require.False(t, s.timer.IsZero())
	for !s.over {
		s.pass(time.Second, 100_000)
	}
	assert.Equal(t, 5, s.m.done)
}
