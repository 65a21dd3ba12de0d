package actors

import (
	"math/rand/v2"
	"slices"
	"testing"

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
