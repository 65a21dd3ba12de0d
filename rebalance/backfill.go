package rebalance

import "time"

// caughtUp is what a producer's answer about a backfill says. It has three values, because "nothing left to send" and
// "not counted yet" look alike in the number alone (history 14).
type caughtUp uint8

const (
	// notYet: known to have more than the limit left, or not counted yet.
	backfillNotYet caughtUp = iota
	// done: known to be nearly complete.
	backfillDone
	// missing: the producer does not know the connection or stream; that may pass (rebalance.md §14.3 no. 34).
	backfillMissing
	// hopeless: a status that means neither and never will.
	backfillHopeless
)

// classifyEstimate reads a dcp-vbtakeover answer (dcp-wire §12). Only the two statuses of a stream that is known to run
// can be done; a status that is not listed there is hopeless.
func classifyEstimate(status string, items, limit uint64) caughtUp {
	switch status {
	case "backfilling", "in-memory":
		if items < limit {
			return backfillDone
		}
		return backfillNotYet
	case "calculating-item-count":
		return backfillNotYet
	case "does_not_exist", "connection_does_not_exist", "stream_does_not_exist":
		return backfillMissing
	}
	return backfillHopeless
}

// The pauses between two questions about a backfill: short at first, because most vbuckets are small.
const (
	firstPoll = 5 * time.Millisecond
	lastPoll  = 100 * time.Millisecond
)

// backfillWatch follows the backfill of one consumer.
type backfillWatch struct {
	consumer string
	done     bool
	// pause precedes the next question.
	pause time.Duration
	// absent adds up the pauses since the producer last knew the stream.
	absent time.Duration
	last   estimateAnswer
	asked  bool
}

// next is the pause before the next question: it doubles from firstPoll to lastPoll.
func (w *backfillWatch) next() time.Duration {
	w.pause = min(max(2*w.pause, firstPoll), lastPoll)
	return w.pause
}

// observe takes one answer. progressed says whether it differs from the one before; err is set when there is no hope.
func (w *backfillWatch) observe(producer string, e estimateAnswer, limits MoveLimits) (progressed bool, err error) {
	progressed = !w.asked || e != w.last
	w.last, w.asked = e, true
	switch classifyEstimate(e.Status, e.Items, limits.CaughtUp) {
	case backfillDone:
		w.done = true
	case backfillNotYet:
		w.absent = 0
	case backfillMissing:
		w.absent += w.pause
		if w.absent >= limits.Missing {
			return false, &EstimateError{Producer: producer, Consumer: w.consumer, Status: e.Status, Waited: w.absent}
		}
	case backfillHopeless:
		return false, &EstimateError{Producer: producer, Consumer: w.consumer, Status: e.Status}
	}
	return progressed, nil
}
