package actors

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type entry struct {
	at node[*entry]
	v  int
}

func (l *list[T]) all() (all []T) {
	for n := l.first; n != nil; n = n.next {
		all = append(all, n.item)
	}
	return all
}

// The list behaves like a slice.
func TestListAgainstSlice(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var l, other list[*entry]
	var model []*entry
	for i := range 20_000 {
		switch rng.IntN(4) {
		case 0, 1:
			e := &entry{v: i}
			l.push(&e.at, e)
			model = append(model, e)
		case 2:
			if len(model) > 0 {
				k := rng.IntN(len(model))
				e := model[k]
				require.False(t, other.remove(&e.at))
				require.True(t, l.remove(&e.at))
				require.False(t, l.remove(&e.at))
				model = slices.Delete(model, k, k+1)
			}
		case 3:
			e, ok := l.pop()
			require.Equal(t, len(model) > 0, ok)
			if ok {
				require.Same(t, model[0], e)
				model = model[1:]
			}
		}
		require.Equal(t, len(model), l.n)
		if i%100 == 0 {
			require.Equal(t, model, append([]*entry{}, l.all()...))
		}
	}
}

// The inbox gives out what was put in, in order, asks for one wake-up per rest, and keeps little room at rest.
func TestInbox(t *testing.T) {
	var b inbox
	put, got := 0, 0
	for _, burst := range []int{1, 1, 3, 100, 5000, 2, 1} {
		for i := range burst {
			require.Equal(t, i == 0, b.put(item{plain, put}))
			put++
		}
		require.Equal(t, burst, b.size())
		var batch []item
		for rounds := 0; ; rounds++ {
			if batch = b.take(batch); len(batch) == 0 {
				break
			}
			for _, it := range batch {
				require.Equal(t, got, it.msg)
				got++
			}
			if rounds < 3 {
				require.False(t, b.put(item{plain, put}), "it is awake")
				put++
				require.Equal(t, len(batch)+1, b.size(), "the batch in hand counts")
			}
		}
		require.Zero(t, b.size())
		require.LessOrEqual(t, cap(b.in), restRoom)
	}
	require.Equal(t, put, got)
	b.put(item{plain, "x"})
	b.close()
	require.Zero(t, b.size())
	require.False(t, b.put(item{plain, "x"}))
	require.Empty(t, b.take(nil))
}

// onDown does something at the very moment at which the watchers of a process are told of its death.
type onDown struct {
	at node[watcher]
	do func()
}

func (w *onDown) down(*PID, error) { w.do() }

// watchDown puts f behind those that watch p already.
func watchDown(p *PID, f func()) {
	w := &onDown{do: f}
	p.watch(&w.at, w)
}

// The steps of an exit, in their order: dead, name free, context ended, watchers, links, registry.
func TestExitOrder(t *testing.T) {
	s := NewSystem(Options{})
	first, err := s.Start(t.Context(), linking{}, WithName("first"))
	require.NoError(t, err)
	second, err := s.Start(t.Context(), linking{}, WithName("second"))
	require.NoError(t, err)
	_, err = first.Call(t.Context(), second)
	require.NoError(t, err)
	lifetime := first.lifetime()
	var steps []string
	watchDown(first, func() {
		require.False(t, first.Alive())
		require.Nil(t, s.Whereis("first"))
		require.ErrorIs(t, context.Cause(lifetime), Killed)
		require.True(t, second.Alive(), "links come after monitors")
		steps = append(steps, "first")
	})
	watchDown(second, func() {
		require.Nil(t, s.Whereis("second"))
		_, registered := s.engine.ProcessRegistry.GetLocal(first.queue.address.Id)
		require.False(t, registered, "who dies of it follows when it is done")
		steps = append(steps, "second")
	})
	first.Kill()
	require.Equal(t, []string{"first", "second"}, steps)
	require.NoError(t, s.Close(t.Context()))
}

// Linking to a process that is dying does not hide what it dies of from who is linked to it already.
func TestLinkToADyingProcess(t *testing.T) {
	s := NewSystem(Options{})
	heard := make(chan any, 2)
	p, err := s.Start(t.Context(), &hearing{heard: heard})
	require.NoError(t, err)
	victim, err := s.Start(t.Context(), linking{})
	require.NoError(t, err)
	_, err = victim.Call(t.Context(), p)
	require.NoError(t, err)
	watchDown(victim, func() { p.context.Link(victim) })
	victim.Kill()
	require.Equal(t, any(Exit{PID: victim, Reason: Killed}), <-heard)
	require.NoError(t, s.Close(t.Context()))
	require.Empty(t, heard)
}

// hearing traps exits and passes on what it hears.
type hearing struct {
	Base
	heard chan any
}

func (*hearing) Init(c *Context) error {
	c.TrapExits()
	return nil
}

func (h *hearing) HandleInfo(_ *Context, msg any) error {
	h.heard <- msg
	return nil
}

// linking links to whom it is called with, and keeps every other call.
type linking struct{ Base }

func (linking) HandleCall(c *Context, from From, msg any) error {
	switch msg := msg.(type) {
	case *PID:
		c.Link(msg)
		from.Reply(nil)
	case chan From:
		msg <- from
	}
	return nil
}

// An answer given after the first watcher has heard of the death is no answer, though the caller has not heard yet.
func TestNoAnswerFromTheDead(t *testing.T) {
	s := NewSystem(Options{})
	p, err := s.Start(t.Context(), linking{})
	require.NoError(t, err)
	froms := make(chan From, 1)
	watchDown(p, func() { (<-froms).Reply("too late") })
	outcome := make(chan error, 1)
	go func() {
		_, err := p.Call(context.Background(), froms)
		outcome <- err
	}()
	froms <- <-froms
	p.Kill()
	require.ErrorIs(t, <-outcome, Killed)
	require.NoError(t, s.Close(t.Context()))
}

// What a process knows of others, and others of it, goes when it is settled: the tables of a long life do not grow.
func TestTablesDoNotGrow(t *testing.T) {
	s := NewSystem(Options{})
	acting := func() *PID {
		p, err := s.Start(t.Context(), acting{})
		require.NoError(t, err)
		return p
	}
	do := func(p *PID, f func(*Context)) {
		_, err := p.Call(t.Context(), f)
		require.NoError(t, err)
	}
	sizes := func(p *PID) [3]int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return [3]int{p.watchers.n, p.links.n, p.owned.n}
	}
	long := acting()
	for range 10 {
		short := acting()
		// Short-lived ones look at the long-lived one, and the reverse.
		do(short, func(c *Context) {
			c.Monitor(long)
			c.Demonitor(c.Monitor(long))
			c.Link(long)
			c.Request(long, time.Hour, chan From(nil), "never answered")
			c.SendRequest(long, chan From(nil))
			c.SetIdleTimeout(time.Hour, "x")
		})
		do(long, func(c *Context) {
			c.TrapExits()
			c.Monitor(short)
			c.Demonitor(c.Monitor(short))
			c.SendAfter(time.Hour, "x").Stop()
			c.SendAfter(0, "x")
			c.Request(short, time.Hour, func(*Context) {}, "answered")
			c.Request(short, time.Hour, chan From(nil), "never answered")
			c.Request(short, 0, chan From(nil), "late")
			c.SendRequest(short, func(*Context) {})
			c.SendRequest(short, chan From(nil))
			c.SendRequest(short, chan From(nil)).Abandon()
			c.SetIdleTimeout(time.Hour, "cancelled by what comes next")
			_, ref, err := c.StartMonitor(struct{ Base }{})
			require.NoError(t, err)
			c.Demonitor(ref)
			_, _, err = c.StartMonitor(failing{})
			require.ErrorIs(t, err, ErrIgnore)
		})
		long.SendRequest(chan From(nil)).Abandon()
		long.SendRequest(func(*Context) {})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		_, err := long.Call(ctx, "given up")
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		short.Kill()
	}
	require.Eventually(t, func() bool { return sizes(long) == [3]int{} }, 10*time.Second, time.Millisecond)
	require.NoError(t, s.Close(t.Context()))
}

// failing does not start.
type failing struct{ Base }

func (failing) Init(*Context) error { return ErrIgnore }

// acting runs what it is called with, and does not answer other calls.
type acting struct{ Base }

func (acting) HandleCall(c *Context, from From, msg any) error {
	if f, ok := msg.(func(*Context)); ok {
		f(c)
		from.Reply(nil)
	}
	return nil
}

// A dead process holds on to nothing of what it worked with.
func TestTheDeadKeepNothing(t *testing.T) {
	s := NewSystem(Options{})
	for _, end := range []func(*PID){
		func(p *PID) { p.Kill() },
		func(p *PID) { require.NoError(t, p.Stop(t.Context(), nil)) },
	} {
		p, err := s.Start(t.Context(), struct{ Base }{})
		require.NoError(t, err)
		end(p)
		require.NoError(t, s.Close(t.Context()))
		p.mu.Lock()
		require.Nil(t, p.impl)
		require.Nil(t, p.inbox.in)
		p.mu.Unlock()
		_, registered := s.engine.ProcessRegistry.GetLocal(p.queue.address.Id)
		require.False(t, registered)
		s = NewSystem(Options{})
	}
	require.NoError(t, s.Close(t.Context()))
}
