package relay

import (
	"errors"
	"fmt"
)

var (
	// ErrStalled says that bytes waited for a socket and it accepted none for the whole of Config.Stall.
	ErrStalled = errors.New("peer stalled: accepts no bytes")
	// ErrInjectFull says that an injection would exceed Config.InjectLimit; nothing of it was queued.
	ErrInjectFull = errors.New("relay: injection queue full")
	// ErrStopped says that the relay has failed or was cancelled: an injection would never be written.
	ErrStopped = errors.New("relay: stopped")
)

// Failure is why a relay ended.
type Failure struct {
	// Side is the socket that failed, or from which the offending frame was read.
	Side Side
	// Err is the cause: io.EOF when the peer closed, a *mcbp.MalformedError, [ErrStalled], the decider's error, or an
	// error of the network.
	Err error
}

func (f *Failure) Error() string { return fmt.Sprintf("%v socket: %v", f.Side, f.Err) }

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Err }
