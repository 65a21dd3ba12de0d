package actors

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
)

// PID is one process, from its start to its death and beyond: a restart is another process with another PID, so comparing
// two *PID compares incarnations. All exported methods may be called from any goroutine. A nil *PID behaves as a process
// that has always been dead.
//
// Methods of PID act on behalf of nobody. Inside a callback use those of [Context], which stop working the moment the
// process dies.
type PID struct {
	sys    *System
	id     uint64
	name   string
	kind   string
	parent atomic.Pointer[PID] // forgotten at the death, or each incarnation would hold on to all of its ancestors
	queue  queue
	inbox  inbox
	place  node[*PID] // in System.processes

	// impl and context belong to the goroutine that runs the callbacks. Whoever buries the process drops impl if that
	// goroutine is not in a callback.
	impl    Process
	context Context

	// state holds the bits below. Bits are added to a dead process only by the goroutine that runs its callbacks.
	state atomic.Uint32

	// mu is the lock that exit takes first. Sends of the process itself hold it too, and therefore either are complete
	// before anybody can hear of the death, or do not happen. Two PIDs are locked in the order of their ids.
	mu       sync.Mutex
	reason   error
	watchers list[watcher] // who is to be told of the death, and callers
	links    list[*link]
	owned    list[owned] // what must be released at the death: own monitors, requests, timers
	starter  chan error  // until the start is decided
	helpers  int         // goroutines started by Go that have not ended
	life     *life       // made when somebody asks
	nextDead *PID        // chains the processes that one exit brings down
}

const (
	running   uint32 = 1 << iota // a callback runs
	dead                         // reason is set and will not change
	lingering                    // dead, but the callback has not returned yet
	trapping                     // exit signals arrive as messages
)

// life is a process' lifetime as a context.
type life struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// watcher hears of the death of the process in whose watchers it is; down is called without locks held.
type watcher interface{ down(p *PID, reason error) }

// owned is released when its process dies, without locks held.
type owned interface{ abandon() }

// Name returns the registered name, or "".
func (p *PID) Name() string {
	if p == nil {
		return ""
	}
	return p.name
}

// Kind returns what WithKind was given at the start, or "".
func (p *PID) Kind() string {
	if p == nil {
		return ""
	}
	return p.kind
}

// System returns the system the process belongs to; nil for a nil PID.
func (p *PID) System() *System {
	if p == nil {
		return nil
	}
	return p.sys
}

// String names the process in logs and errors: its name, or its kind and number.
func (p *PID) String() string {
	switch {
	case p == nil:
		return "#0"
	case p.name != "":
		return p.name
	default:
		return p.kind + "#" + strconv.FormatUint(p.id, 10)
	}
}

// LogValue is String.
func (p *PID) LogValue() slog.Value { return slog.StringValue(p.String()) }

// Alive reports whether the process has not exited. A process whose Init still runs is alive.
func (p *PID) Alive() bool { return p != nil && p.state.Load()&dead == 0 }

// Reason returns the exit reason of a dead process and nil for a living one.
func (p *PID) Reason() error {
	if p == nil {
		return NoProcess
	}
	if p.Alive() {
		return nil
	}
	return p.reason
}

// MailboxLen returns the number of messages that wait to be handled, including those that the process has taken in hand
// together with the one that it is handling.
func (p *PID) MailboxLen() int {
	if !p.Alive() {
		return 0
	}
	return p.inbox.size()
}

// Lingering returns how many callbacks and goroutines of a dead process are still running; it is 0 for a living one. See
// System.Lingering.
func (p *PID) Lingering() int {
	if p == nil || p.Alive() {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.helpers
	if p.state.Load()&lingering != 0 {
		n++
	}
	return n
}

// alwaysClosed is the Done of a process that never lived.
var alwaysClosed = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// Done returns a channel that is closed when the process has died and its name is free.
func (p *PID) Done() <-chan struct{} {
	if p == nil {
		return alwaysClosed
	}
	return p.lifetime().Done()
}

// lifetime returns the context that ends with the process, with the exit reason as its cause.
func (p *PID) lifetime() context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life == nil {
		ctx, cancel := context.WithCancelCause(context.Background())
		p.life = &life{ctx: ctx, cancel: cancel}
		if !p.Alive() {
			cancel(p.reason)
		}
	}
	return p.life.ctx
}

// Send puts a plain message into the mailbox; it arrives in HandleInfo. A dead process gets nothing, silently.
func (p *PID) Send(msg any) { p.post(plain, msg) }

// Cast puts a message into the mailbox that arrives in HandleCast. A dead process gets nothing, silently.
func (p *PID) Cast(msg any) { p.post(casted, msg) }

// Exit sends an exit signal on behalf of nobody.
//
//   - Killed ends the process at once, whatever it does and whether it traps exits or not.
//   - If the process does not trap exits, any other reason ends it at once, except Normal (or nil), which is ignored.
//   - If it traps exits, the signal takes its turn in the mailbox: a process without a parent ends with Terminate (or
//     HandleStop), another one sees Exit{PID: nil} in HandleInfo.
func (p *PID) Exit(reason error) { signal(nil, p, reason) }

// Kill is Exit(Killed). The process is dead to the world when Kill returns: see the package documentation.
func (p *PID) Kill() { p.Exit(Killed) }

// Stop ends the process in an orderly way: when it has handled what was sent before, it runs Terminate (or HandleStop)
// and exits with the reason. Stop returns nil when it is dead with that reason; else the reason it died of, NoProcess if
// it was dead before, or a *WaitError if ctx ended. A nil reason means Normal.
func (p *PID) Stop(ctx context.Context, reason error) error {
	return stop(ctx, callerOf(ctx), p, reason)
}

func typeAttr(msg any) slog.Attr { return slog.String("type", fmt.Sprintf("%T", msg)) }
