package actors_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// Each monitor is one Down, with the reason, in the order in which they were set.
func TestMonitor(t *testing.T) {
	sys := newSystem(t)
	probe, watcher := start(t, sys, false)
	_, pid := start(t, sys, false)
	first, second := monitor(t, watcher, pid), monitor(t, watcher, pid)
	require.NotEqual(t, first, second)
	actortest.Crash(t, pid, errBoom)
	probe.Expect(t, actors.Down{Ref: first, PID: pid, Reason: errBoom}, actors.Down{Ref: second, PID: pid, Reason: errBoom})
	require.True(t, watcher.Alive())
}

func TestMonitorADeadProcess(t *testing.T) {
	sys := newSystem(t)
	probe, watcher := start(t, sys, false)
	_, pid := start(t, sys, false)
	actortest.Crash(t, pid, errBoom)
	ref := monitor(t, watcher, pid)
	probe.Expect(t, actors.Down{Ref: ref, PID: pid, Reason: actors.NoProcess})
}

func TestMonitorOneself(t *testing.T) {
	sys := newSystem(t)
	probe, pid := start(t, sys, false)
	monitor(t, pid, pid)
	pid.Kill()
	require.Empty(t, probe.Received())
}

func TestDemonitor(t *testing.T) {
	sys := newSystem(t)
	probe, watcher := start(t, sys, false)
	_, pid := start(t, sys, false)
	ref := monitor(t, watcher, pid)
	kept := monitor(t, watcher, pid)
	actortest.Do(t, watcher, func(c *actors.Context) error {
		c.Demonitor(ref)
		c.Demonitor(ref)
		c.Demonitor(actors.Ref{})
		return nil
	})
	pid.Kill()
	probe.Expect(t, actors.Down{Ref: kept, PID: pid, Reason: actors.Killed})
	settle(t, watcher)
	require.Len(t, probe.Received(), 1)
}

// A Down that is in the mailbox already is flushed.
func TestDemonitorFlushes(t *testing.T) {
	sys := newSystem(t)
	probe, watcher := start(t, sys, false)
	_, pid := start(t, sys, false)
	alive, gone := monitor(t, watcher, pid), actors.Ref{}
	actortest.Do(t, watcher, func(c *actors.Context) error {
		pid.Kill()
		gone = c.Monitor(pid)
		c.Demonitor(alive)
		c.Demonitor(gone)
		return nil
	})
	settle(t, watcher)
	require.Empty(t, probe.Received())
}

func TestOnlyTheOwnerDemonitors(t *testing.T) {
	sys := newSystem(t)
	probe, watcher := start(t, sys, false)
	_, pid := start(t, sys, false)
	_, stranger := start(t, sys, false)
	ref := monitor(t, watcher, pid)
	actortest.Do(t, stranger, func(c *actors.Context) error { c.Demonitor(ref); return nil })
	pid.Kill()
	probe.Expect(t, actors.Down{Ref: ref, PID: pid, Reason: actors.Killed})
}

// OTP's signal order: what a process sent comes before its Down and its Exit.
func TestSignalOrder(t *testing.T) {
	sys := newSystem(t)
	for range 200 {
		probe, receiver := start(t, sys, true)
		_, sender := start(t, sys, false)
		ref := monitor(t, receiver, sender)
		link(t, receiver, sender)
		sender.Send(actortest.Func(func(c *actors.Context) error {
			for i := range 10 {
				c.Send(receiver, i)
			}
			c.Exit(receiver, actors.Normal)
			return errBoom
		}))
		probe.Expect(t, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
			actors.Exit{PID: sender, Reason: actors.Normal},
			actors.Down{Ref: ref, PID: sender, Reason: errBoom},
			actors.Exit{PID: sender, Reason: errBoom})
		receiver.Kill()
	}
}

// A monitor set before, during or after a death gives exactly one Down.
func TestMonitorsUnderAttack(t *testing.T) {
	sys := newSystem(t)
	for range 100 {
		_, pid := start(t, sys, false)
		const watchers, each = 4, 20
		probes := make([]*actortest.Probe, watchers)
		var wg sync.WaitGroup
		for i := range probes {
			probe, watcher := start(t, sys, false)
			probes[i] = probe
			watcher.Send(actortest.Func(func(c *actors.Context) error {
				for range each {
					c.Monitor(pid)
				}
				return nil
			}))
		}
		wg.Go(pid.Kill)
		wg.Wait()
		for _, probe := range probes {
			actortest.Eventually(t, func() bool { return len(probe.Received()) == each })
			refs := map[actors.Ref]bool{}
			for _, d := range downs(probe.Received()) {
				refs[d.Ref] = true
			}
			require.Len(t, refs, each)
		}
	}
}
