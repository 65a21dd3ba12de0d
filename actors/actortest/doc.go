// Package actortest helps to test processes: a [Probe] that records what it gets and does what it is told, a [Clock] that
// is stepped by hand, [Elapse] for the virtual time of a bubble, [Eventually] to wait for a condition without sleeping,
// [State] and [Replace] to look into a process, [NewSystem] and [NoLeaks], and a [Simulation] that runs processes in an
// order that a seed decides.
//
// A test of two processes and a timer:
//
//	clock := actortest.NewClock(time.Unix(0, 0))
//	sys := actortest.NewSystem(t, actors.Options{Clock: clock})
//	probe := actortest.NewProbe()
//	pid := probe.Start(t, sys)
//	actortest.Do(t, pid, func(c *actors.Context) error {
//		c.SendAfter(time.Minute, "tick")
//		return nil
//	})
//	clock.Advance(time.Minute)
//	probe.Await(t, "tick")
package actortest
