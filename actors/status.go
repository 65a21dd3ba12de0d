package actors

import (
	"context"
	"log/slog"
)

// Status is what a process shows of itself, to GetStatus and in its crash report.
type Status struct {
	PID *PID
	// Parent is who started it by StartLink, or nil.
	Parent *PID
	// Trapping says whether it traps exits.
	Trapping bool
	// MailboxLen is PID.MailboxLen.
	MailboxLen int
	// State is what the process wants to be seen of its state: what FormatStatus put here or, without that, what its
	// LogValue returned. It is nil if it has neither: a state is a secret until its process says otherwise, and belongs to
	// the process alone. See [Inspect] for another way.
	State any
	// Message is the last message that it was given, in a crash report only.
	Message any
	// Reason is the exit reason, in a crash report only.
	Reason error
	// Err is ErrStatusHidden if FormatStatus crashed; State, Message and Reason are then nil.
	Err error
}

// StatusFormatter is implemented by a process that decides what may be seen of it (OTP's format_status). FormatStatus is
// called between two callbacks for GetStatus, and after the last one for the crash report, with an empty State, which it
// fills in, and with Message and Reason as they are, which it may change: what it leaves there is shown. What it puts into
// State is read by others while the process goes on, so it must be a copy. It changes only what is shown, not what happens.
// If it panics, what it would have formatted is not shown at all.
//
// A process without it shows of its state and of its messages only what they show by slog.LogValuer.
type StatusFormatter interface{ FormatStatus(s Status) Status }

// GetStatus asks a process for its status (OTP's sys:get_status). It is answered between two callbacks, when what was sent
// before has been handled. Errors are those of PID.Call; a FormatStatus that crashes is none, see Status.Err.
func GetStatus(ctx context.Context, pid *PID) (Status, error) {
	v, err := debug(ctx, pid, func(p *PID) (any, error) {
		s := p.status(nil, nil)
		s.format(p.impl)
		return s, nil
	})
	s, _ := v.(Status)
	return s, err
}

// status is what there is to show, without the state.
func (p *PID) status(msg any, reason error) Status {
	return Status{
		PID: p, Parent: p.parent.Load(), Trapping: p.state.Load()&trapping != 0, MailboxLen: p.MailboxLen(),
		Message: msg, Reason: reason,
	}
}

// format reduces s to what may be shown of it and of the process' value.
func (s *Status) format(impl Process) {
	f, decides := impl.(StatusFormatter)
	if !decides {
		s.State, s.Message = logged(impl), logged(s.Message)
		return
	}
	pristine := *s
	var shown Status
	if contained(func() { shown = f.FormatStatus(pristine) }) != nil {
		shown = Status{Err: ErrStatusHidden}
	}
	s.State, s.Message, s.Reason, s.Err = shown.State, shown.Message, shown.Reason, shown.Err
}

// logged is what a value shows of itself by slog.LogValuer; nil if it is none.
func logged(v any) any {
	l, ok := v.(slog.LogValuer)
	if !ok {
		return nil
	}
	var shown slog.Value
	if contained(func() { shown = slog.AnyValue(l).Resolve() }) != nil {
		return nil
	}
	return shown.Any()
}
