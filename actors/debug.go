package actors

import (
	"context"
	"fmt"
	"reflect"
)

// debugRequest is something that a process does for whoever asks, between two callbacks and beside them: it is no message
// of the process and none of its callbacks runs for it.
type debugRequest struct {
	call *call
	do   func(p *PID) (any, error)
}

// debug makes a process do something and waits for the result.
func debug(ctx context.Context, pid *PID, do func(p *PID) (any, error)) (any, error) {
	k := newCall(callerOf(ctx), pid, nil)
	return k.exchange(ctx, ours, &debugRequest{k, do})
}

func (p *PID) handleDebug(r *debugRequest) {
	if !r.call.settled.Load() { // else whoever asked has given up
		r.call.answer(r.do(p))
	}
}

// contained runs what users wrote for looking at a process, beside its callbacks: what goes wrong in it is an error, and no
// end of the process. It takes a goroutine of its own because nothing else stops a runtime.Goexit.
func contained(f func()) (err error) {
	done := make(chan struct{})
	go func() {
		returned := false
		defer func() {
			if !returned {
				err = crash(recover())
			}
			close(done)
		}()
		f()
		returned = true
	}()
	<-done
	return err
}

// Inspect calls look with the value of a process, which belongs to nobody else at that moment: in the process, between two
// callbacks, when what was sent before has been handled (OTP's sys:get_state). look must not write to the value nor keep
// it, and must not call the process; a panic or runtime.Goexit in it is returned as an error and does not hurt the
// process. Errors are a *StateTypeError if the process is no P, *PanicError, ErrGoexit, or those of PID.Call. After a
// *WaitError look may be running still.
func Inspect[P Process](ctx context.Context, pid *PID, look func(P)) error {
	_, err := debug(ctx, pid, func(p *PID) (any, error) {
		state, ok := p.impl.(P)
		if !ok {
			return nil, stateTypeError[P](p)
		}
		return nil, contained(func() { look(state) })
	})
	return err
}

// Replace puts what f makes of the value of a process in its place, as Inspect looks at it (OTP's sys:replace_state). The
// next callback is that of the new value; the process, its mailbox and what is linked to it are the same. f must not write to
// the old value: it returns another one, usually a changed copy. If f panics, calls runtime.Goexit or returns nil, the
// process keeps the old one. Errors are those of Inspect, and ErrNoState for a nil.
func Replace[P Process](ctx context.Context, pid *PID, f func(P) P) error {
	_, err := debug(ctx, pid, func(p *PID) (any, error) {
		state, ok := p.impl.(P)
		if !ok {
			return nil, stateTypeError[P](p)
		}
		var next Process
		if err := contained(func() { next = f(state) }); err != nil {
			return nil, err
		}
		if v := reflect.ValueOf(next); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
			return nil, ErrNoState
		}
		p.impl = next
		return nil, nil
	})
	return err
}

// StateTypeError is returned by [Inspect] and [Replace] if the value of the process is not of the type that was asked for.
type StateTypeError struct {
	PID *PID
	// Is and Want are names of types.
	Is, Want string
}

func stateTypeError[P Process](p *PID) error {
	return &StateTypeError{p, fmt.Sprintf("%T", p.impl), reflect.TypeFor[P]().String()}
}

func (e *StateTypeError) Error() string {
	return fmt.Sprintf("%v is a %s, not a %s", e.PID, e.Is, e.Want)
}
