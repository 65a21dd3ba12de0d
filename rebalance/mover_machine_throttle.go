package rebalance

import (
	"time"

	"github.com/shearpin/shearpin/rebalance/schedule"
)

// byteLimit says whether another move may begin, by what the moves before it have made the replications carry. It is a bucket
// of tokens that may be in debt: bytes are counted when they have been carried, because nobody tells beforehand how large a
// vbucket is, and a move that has begun is not slowed down. What moves under way are expected to carry still is set aside;
// before the first one has shown how much that may be, they go one by one.
type byteLimit struct {
	// rate is in bytes per second, 0 if there is no limit.
	rate int64
	// credit is what may be carried now, negative if too much was. It is never more than one second's worth.
	credit float64
	// aside is what backfills under way are still expected to carry.
	aside float64
	at    time.Time

	// carried is what this mover's moves have by now; filled is how many backfills have ended, filling how many run.
	carried         uint64
	filled, filling int
}

// set replaces the rate. Where there was no limit, it begins without debt and with a second's worth; where there was one, its
// debt stays.
func (l *byteLimit) set(rate int64, now time.Time) {
	if l.rate == 0 {
		l.credit, l.aside = float64(rate), 0
	}
	l.credit = min(l.credit, float64(rate))
	l.rate, l.at = rate, now
}

// measured takes how much was carried until now.
func (l *byteLimit) measured(carried uint64, now time.Time) {
	grown := float64(max(carried, l.carried) - l.carried)
	l.carried = max(carried, l.carried)
	if l.rate == 0 {
		return
	}
	l.credit = min(l.credit+float64(l.rate)*max(now.Sub(l.at), 0).Seconds(), float64(l.rate)) - grown
	l.aside = max(l.aside-grown, 0)
	l.at = now
}

// size is what one move is expected to carry; known is false before the first backfill has ended.
func (l *byteLimit) size() (bytes float64, known bool) {
	if l.filled == 0 {
		return 0, false
	}
	return float64(l.carried) / float64(l.filled), true
}

// allows says whether a backfill may begin now.
func (l *byteLimit) allows() bool {
	if l.rate == 0 {
		return true
	}
	if _, known := l.size(); !known && l.filling > 0 {
		return false
	}
	return l.credit-l.aside > 0
}

func (l *byteLimit) begins() {
	l.filling++
	if size, known := l.size(); known {
		l.aside += size
	}
}

func (l *byteLimit) ends() {
	l.filling--
	l.filled++
	if l.filling == 0 {
		l.aside = 0
	}
}

// The bounds of the pause until bytes are looked at again.
const (
	shortestThrottle = 50 * time.Millisecond
	longestThrottle  = time.Second
)

// pause is how long it takes until a backfill may begin, about.
func (l *byteLimit) pause() time.Duration {
	missing := time.Duration((l.aside - l.credit) / float64(l.rate) * float64(time.Second))
	return min(max(missing, shortestThrottle), longestThrottle)
}

// armThrottle calls moverMachine.unthrottled after the time.
type armThrottle struct{ After time.Duration }

func (armThrottle) isMoverEffect() {}

// limits are what a throttle leaves of the limits of the schedule.
func (t Throttle) limits(of schedule.Limits) schedule.Limits {
	if t.MovesPerNode == 0 {
		return of
	}
	return of.Tightened(t.MovesPerNode)
}

// throttle replaces what may be under way at the same time, and how much may be carried, from the next round on.
func (m *moverMachine) throttle(limits schedule.Limits, bytesPerSecond int64, now time.Time) {
	m.schedule.SetLimits(limits)
	m.bytes.set(bytesPerSecond, now)
}

// measured takes how much the moves have made the replications carry until now. It is called before anything else is.
func (m *moverMachine) measured(carried uint64, now time.Time) { m.bytes.measured(carried, now) }

// unthrottled looks again whether a move may begin.
func (m *moverMachine) unthrottled() []moverEffect {
	m.throttled = false
	return m.round(nil)
}

// next are the moves that begin now.
func (m *moverMachine) next() (starts []schedule.Move) {
	if m.bytes.rate == 0 {
		starts = m.schedule.Next()
		for _, move := range starts {
			m.begins(move)
		}
		return starts
	}
	for most := 1; ; {
		if !m.bytes.allows() {
			most = 0 // but those that carry nothing
		}
		few := m.schedule.NextFew(most)
		for _, move := range few {
			m.begins(move)
		}
		starts = append(starts, few...)
		if most == 0 || len(few) == 0 {
			return starts
		}
	}
}

// begins counts a move among those that fill new copies, if there are any.
func (m *moverMachine) begins(move schedule.Move) {
	if len(m.plans[uint16(move.VB)].carriers()) > 0 {
		m.filling[uint16(move.VB)] = true
		m.bytes.begins()
	}
}

// filledUp says that a move fills no copies any more.
func (m *moverMachine) filledUp(vb uint16) {
	if m.filling[vb] {
		delete(m.filling, vb)
		m.bytes.ends()
	}
}

// carriers are the nodes that get a copy that they did not have: what their streams carry is the move's.
func (p movePlan) carriers() []string { return without(p.Build, p.Old...) }

// waitsForBytes arms the next look, if moves wait for nothing else.
func (m *moverMachine) waitsForBytes(effects []moverEffect) []moverEffect {
	if m.throttled || m.paused || m.bytes.allows() || m.schedule.Remaining() == len(m.flying) {
		return effects
	}
	if _, known := m.bytes.size(); !known && m.bytes.filling > 0 {
		return effects // the end of that one is the next look
	}
	m.throttled = true
	return append(effects, armThrottle{m.bytes.pause()})
}
