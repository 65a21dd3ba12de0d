// Package supervisor keeps processes running the way OTP's supervisors do. It exists so that a process can be written for
// the case that all is well: when something is not, it crashes, and its supervisor puts a fresh one in its place. How to write
// a tree, and what of OTP is where, is in docs/actors.md.
//
// # A tree
//
// A supervisor is described by a [Spec] and its children by a [ChildSpec] each. [Worker] and [Sub] write the usual ones:
//
//	spec := supervisor.Spec{
//		Name:     "replication",
//		Strategy: supervisor.OneForAll,
//		Children: []supervisor.ChildSpec{
//			supervisor.Worker("producer", newProducer),
//			supervisor.Worker("consumer", newConsumer, actors.WithName("consumer")),
//		},
//	}
//	sup, err := sys.Start(ctx, supervisor.New(spec))
//
// The start returns when both children have been started, in this order. If the consumer dies now, the producer is stopped,
// and both are started again; a process that is started again is a new incarnation with a new PID, under the same name. If
// that happens more often than [Spec.Intensity] in [Spec.Period], something is wrong that a restart does not mend: the
// supervisor stops its children and exits, with a [*GaveUpError] in its reason, and that is the business of the supervisor
// above it. A supervisor is a process, so it can be a child of another one, and [Tree] shows the whole tree at any time.
//
// To end it, stop the process: sup.Stop(ctx, actors.Shutdown). Children are stopped in the reverse order of their start,
// each with the time that its [Shutdown] gives it, and killed after that.
//
// # Who is restarted
//
//	             permanent   transient                temporary
//	normal       restarted   stays down, spec kept    gone
//	shutdown     restarted   stays down, spec kept    gone
//	other        restarted   restarted                gone
//
// The [Strategy] says who goes with it. A restart that fails is tried again, by a message that the supervisor sends to
// itself: in between it answers requests, and each attempt counts as a restart. Under OneForAll it begins again with the first child,
// under RestForOne with the one that failed. With a [Backoff], which OTP does not have, restarts wait.
//
// # Children that come and go
//
// [StartChild] adds a child to a running supervisor, under an ID of its own. For many children of one kind, a connection or a
// session each, there is SimpleOneForOne: the spec has one child, the template, and [StartChildWith] starts as many from it
// as are wanted, with an argument each:
//
//	spec := supervisor.Spec{
//		Name:     "sessions",
//		Strategy: supervisor.SimpleOneForOne,
//		Children: []supervisor.ChildSpec{supervisor.Template("session", newSession)}, // func newSession(user string) actors.Process
//	}
//	pid, err := supervisor.StartChildWith(ctx, sup, "ada")
//
// Such children have no ID; [TerminateChild], [WhichChild] and [GetChildSpec] take the process.
//
// # What differs from OTP
//
//   - The zero value of Intensity means OTP's default of one restart; none at all is [Never].
//   - A start function returns a process or an error. There is no {ok, Pid, Extra}: the function is a closure, and can hand
//     whatever else there is to whoever wants it.
//   - A supervisor that waits for a child to stop still answers [WhichChildren], [CountChildren] and [Tree]. Everything
//     that changes something waits, as in OTP.
//   - The reason of a supervisor that gives up is a shutdown as in OTP, and says in addition which child it gave up on,
//     and why. The same holds for a start that fails.
//   - When it is told to end in the middle of a restart, it does not finish the restart first.
//   - It only takes a death for a death: an exit signal that a living child sends it is ignored.
package supervisor
