package rebalance

import (
	"cmp"
	"errors"
	"slices"
	"time"
)

// detailedVBuckets is how many moves of one bucket a report lists.
const detailedVBuckets = 4096

// account fills in what is known of the bucket's moves when it ends, or the rebalance with it; cause is why that failed.
func (m *progressMachine) account(b *BucketReport, cause error, now time.Time) {
	b.Nodes, b.Items = m.nodes, m.items.amount()
	b.Steps, b.Move = map[Step]StepSummary{}, StepSummary{}
	b.VBuckets, b.Omitted = nil, 0
	for _, account := range m.moves {
		if account.started.IsZero() {
			continue
		}
		v := account.report(cause, now)
		for _, s := range v.Steps {
			summary := b.Steps[s.Step]
			summary.add(s.Took)
			b.Steps[s.Step] = summary
		}
		if v.Outcome == MoveDone {
			b.Move.add(v.Took)
		}
		b.VBuckets = append(b.VBuckets, v)
	}
	if len(b.VBuckets) > detailedVBuckets {
		slices.SortFunc(b.VBuckets, mostTelling)
		b.Omitted = len(b.VBuckets) - detailedVBuckets
		b.VBuckets = slices.Clip(b.VBuckets[:detailedVBuckets])
	}
	slices.SortFunc(b.VBuckets, func(a, b VBucketReport) int { return cmp.Compare(a.VB, b.VB) })
}

// mostTelling puts what was not done first, and then what took longest.
func mostTelling(a, b VBucketReport) int {
	if (a.Outcome == MoveDone) != (b.Outcome == MoveDone) {
		if a.Outcome == MoveDone {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(b.Took, a.Took), cmp.Compare(a.VB, b.VB))
}

func (a *moveAccount) report(cause error, now time.Time) VBucketReport {
	if !a.over {
		a.endStep(now)
	}
	v := VBucketReport{
		VB: a.plan.VB, Outcome: a.outcome(cause), Before: a.plan.Old, After: a.plan.New,
		Started: a.started, Ended: a.ended, Took: took(a.started, a.ended), Steps: slices.Clone(a.steps),
	}
	if v.Steps == nil {
		v.Steps = []StepTime{}
	}
	if a.err != nil {
		v.Cause = Causes(a.err)
	} else if v.Outcome == MoveFailed {
		v.Cause = Causes(cause)
	}
	for _, c := range a.copies {
		tally := itemTally{copies: 1}
		tally.add(c)
		v.Copies = append(v.Copies, CopyReport{Node: c.node, Items: tally.amount()})
	}
	return v
}

func (a *moveAccount) outcome(cause error) MoveOutcome {
	var failed *MoveError
	switch {
	case a.over && a.err == nil:
		return MoveDone
	case errors.As(cause, &failed) && failed.VB == a.plan.VB:
		return MoveFailed
	case !a.over:
		return MoveUnfinished
	}
	return outcomeOf(a.err)
}

// outcomeOf is how a move ended that is over, by its error.
func outcomeOf(err error) MoveOutcome {
	switch {
	case err == nil:
		return MoveDone
	case errors.Is(err, ErrMoveAborted):
		return MoveAborted
	case errors.Is(err, ErrStopped):
		return MoveStopped
	}
	return MoveFailed
}
