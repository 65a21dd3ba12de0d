package rebalance

import (
	"errors"
	"fmt"
)

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
