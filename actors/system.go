package actors

import (
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
)

// This file is the only one that touches Proto.Actor. Taken from it are the mailbox, which runs a process' callbacks one
// after the other in a goroutine while there is something to do, the dispatcher, and the registry with its ids. A process
// registers itself in that registry as an ActorProcess of its own mailbox instead of being spawned as an actor: an actor's
// context, parent, children, watchers, lifecycle messages and restarts cannot express Erlang's rules, so nothing of them is
// wanted, and what is not there can neither cost memory nor interfere.

// Dispatcher runs the mailboxes of a system. Schedule must not run fn before it has returned: senders call it with locks
// held. Throughput is the number of messages after which a mailbox yields.
type Dispatcher interface {
	Schedule(fn func())
	Throughput() int
}

// Options configure a [System]. The zero value works.
type Options struct {
	// Clock gives the time and the timers. Nil means RealClock.
	Clock Clock
	// Logger receives what processes log and the crashes of processes. Nil discards.
	Logger *slog.Logger
	// Dispatcher runs the mailboxes. Nil runs each mailbox that has messages in a goroutine, and keeps a few of these for
	// the next ones until the system is closed.
	Dispatcher Dispatcher
}

// System is a world of processes: their names, their clock, their end. Systems are independent of each other; a process
// belongs to one of them. All methods may be called from any goroutine.
type System struct {
	engine     *actor.ActorSystem
	mailbox    actor.MailboxProducer
	dispatcher Dispatcher
	resumer    Resumer // the dispatcher, if it is one
	clock      Clock
	log        *slog.Logger

	lastID atomic.Uint64

	// mu guards what follows. While it is held no lock is taken but those that a send takes, of an inbox and the dispatcher.
	mu        sync.Mutex
	names     map[string]*PID
	processes list[*PID]
	lingering int
	closed    bool
	// emptied is closed when the system is closed and nothing runs in it any more.
	emptied chan struct{}
	once    sync.Once
}

// NewSystem returns a system without processes. It holds no goroutine until a process has something to do, and none after
// Close.
func NewSystem(o Options) *System {
	s := &System{
		clock:      o.Clock,
		log:        o.Logger,
		dispatcher: o.Dispatcher,
		names:      make(map[string]*PID),
		emptied:    make(chan struct{}),
		// This queue allocates per message and keeps nothing when empty. All that it carries are wake-ups; the ring of the
		// other one would be a quarter of the memory of a process at rest.
		mailbox: actor.UnboundedLockfree(),
	}
	if s.clock == nil {
		s.clock = RealClock{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.dispatcher == nil {
		p := newPool()
		s.dispatcher = p
		// The goroutines do not hold on to a system that is given up without being closed.
		runtime.AddCleanup(s, func(p *pool) { p.close() }, p)
	}
	s.resumer, _ = s.dispatcher.(Resumer)
	// What Proto.Actor logs by itself tells a user of this package nothing.
	silent := slog.New(slog.DiscardHandler)
	s.engine = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return silent }))
	return s
}

// queue is a process' place in Proto.Actor.
type queue struct {
	mailbox actor.Mailbox
	address *actor.PID
}

// attach gives p a mailbox and registers it.
func (s *System) attach(p *PID) {
	p.queue.mailbox = s.mailbox()
	p.queue.mailbox.RegisterHandlers((*invoker)(p), s.dispatcher)
	// NextId never returns an id twice, so the address cannot be taken.
	p.queue.address, _ = s.engine.ProcessRegistry.Add(actor.NewActorProcess(p.queue.mailbox), s.engine.ProcessRegistry.NextId())
	p.queue.mailbox.Start()
}

// detach removes p from the registry. Its mailbox drops what is still in it.
func (s *System) detach(p *PID) { s.engine.ProcessRegistry.Remove(p.queue.address) }

// stopEngine ends Proto.Actor's side; a second call of its Shutdown would panic.
func (s *System) stopEngine() {
	s.once.Do(s.engine.Shutdown)
	if p, ok := s.dispatcher.(*pool); ok {
		p.close()
	}
}

// post puts a message into p's inbox unless p is dead. It does not go through Proto.Actor's Send: that looks dead
// processes up in the registry and hands the message to a dead letter process with its own timers and log.
func (p *PID) post(k kind, msg any) {
	if p.Alive() && p.inbox.put(item{k, msg}) {
		p.queue.mailbox.PostUserMessage(wakeUp{})
	}
}

// wakeUp is all that a mailbox carries.
type wakeUp struct{}

// invoker is a PID as its mailbox sees it.
type invoker PID

var _ actor.MessageInvoker = (*invoker)(nil)

// InvokeSystemMessage is not used: system messages overtake, and signals must not.
func (i *invoker) InvokeSystemMessage(any) {}

// EscalateFailure is called by the mailbox after a panic that InvokeUserMessage let through, which would be a fault of this
// package.
func (i *invoker) EscalateFailure(reason, _ any) { (*PID)(i).exit(NewPanicError(reason)) }
