package explore

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A search follows copies of worlds: what happens in one must not be seen in another, and both must have the same future.
func TestACopyIsAWorldOfItsOwn(t *testing.T) {
	t.Parallel()
	for _, cfg := range append(small[:len(small):len(small)], wild) {
		rng := rand.New(rand.NewPCG(1, 2))
		original := newWorld(&cfg, newTally())
		var choices []action
		for range 300 {
			if choices = original.actions(choices); len(choices) == 0 {
				original = newWorld(&cfg, newTally())
				continue
			}
			before := original.text()
			copied := original.copy()
			require.Equal(t, before, copied.text())
			a := choices[rng.IntN(len(choices))]
			copied.do(a)
			require.Equal(t, before, original.text(), "%s: what happens in a copy shows in the original", cfg.name)
			after := copied.text()
			original.do(a)
			require.Equal(t, after, original.text(), "%s: a copy has another future", cfg.name)
			require.Equal(t, after, copied.text(), "%s: what happens in the original shows in a copy", cfg.name)
			require.Nil(t, original.broken)
		}
	}
}

func TestDeepCopyFollowsWhatPointsBack(t *testing.T) {
	t.Parallel()
	type ring struct {
		next  *ring
		seen  map[*ring]int
		names []string
	}
	a := &ring{names: []string{"a"}}
	a.next = &ring{next: a}
	a.seen = map[*ring]int{a: 1, a.next: 2}
	b := deepCopy(a)
	assert.Same(t, b, b.next.next)
	assert.NotSame(t, a.next, b.next)
	assert.Equal(t, map[*ring]int{b: 1, b.next: 2}, b.seen)
	b.names[0] = "b"
	assert.Equal(t, "a", a.names[0])
}
