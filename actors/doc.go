// Package actors gives Go processes in the sense of Erlang/OTP: each has its own state, is reached by messages, dies with a
// reason, and can be watched by others. Proto.Actor's mailboxes run them.
//
// This page has the rules. docs/actors.md teaches this package and package supervisor with examples, and says for everything
// in OTP what it is here, or why it is not.
//
// # A process
//
// A process is a value with the callbacks of OTP's gen_server. [Base] supplies those that it does not need:
//
//	type counter struct {
//		actors.Base
//		n int
//	}
//
//	func (c *counter) HandleCast(_ *actors.Context, msg any) error {
//		c.n += msg.(int)
//		return nil
//	}
//
//	func (c *counter) HandleCall(_ *actors.Context, from actors.From, _ any) error {
//		from.Reply(c.n)
//		return nil
//	}
//
// A [System] starts it. Start returns when Init has returned, so whatever Init sets up is there, and an error of Init is
// the error of Start:
//
//	sys := actors.NewSystem(actors.Options{})
//	defer sys.Close(ctx)
//	pid, err := sys.Start(ctx, &counter{}, actors.WithName("counter"))
//
// Anybody who has the [PID] can send to it. A cast is not answered; a call waits for the answer, and fails at once if the
// process dies instead:
//
//	pid.Cast(2)
//	n, err := actors.Call[int](ctx, pid, "how many")
//
// A callback that returns an error, or panics, ends its process. In the example a cast of anything but an int is a panic:
// the process dies with a [*PanicError] as reason, its name is free, and whoever watches it hears of it. That is all that a
// process does about errors; to do something about the death is the business of another one, usually a supervisor (package
// supervisor). Return [Normal] to end without a fault.
//
// # Watching
//
// A process that wants to know of a death sets a monitor ([Context.Monitor], [Context.StartMonitor]) and gets one [Down]
// with the reason. Processes that cannot live without each other are linked ([Context.Link], [Context.StartLink]): the
// death of one is an exit signal to the other, which dies of it too, unless the reason is Normal. A process that traps
// exits ([Context.TrapExits]) gets an [Exit] message in its place, as supervisors do. Its parent, which is who started
// it by StartLink, it obeys all the same: it ends, after Terminate, when the parent dies or sends it an exit signal.
//
// # Waiting
//
// A callback should not wait for long: meanwhile nothing else is handled. What takes time runs beside it: [Context.Go]
// runs a function in a goroutine and brings its result as a message; [Context.Request] is a call whose answer is a
// message; [Context.SendAfter] is a timer, and [Context.SetIdleTimeout] one for when nothing else happens. All of them
// end with the process. Blocking I/O hangs on the context of the process, by context.AfterFunc, which closes it when the
// process dies.
//
// Who has several calls to make, and can wait for them together, sends them by SendRequest and collects what comes of them
// in a [Collection].
//
// # Looking into a process
//
// A crash is logged in one line, process_crashed, with the process, the reason, the type of the last message, the caller
// if that was a call, and the stack if it was a panic. The values of message and state are not: they may hold secrets,
// which the reason, being logged, must not. A message or a process that implements slog.LogValuer, and a process that
// implements [StatusFormatter], say themselves what may be seen of them. [GetStatus] asks for the same while the process
// lives; [Inspect] and [Replace] reach its value, for tests and for the operator's emergency.
//
// # What is guaranteed
//
//   - The callbacks of a process run one at a time. Init is the first.
//   - Messages and signals from one process to another arrive in the order in which they were sent. In particular, what a
//     process sent before it died comes before its Down and its Exit.
//   - A process exits exactly once. In this order: it is dead; its name is free; its context has ended; its monitors and
//     callers are told; its links are told, first those that it has started. So a new process of the same name can be started
//     by whoever hears of the death.
//   - A monitor is exactly one Down, whether it is set before, during or after the death; after the death the reason is
//     NoProcess. A call is exactly one outcome; an answer that comes after it is dropped and never taken for another's.
//   - A start that fails leaves nothing: no name, no link, no message.
//   - Two *PID are equal if and only if they are the same incarnation: a restart is a new process.
//   - A process that has nothing to do has no goroutine, and its mailbox has given back what it needed in fuller times.
//
// # What Go cannot do
//
// Erlang can end a process in the middle of a computation; Go cannot end a goroutine from outside. [PID.Kill] therefore
// makes a process dead for the rest of the world, at once and whatever it is doing: all of the above happens, what is in its
// mailbox is dropped, and from then on nothing that its callback still does through its Context, and no answer it still
// gives, reaches anybody. The goroutine goes on until the callback returns; that is why blocking work should hang on the
// process' context. [System.Lingering] counts what goes on in this way.
//
// The fence is around what a process does through its [Context] and around answers. What a callback does by other means
// (the methods of PID and Bus, shared memory, files) is done by the goroutine, not by the process, and is not stopped.
//
// A process is given its messages in memory and by reference: sender and receiver must not both write to what a message
// points at.
//
// # Simulation
//
// Time comes from a [Clock] and goroutines from a [Dispatcher]; both can be injected. The package works inside a bubble of
// testing/synctest. Package actortest has a clock to step by hand, a process that records, the waiting that tests need, and a
// dispatcher that runs all processes one at a time in an order that a seed decides, so that what happened can happen again.
package actors
