package rebalance

import (
	"errors"
	"fmt"
	"strings"
)

// ErrMoveAborted is the cause of a move that was aborted on request.
var ErrMoveAborted = errors.New("aborted on request")

// Why a move is not aborted; errors.Is finds them in an [AbortRefused].
var (
	// ErrNotMoving: the vbucket is not being moved, nor waits for its turn in the bucket that is being moved.
	ErrNotMoving = errors.New("it is not being moved")
	// ErrSwitchBegun: the new active may be active already, so the move must go on to its end, which is near.
	ErrSwitchBegun = errors.New("its switch has begun")
)

// AbortRefused says why [Run.AbortMove] left a move alone.
type AbortRefused struct {
	Bucket string
	VB     uint16
	// Err is ErrNotMoving or ErrSwitchBegun.
	Err error
}

func (e *AbortRefused) Error() string {
	return fmt.Sprintf("the move of vb %d of %q is not aborted: %v", e.VB, e.Bucket, e.Err)
}

func (e *AbortRefused) Unwrap() error { return e.Err }

// MovesAborted is why a rebalance is [Partial].
type MovesAborted struct {
	// ByBucket has the vbuckets whose moves were aborted, sorted.
	ByBucket map[string][]uint16
}

func (e *MovesAborted) Error() string {
	count := 0
	var texts []string
	for _, bucket := range sortedKeys(e.ByBucket) {
		vbs := e.ByBucket[bucket]
		count += len(vbs)
		shown := vbs[:min(len(vbs), describedProblems)]
		text := fmt.Sprintf("vb %s of %q", strings.Trim(fmt.Sprint(shown), "[]"), bucket)
		if len(shown) < len(vbs) {
			text += ", …"
		}
		texts = append(texts, text)
	}
	return fmt.Sprintf("%d moves were %v: %s", count, ErrMoveAborted, strings.Join(texts, "; "))
}

func (e *MovesAborted) Unwrap() error { return ErrMoveAborted }

// aborted is what a report has to say about it, nil if nothing was aborted.
func (r *Report) aborted() error {
	byBucket := map[string][]uint16{}
	for _, b := range r.Buckets {
		if len(b.Aborted) > 0 {
			byBucket[b.Name] = b.Aborted
		}
	}
	if len(byBucket) == 0 {
		return nil
	}
	return &MovesAborted{ByBucket: byBucket}
}
