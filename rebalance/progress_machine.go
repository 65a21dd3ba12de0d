package rebalance

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// progressMachine keeps the account of a rebalance while it runs: how far it is, how long it may still take, whether it is
// stuck, and what its report will say of each move. It takes what the rebalancer hears, with the time at which it did, and
// decides nothing about the moves. It has no goroutine, clock or logger.
type progressMachine struct {
	stuckAfter time.Duration

	// paused says that no moves begin on purpose, stopping that none will.
	paused, stopping bool

	stage   Stage
	bucket  string
	number  int // of the bucket, from 1
	buckets int

	// done and planned are moves of all buckets that were begun; those of the bucket come after before.
	done, planned             int
	doneBefore, plannedBefore int
	// aborted are moves of the bucket that are left undone on request.
	aborted int
	nodes   map[string]float64

	// moves are those of the bucket, flying those of them that are under way.
	moves  map[uint16]*moveAccount
	flying map[uint16]*moveAccount
	// parts is what those under way have done, in moves; worked is when any work was last done.
	parts  float64
	worked time.Time
	items  itemTally
	// itemsBefore are those of the buckets that are over.
	itemsBefore itemTally
	carried     uint64

	highest float64
	samples []progressSample
	// advanced is when anything last got anywhere.
	advanced time.Time
	stuck    bool
}

// progressSample is how far the bucket was at a time.
type progressSample struct {
	at      time.Time
	moves   int
	work    float64 // in moves, parts of those under way included
	items   uint64
	carried uint64
}

const (
	// rateWindow is the time that rates and the estimate look back on, or the time that rateMoves took if that is longer;
	// sampleEvery lies between two samples of it.
	rateWindow  = 2 * time.Minute
	rateMoves   = 20
	sampleEvery = 2 * time.Second
	mostSamples = 256
	// leastSpan is how long it must have gone on before anything is said about how long it will.
	leastSpan = time.Second
	// longest is the longest time that is estimated.
	longest = 1000 * time.Hour
)

func newProgressMachine(stuckAfter time.Duration, now time.Time) *progressMachine {
	return &progressMachine{
		stuckAfter: stuckAfter, advanced: now,
		moves: map[uint16]*moveAccount{}, flying: map[uint16]*moveAccount{},
	}
}

// advance says that something got somewhere.
func (m *progressMachine) advance(now time.Time) { m.advanced = now }

// listed takes the number of buckets.
func (m *progressMachine) listed(buckets int, now time.Time) {
	m.buckets = buckets
	m.advance(now)
}

// pause takes that the rebalance pauses, or goes on. While it is paused it is not stuck, and its rate says nothing.
func (m *progressMachine) pause(paused bool, now time.Time) {
	m.paused, m.samples = paused, nil
	m.advance(now)
}

// stop takes that the rebalance is being stopped.
func (m *progressMachine) stop(now time.Time) {
	m.stopping = true
	m.advance(now)
}

// bucketBegan takes the next bucket.
func (m *progressMachine) bucketBegan(name string, now time.Time) {
	m.bucketOver()
	m.bucket, m.stage, m.nodes = name, StagePreparing, nil
	m.number++
	m.advance(now)
}

// bucketOver lets the bucket's account go into the sums.
func (m *progressMachine) bucketOver() {
	m.itemsBefore.addAll(m.items)
	m.items = itemTally{}
	m.doneBefore, m.plannedBefore, m.aborted = m.done, m.planned, 0
	m.moves, m.flying, m.parts = map[uint16]*moveAccount{}, map[uint16]*moveAccount{}, 0
	m.samples = nil
}

// work takes that a move may have got further.
func (m *progressMachine) work(account *moveAccount, now time.Time) {
	if more := account.advanceTo(account.part()); more > 0 {
		m.parts += more
		m.worked = now
	}
}

// plannedMoves takes the moves of the bucket.
func (m *progressMachine) plannedMoves(plans []movePlan, now time.Time) {
	m.stage = StageMoving
	m.planned = m.plannedBefore + len(plans)
	for _, plan := range plans {
		account := newMoveAccount(plan)
		m.moves[plan.VB] = account
		m.items.copies += len(account.copies)
	}
	m.advance(now)
	m.sample(now)
}

// counted takes how many documents the copies need that are to be built.
func (m *progressMachine) counted(needs []copyNeed) {
	for _, need := range needs {
		if account := m.moves[need.VB]; account != nil {
			account.needs(&m.items, need.Node, need.Items)
		}
	}
}

// moverTold takes how many moves of the bucket are done.
func (m *progressMachine) moverTold(done int, nodes map[string]float64, now time.Time) {
	if m.doneBefore+done > m.done {
		m.worked = now
	}
	m.done = m.doneBefore + done
	m.nodes = nodes
}

// leftUndone takes how many moves of the bucket were aborted: nothing is left to do for those either.
func (m *progressMachine) leftUndone(aborted int, now time.Time) {
	if aborted > m.aborted {
		m.aborted = aborted
		m.advance(now)
	}
}

// began takes the start of a move.
func (m *progressMachine) began(vb uint16, now time.Time) {
	account := m.moves[vb]
	if account == nil || account.over {
		return
	}
	account.started, account.advanced = now, now
	m.flying[vb] = account
	m.advance(now)
}

// stepped takes the start of a step.
func (m *progressMachine) stepped(vb uint16, step Step, waiting string, now time.Time) {
	account := m.flying[vb]
	if account == nil {
		return
	}
	account.enter(step, now)
	account.waiting = waiting
	if account.filled() {
		account.filledAll(&m.items)
	}
	m.work(account, now)
	m.advance(now)
}

// told takes what a move waits for, and what its new copies still lack.
func (m *progressMachine) told(vb uint16, waiting string, left []copyNeed, now time.Time) {
	account := m.flying[vb]
	if account == nil {
		return
	}
	account.waiting = waiting
	for _, l := range left {
		if account.lacks(&m.items, l.Node, l.Items) {
			account.advanced = now
			m.advance(now)
		}
	}
	m.work(account, now)
}

// seqnos takes how far the copies are that are being built: for each move the furthest behind. One that grew is an advance;
// one that fell has begun anew.
func (m *progressMachine) seqnos(found map[uint16]seqnoAnswer, now time.Time) {
	for vb, answer := range found {
		account := m.flying[vb]
		if account == nil {
			continue
		}
		if answer.High > account.behind.High || answer.Persisted > account.behind.Persisted {
			account.advanced = now
			m.advance(now)
		}
		account.behind = answer
	}
}

// ended takes the end of a move.
func (m *progressMachine) ended(vb uint16, err error, now time.Time) {
	account := m.moves[vb]
	if account == nil || account.over {
		return
	}
	account.end(err, now)
	if err == nil {
		account.filledAll(&m.items)
	}
	delete(m.flying, vb)
	m.parts -= account.furthest
	if len(m.flying) == 0 {
		m.parts = 0 // whatever adding and subtracting has left
	}
	m.advance(now)
}

// finishing takes the end of the bucket's moves.
func (m *progressMachine) finishing(now time.Time) {
	m.stage = StageFinishing
	m.advance(now)
}

// carry takes how many bytes the moves have made the replications carry since the rebalance began.
func (m *progressMachine) carry(bytes uint64) { m.carried = max(m.carried, bytes) }

// tick lets time pass. It reports whether the rebalance has become stuck, or has ceased to be.
func (m *progressMachine) tick(now time.Time) (changed bool) {
	if len(m.samples) == 0 || now.Sub(m.samples[len(m.samples)-1].at) >= sampleEvery {
		m.sample(now)
	}
	was := m.stuck
	m.stuck = !m.paused && now.Sub(m.advanced) >= m.stuckAfter
	return m.stuck != was
}

// sample looks at how far the bucket is. Old samples go, unless too little was done since to tell how fast it goes.
func (m *progressMachine) sample(now time.Time) {
	if m.stage != StageMoving {
		return
	}
	latest := m.now(now)
	for len(m.samples) > 1 && now.Sub(m.samples[1].at) >= rateWindow && latest.work-m.samples[1].work >= rateMoves {
		m.samples = slices.Delete(m.samples, 0, 1)
	}
	if len(m.samples) >= mostSamples {
		m.samples = slices.Delete(m.samples, mostSamples/4, mostSamples/4+1)
	}
	m.samples = append(m.samples, latest)
}

// now is a sample of this moment.
func (m *progressMachine) now(now time.Time) progressSample {
	return progressSample{at: now, moves: m.done, work: m.workDone(), items: m.items.done, carried: m.carried}
}

// workDone is how many moves of the bucket are done, with the parts that those under way have done.
func (m *progressMachine) workDone() float64 {
	return min(float64(m.done-m.doneBefore+m.aborted)+max(m.parts, 0), float64(m.planned-m.plannedBefore))
}

// brief is how far the rebalance is, without the single moves. The state is the orchestrator's to tell.
func (m *progressMachine) brief(now time.Time) Progress {
	p := Progress{
		Stage: m.stage, MovesDone: m.done, MovesPlanned: m.planned,
		Bucket: m.bucket, BucketNumber: m.number, Buckets: m.buckets, Nodes: m.nodes,
		Items: m.items.plus(m.itemsBefore).amount(), Bytes: Amount{Known: Uncounted},
	}
	if m.carried > 0 {
		p.Bytes = Amount{Done: m.carried, Total: m.carried, Known: PartlyCounted}
	}
	m.highest = max(m.highest, m.fraction())
	p.Fraction = m.highest
	p.Rate, p.Remaining, p.RemainingKnown = m.estimate(now)
	return p
}

// view is the same with them.
func (m *progressMachine) view(now time.Time) Progress {
	p := m.brief(now)
	p.InFlight = m.inFlight()
	if m.stuck {
		p.Stuck = &Stuck{Since: m.advanced, Stage: m.stage, Bucket: m.bucket, Moves: p.InFlight}
	}
	return p
}

func (m *progressMachine) inFlight() []MoveStatus {
	moves := make([]MoveStatus, 0, len(m.flying))
	for _, account := range m.flying {
		moves = append(moves, account.status(m.bucket))
	}
	slices.SortFunc(moves, func(a, b MoveStatus) int { return cmp.Compare(a.VB, b.VB) })
	return moves
}

// fraction is how far the whole is. Buckets weigh alike.
func (m *progressMachine) fraction() float64 {
	if m.buckets == 0 || m.number == 0 {
		return 0
	}
	part := 0.0
	switch m.stage {
	case StageMoving:
		part = 1
		if planned := m.planned - m.plannedBefore; planned > 0 {
			part = m.workDone() / float64(planned)
		}
	case StageFinishing:
		part = 1
	}
	return min((float64(m.number-1)+part)/float64(m.buckets), 1)
}

// estimate is how fast it goes, and how long it will take if it goes on like that.
func (m *progressMachine) estimate(now time.Time) (rate Rate, remaining time.Duration, known bool) {
	if m.stage == StageFinishing && m.number == m.buckets {
		return rate, 0, true
	}
	if m.stage != StageMoving || len(m.samples) == 0 || now.Sub(m.advanced) >= rateWindow {
		return rate, 0, false
	}
	from, to := m.samples[0], m.now(now)
	span := to.at.Sub(from.at).Seconds()
	if span < leastSpan.Seconds() {
		return rate, 0, false
	}
	rate.Moves = float64(to.moves-from.moves) / span
	rate.Items = grown(from.items, to.items) / span
	rate.Bytes = grown(from.carried, to.carried) / span
	work := to.work - from.work
	left := float64(m.planned-m.plannedBefore) - to.work
	// Less than a hundredth of the work, if that is less than a move, tells nothing about the rest.
	enough := min(1, float64(m.planned-m.plannedBefore)/100)
	if m.number != m.buckets || m.paused || m.stopping || work <= 0 || work < enough {
		return rate, 0, false
	}
	// The time since the last of it says nothing but that the next takes at least as long.
	idle := now.Sub(m.worked).Seconds()
	seconds := max(left*(span-idle)/work-idle, min(left, 1)*idle)
	if amount := m.items.amount(); amount.Known == Counted && rate.Items > 0 {
		seconds = max(seconds, float64(amount.Left())/rate.Items)
	}
	return rate, time.Duration(min(seconds, longest.Seconds()) * float64(time.Second)), true
}

// grown is by how much a counter that never falls has grown.
func grown(from, to uint64) float64 { return math.Max(float64(to)-float64(from), 0) }

// building is the vbuckets under way of which each node gets a copy.
func (m *progressMachine) building() map[string][]uint16 {
	wanted := map[string][]uint16{}
	for vb, account := range m.flying {
		for _, node := range account.plan.Build {
			wanted[node] = append(wanted[node], vb)
		}
	}
	for _, vbs := range wanted {
		slices.Sort(vbs)
	}
	return wanted
}
