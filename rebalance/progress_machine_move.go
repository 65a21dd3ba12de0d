package rebalance

import (
	"slices"
	"time"
)

// moveAccount is what is known of one move.
type moveAccount struct {
	plan           movePlan
	started, ended time.Time
	advanced       time.Time
	over           bool
	err            error
	steps          []StepTime // the last has no length while the move is at it
	waiting        string
	copies         []copyAccount
	behind         seqnoAnswer
	furthest       float64 // the part that was done, never less
}

// copyAccount is one new copy of the vbucket: how many documents it needs, and how many of those it has.
type copyAccount struct {
	node        string
	total, done uint64
	known       bool
	// least is the least that its producer ever said it lacks; it has said so if heard.
	least uint64
	heard bool
}

// copyNeed is how many documents a copy needs, or still needs.
type copyNeed struct {
	VB    uint16
	Node  string
	Items uint64
}

func newMoveAccount(plan movePlan) *moveAccount {
	account := &moveAccount{plan: plan}
	for _, node := range plan.Build {
		account.copies = append(account.copies, copyAccount{node: node})
	}
	return account
}

func (a *moveAccount) copy(node string) *copyAccount {
	i := slices.IndexFunc(a.copies, func(c copyAccount) bool { return c.node == node })
	if i < 0 {
		return nil
	}
	return &a.copies[i]
}

// needs takes what a copy needed when the bucket was planned. What was learnt meanwhile from its backfill is the better
// knowledge of what it lacks.
func (a *moveAccount) needs(tally *itemTally, node string, items uint64) {
	c := a.copy(node)
	if c == nil {
		return
	}
	tally.remove(*c)
	left := c.total - c.done
	c.total, c.known = max(c.total, items), true
	switch {
	case a.filled() || (a.over && a.err == nil):
		c.done = c.total
	case left > 0:
		c.done = max(c.done, c.total-left)
	}
	tally.add(*c)
}

// lacks takes what a copy lacks by its producer's word. Writes may add to that, so what it has does not fall. It reports
// whether it got further than ever: an estimate that goes up and down gets nowhere.
func (a *moveAccount) lacks(tally *itemTally, node string, left uint64) (advanced bool) {
	c := a.copy(node)
	if c == nil || a.filled() {
		return false
	}
	tally.remove(*c)
	c.total, c.known = max(c.total, left), true
	c.done = max(c.done, c.total-left)
	tally.add(*c)
	advanced = c.heard && left < c.least
	if !c.heard || advanced {
		c.least, c.heard = left, true
	}
	return advanced
}

// filledAll says that the copies have all documents.
func (a *moveAccount) filledAll(tally *itemTally) {
	for i := range a.copies {
		c := &a.copies[i]
		tally.remove(*c)
		c.done = c.total
		tally.add(*c)
	}
}

// step is the current one.
func (a *moveAccount) step() Step {
	if len(a.steps) == 0 {
		return ""
	}
	return a.steps[len(a.steps)-1].Step
}

func (a *moveAccount) enter(step Step, now time.Time) {
	a.endStep(now)
	a.steps = append(a.steps, StepTime{Step: step, Started: now})
	a.advanced = now
}

func (a *moveAccount) endStep(now time.Time) {
	if len(a.steps) > 0 {
		last := &a.steps[len(a.steps)-1]
		last.Took = took(last.Started, now)
	}
}

func (a *moveAccount) end(err error, now time.Time) {
	a.endStep(now)
	a.over, a.err, a.ended = true, err, now
}

// filled says whether the backfill is over.
func (a *moveAccount) filled() bool {
	switch a.step() {
	case "", StepReplica, StepStream, StepBackfill:
		return false
	}
	return true
}

// part is how much of the move is done, 0 to 1. The backfill is most of it, as far as its documents are counted.
func (a *moveAccount) part() float64 {
	const backfill = 0.8
	part := 0.0
	if a.filled() {
		part = backfill
	} else if amount := a.items(); amount.Known == Counted && amount.Total > 0 {
		part = backfill * float64(amount.Done) / float64(amount.Total)
	}
	return part
}

// advanceTo takes the part that is done, and says how much more that is than it ever was.
func (a *moveAccount) advanceTo(part float64) (more float64) {
	more = max(part-a.furthest, 0)
	a.furthest += more
	return more
}

func (a *moveAccount) items() Amount {
	tally := itemTally{copies: len(a.copies)}
	for _, c := range a.copies {
		tally.add(c)
	}
	return tally.amount()
}

func (a *moveAccount) status(bucket string) MoveStatus {
	s := MoveStatus{
		Bucket: bucket, VB: a.plan.VB, From: a.plan.From, To: a.plan.destination(), Step: a.step(), Since: a.started,
		WaitingFor: a.waiting, Started: a.started, Advanced: a.advanced, Items: a.items(),
	}
	if len(a.steps) > 0 {
		s.Since = a.steps[len(a.steps)-1].Started
	}
	return s
}

// itemTally sums up the documents of copies, some of which may not be counted.
type itemTally struct {
	total, done     uint64
	counted, copies int
}

func (t *itemTally) add(c copyAccount) {
	if c.known {
		t.total, t.done, t.counted = t.total+c.total, t.done+c.done, t.counted+1
	}
}

func (t *itemTally) remove(c copyAccount) {
	if c.known {
		t.total, t.done, t.counted = t.total-c.total, t.done-c.done, t.counted-1
	}
}

func (t *itemTally) addAll(other itemTally) { *t = t.plus(other) }

func (t itemTally) plus(other itemTally) itemTally {
	return itemTally{t.total + other.total, t.done + other.done, t.counted + other.counted, t.copies + other.copies}
}

func (t itemTally) amount() Amount {
	a := Amount{Done: t.done, Total: t.total, Known: PartlyCounted}
	switch t.counted {
	case 0:
		a = Amount{Known: Uncounted}
	case t.copies:
		a.Known = Counted
	}
	return a
}
