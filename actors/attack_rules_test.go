package actors_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// Each test here takes one rule of doc.go, and lets everybody who could break it act at the same moment, again and again.
// The moment is varied by yields, never by sleeps.

// attackRounds is how often each rule is attacked.
const attackRounds = 300

// attack runs the functions at the same time, each after a few yields.
func attack(rng *rand.Rand, fs ...func()) {
	var wg sync.WaitGroup
	for _, f := range fs {
		yields := rng.IntN(12)
		wg.Go(func() {
			for range yields {
				runtime.Gosched()
			}
			f()
		})
	}
	wg.Wait()
}

func seeded() *rand.Rand { return rand.New(rand.NewPCG(7, 11)) }

// yields gives way to others a few times, in a callback.
func yields(n int) {
	for range n {
		runtime.Gosched()
	}
}

// calm waits until those who are dead have taken the last step of their exit and left their callbacks.
func calm(t *testing.T, sys *actors.System, alive int) {
	t.Helper()
	actortest.Eventually(t, func() bool { return sys.Enrolled() == alive && sys.Lingering() == 0 })
}

func finalWorld() world {
	return world{reason: (*actors.PID).Reason, confirmed: func(*actors.PID) int { return 0 }}
}

// keepingDiary is a process that traps exits and writes down what it hears.
type keepingDiary struct {
	actors.Base
	diary []any
}

func (p *keepingDiary) Init(c *actors.Context) error { c.TrapExits(); return nil }

func (p *keepingDiary) HandleCall(c *actors.Context, from actors.From, msg any) error {
	if f, ok := msg.(func(*actors.Context)); ok {
		f(c)
	}
	from.Reply(nil)
	return nil
}

func (p *keepingDiary) HandleInfo(_ *actors.Context, msg any) error {
	p.diary = append(p.diary, msg)
	return nil
}

func (p *keepingDiary) note(entry any) { p.diary = append(p.diary, entry) }

func startDiary(t *testing.T, sys *actors.System) (*keepingDiary, *actors.PID) {
	t.Helper()
	p := &keepingDiary{}
	pid, err := sys.Start(t.Context(), p)
	require.NoError(t, err)
	t.Cleanup(pid.Kill)
	return p, pid
}

// A monitor that is taken back, while its process dies, is heard of not at all, or before it was taken back; one that is
// not taken back, once.
func TestDemonitorUnderAttack(t *testing.T) {
	sys, rng := newSystem(t), seeded()
	for range attackRounds {
		diary, pid := startDiary(t, sys)
		_, victim := start(t, sys, false)
		n := rng.IntN(8)
		attack(rng,
			victim.Kill,
			func() {
				pid.Send("in between")
				_, err := pid.Call(t.Context(), func(c *actors.Context) {
					var refs []actors.Ref
					for range 10 {
						refs = append(refs, c.Monitor(victim))
						diary.note(monitored{refs[len(refs)-1]})
					}
					yields(n)
					for _, ref := range refs[:5] {
						c.Demonitor(ref)
						diary.note(demonitored{ref})
					}
				})
				assert.NoError(t, err)
			})
		actortest.AwaitDeath(t, victim)
		calm(t, sys, 1)
		settle2(t, pid)
		require.Empty(t, checkDiary(diary.diary, true, finalWorld()))
		require.Equal(t, [3]int{}, pid.Relations())
		pid.Kill()
		calm(t, sys, 0)
	}
}

// settle2 returns when what was sent to a process before has been handled, and what it sent to itself in doing so.
func settle2(t *testing.T, pid *actors.PID) {
	t.Helper()
	for range 2 {
		_, err := pid.Call(t.Context(), nil)
		require.NoError(t, err)
	}
}

// A link to a process that is dying or dead is one Exit, and the death of one who does not trap exits.
func TestLinkToTheDyingUnderAttack(t *testing.T) {
	sys, rng := newSystem(t), seeded()
	for range attackRounds {
		diary, pid := startDiary(t, sys)
		_, victim := start(t, sys, false)
		_, brittle := start(t, sys, false)
		attack(rng,
			func() { victim.Exit(errBoom) },
			func() {
				_, err := pid.Call(t.Context(), func(c *actors.Context) { diary.note(linked{victim}); c.Link(victim) })
				assert.NoError(t, err)
			},
			func() { brittle.Send(actortest.Func(func(c *actors.Context) error { c.Link(victim); return nil })) },
		)
		actortest.AwaitDeath(t, brittle)
		require.True(t, errors.Is(brittle.Reason(), errBoom) || errors.Is(brittle.Reason(), actors.NoProcess))
		calm(t, sys, 1)
		settle2(t, pid)
		require.Len(t, diary.diary, 2)
		require.Empty(t, checkDiary(diary.diary, true, finalWorld()))
		pid.Kill()
		calm(t, sys, 0)
	}
}

// Two processes that are linked die of different causes while both cut the link and a third one is linked to each: the
// third hears of each death once, with the true reason, and no table keeps anything.
func TestLinksCutWhileBothDieUnderAttack(t *testing.T) {
	sys, rng := newSystem(t), seeded()
	for range attackRounds {
		diary, pid := startDiary(t, sys)
		_, a := start(t, sys, false)
		_, b := start(t, sys, false)
		link(t, a, b)
		for _, victim := range []*actors.PID{a, b} {
			_, err := pid.Call(t.Context(), func(c *actors.Context) { diary.note(linked{victim}); c.Link(victim) })
			require.NoError(t, err)
		}
		cut := func(from, other *actors.PID) func() {
			return func() {
				from.Send(actortest.Func(func(c *actors.Context) error { c.Unlink(other); c.Link(other); c.Unlink(other); return nil }))
			}
		}
		attack(rng, cut(a, b), cut(b, a), func() { a.Exit(errBoom) }, func() { b.Kill() })
		actortest.AwaitDeath(t, a)
		actortest.AwaitDeath(t, b)
		calm(t, sys, 1)
		settle2(t, pid)
		require.Empty(t, checkDiary(diary.diary, true, finalWorld()))
		for _, dead := range []*actors.PID{a, b, pid} {
			require.Equal(t, [3]int{}, dead.Relations())
		}
		pid.Kill()
		calm(t, sys, 0)
	}
}

// crowd starts processes that trap exits. Linked to or monitoring a victim before anybody else does, they make its burial
// take its time, and what happens in the middle of it likely.
func crowd(t *testing.T, sys *actors.System) (members []*actors.PID, watch, join func(victim *actors.PID)) {
	t.Helper()
	for range 30 {
		_, pid := startDiary(t, sys)
		members = append(members, pid)
	}
	each := func(f func(*actors.Context)) {
		for _, pid := range members {
			_, err := pid.Call(t.Context(), f)
			require.NoError(t, err)
		}
	}
	watch = func(victim *actors.PID) { each(func(c *actors.Context) { c.Monitor(victim) }) }
	join = func(victim *actors.PID) { each(func(c *actors.Context) { c.Link(victim) }) }
	return members, watch, join
}

// Who is alive when Unlink has returned does not die of the other's death, however near that is.
func TestUnlinkUnderAttack(t *testing.T) {
	sys, rng := newSystem(t), seeded()
	members, _, join := crowd(t, sys)
	for range attackRounds {
		_, victim := start(t, sys, false)
		_, pid := start(t, sys, false)
		join(victim)
		link(t, pid, victim)
		link(t, pid, members[0]) // the longer list is searched another way
		n := rng.IntN(4)
		safe := make(chan bool, 1)
		pid.Send(actortest.Func(func(c *actors.Context) error {
			defer func() { safe <- c.Self().Alive() }()
			for victim.Alive() {
				runtime.Gosched()
			}
			yields(n)
			c.Unlink(victim)
			return nil
		}))
		attack(rng, func() { victim.Exit(errBoom) })
		actortest.AwaitDeath(t, victim)
		actortest.Eventually(t, func() bool { return len(safe) > 0 || !pid.Alive() })
		calm(t, sys, len(sys.Processes()))
		if len(safe) > 0 && <-safe {
			require.True(t, pid.Alive())
			pid.Kill()
		} else {
			requireReason(t, pid, errBoom)
		}
	}
}

// A process that is dead, but still in its callback, cuts no link, and answers no call, of which the other end has yet to
// hear.
func TestTheDeadReachNobodyUnderAttack(t *testing.T) {
	sys, rng := newSystem(t), seeded()
	_, watch, join := crowd(t, sys)
	alive := len(sys.Processes())
	for range attackRounds {
		diary, pid := startDiary(t, sys)
		keeper := &keepingCalls{}
		victim, err := sys.Start(t.Context(), keeper)
		require.NoError(t, err)
		watch(victim)
		join(victim)
		_, err = pid.Call(t.Context(), func(c *actors.Context) { diary.note(linked{victim}); c.Link(victim) })
		require.NoError(t, err)
		pending := victim.SendRequest("x")
		n := rng.IntN(4)
		victim.Send(func(c *actors.Context) {
			for c.Self().Alive() {
				runtime.Gosched()
			}
			yields(n)
			c.Unlink(pid)
			for _, from := range keeper.froms {
				from.Reply("too late")
			}
		})
		attack(rng, func() { victim.Exit(errBoom) })
		v, err := pending.Wait(t.Context())
		require.Equal(t, errBoom, err)
		require.Nil(t, v)
		calm(t, sys, alive+1)
		settle2(t, pid)
		require.Empty(t, checkDiary(diary.diary, true, finalWorld()))
		require.Len(t, diary.diary, 2)
		pid.Kill()
		calm(t, sys, alive)
	}
}

// keepingCalls keeps the calls it gets, and runs functions.
type keepingCalls struct {
	actors.Base
	froms []actors.From
}

func (k *keepingCalls) HandleCall(_ *actors.Context, from actors.From, _ any) error {
	k.froms = append(k.froms, from)
	return nil
}

func (k *keepingCalls) HandleInfo(c *actors.Context, msg any) error {
	msg.(func(*actors.Context))(c)
	return nil
}

// What one process does to another arrives in the order in which it was done, whether message, cast, signal, answer or
// the news of its death, and whatever cuts it short.
func TestSignalOrderUnderAttack(t *testing.T) {
	sys, rng := newSystem(t), seeded()
	for range attackRounds / 2 {
		diary, pid := startDiary(t, sys)
		victim, err := sys.Start(t.Context(), struct{ *actortest.Probe }{actortest.NewProbe()})
		require.NoError(t, err)
		_, err = pid.Call(t.Context(), func(c *actors.Context) {
			diary.note(monitored{c.Monitor(victim)})
			diary.note(linked{victim})
			c.Link(victim)
		})
		require.NoError(t, err)
		confirmed := 0 // read after the death, when nothing lingers
		sent := make(chan struct{})
		victim.Send(actortest.Func(func(c *actors.Context) error {
			close(sent)
			for i, dead := 1, 0; dead < 20; i++ {
				if !c.Self().Alive() {
					dead++ // it goes on for a while, in vain
				}
				n := numbered{victim, i}
				if i%2 == 0 {
					c.Exit(pid, &numberedSignal{n})
				} else {
					c.Send(pid, n)
				}
				if c.Self().Alive() {
					confirmed = i
				}
			}
			return errBoom
		}))
		<-sent
		attack(rng, func() { victim.Exit(errBoom) })
		actortest.AwaitDeath(t, victim)
		calm(t, sys, 1)
		settle2(t, pid)
		w := finalWorld()
		w.confirmed = func(*actors.PID) int { return confirmed }
		require.Empty(t, checkDiary(diary.diary, true, w))
		pid.Kill()
		calm(t, sys, 0)
	}
}

// When Kill has returned, the process handles nothing more of what it has in hand, but what it is in the middle of.
func TestKilledHandlesNothingMoreUnderAttack(t *testing.T) {
	sys, rng := newSystem(t), seeded()
	for range attackRounds {
		_, pid := start(t, sys, false)
		var killed atomic.Bool
		late := 0 // read when nothing lingers
		release := stuck(pid, nothing)
		for range 200 {
			pid.Send(actortest.Func(func(*actors.Context) error {
				if killed.Load() {
					late++
				}
				runtime.Gosched()
				return nil
			}))
		}
		release()
		attack(rng, func() { pid.Kill(); killed.Store(true) })
		calm(t, sys, 0)
		require.LessOrEqual(t, late, 1)
	}
}

// Whoever hears of a death, by whatever means, finds the name free: either he gets it, or another one who has heard too.
func TestNamesUnderAttack(t *testing.T) {
	sys, rng := newSystem(t), seeded()
	for range attackRounds {
		_, victim := start(t, sys, false, actors.WithName("x"))
		var mu sync.Mutex
		var winners []*actors.PID
		var losses []error
		heard := func() {
			assert.NotSame(t, victim, sys.Whereis("x"))
			pid, err := sys.Start(context.Background(), actortest.NewProbe(), actors.WithName("x"))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				winners = append(winners, pid)
			} else {
				losses = append(losses, err)
			}
		}
		byDown, err := sys.Start(t.Context(), &hearer{on: heard})
		require.NoError(t, err)
		_, err = byDown.Call(t.Context(), victim)
		require.NoError(t, err)
		byExit := &linkingHearer{hearer{on: heard}}
		byExitPID, err := sys.Start(t.Context(), byExit)
		require.NoError(t, err)
		_, err = byExitPID.Call(t.Context(), victim)
		require.NoError(t, err)
		lateHearer, err := sys.Start(t.Context(), &hearer{on: heard})
		require.NoError(t, err)
		attack(rng,
			victim.Kill,
			func() { <-victim.Done(); heard() },
			func() {
				_, err := victim.Call(context.Background(), actortest.Func(waitForDeath))
				assert.Error(t, err)
				heard()
			},
			func() {
				for victim.Alive() {
					runtime.Gosched()
				}
				heard()
			},
			func() { _, err := lateHearer.Call(t.Context(), victim); assert.NoError(t, err) },
		)
		actortest.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(winners)+len(losses) == 6 })
		require.Len(t, winners, 1)
		require.Same(t, winners[0], sys.Whereis("x"))
		for _, err := range losses {
			var taken *actors.AlreadyStartedError
			require.ErrorAs(t, err, &taken)
			require.Same(t, winners[0], taken.PID)
		}
		for _, pid := range sys.Processes() {
			pid.Kill()
		}
		calm(t, sys, 0)
	}
}

func waitForDeath(c *actors.Context) error {
	<-c.Ctx().Done()
	return nil
}

// linkingHearer is a hearer that links instead.
type linkingHearer struct{ hearer }

func (*linkingHearer) Init(c *actors.Context) error { c.TrapExits(); return nil }

func (h *linkingHearer) HandleCall(c *actors.Context, from actors.From, msg any) error {
	c.Link(msg.(*actors.PID))
	from.Reply(nil)
	return nil
}

// Callers give up at any moment, and what they asked for is answered twice and in any order: each gets his own answer or
// his own cause, and a late answer goes nowhere.
func TestLateRepliesUnderAttack(t *testing.T) {
	sys, rng := newSystem(t), seeded()
	var mu sync.Mutex
	var kept []func()
	pid := startAnswering(t, sys, func(_ *actors.Context, from actors.From, msg any) error {
		mu.Lock()
		defer mu.Unlock()
		kept = append(kept, func() { from.Reply(msg) })
		return nil
	})
	done := make(chan struct{})
	var repliers sync.WaitGroup
	for seed := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, 3))
		repliers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				mu.Lock()
				if n := len(kept); n > 0 {
					i := max(0, n-1-rng.IntN(6))
					reply := kept[i]
					mu.Unlock()
					reply()
					continue
				}
				mu.Unlock()
				runtime.Gosched()
			}
		})
	}
	answered, gaveUp := 0, 0
	for caller := range attackRounds {
		var callers sync.WaitGroup
		for i := range 4 {
			yield := rng.IntN(40)
			own := [2]int{caller, i}
			callers.Go(func() {
				ctx, cancel := context.WithCancelCause(context.Background())
				go func() { yields(yield); cancel(errBoom) }()
				v, err := pid.Call(ctx, own)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					answered++
					assert.Equal(t, own, v)
				} else {
					gaveUp++
					assert.ErrorIs(t, err, errBoom)
					assert.Nil(t, v)
				}
			})
		}
		callers.Wait()
	}
	close(done)
	repliers.Wait()
	require.Equal(t, 4*attackRounds, answered+gaveUp)
	require.Positive(t, answered)
	require.Positive(t, gaveUp)
	require.Equal(t, [3]int{}, pid.Relations())
}

// A process that calls or stops itself is refused, in whatever state it is, and does not wait.
func TestCallsToOneselfUnderAttack(t *testing.T) {
	sys, rng := newSystem(t), seeded()
	for range attackRounds {
		_, pid := start(t, sys, false)
		n := rng.IntN(6)
		errs := make(chan error, 3)
		pid.Send(actortest.Func(func(c *actors.Context) error {
			yields(n)
			_, err := c.Call(context.Background(), pid, "x")
			errs <- err
			_, err = pid.Call(c.Ctx(), "x")
			errs <- err
			errs <- pid.Stop(c.Ctx(), nil)
			return nil
		}))
		attack(rng, pid.Kill, func() { pid.Send("x") })
		calm(t, sys, 0)
		if len(errs) == 0 {
			continue // killed before it began
		}
		for range 3 {
			require.ErrorIs(t, <-errs, actors.ErrCallingSelf)
		}
	}
}
