package workload_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/workload"
)

func version(v uint32) workload.Found { return workload.Found{Exists: true, Known: true, Version: v} }

func TestWhatADocumentMayHold(t *testing.T) {
	absent, alien := workload.Found{}, workload.Found{Exists: true}
	for name, tc := range map[string]struct {
		acked, sent uint32
		found       workload.Found
		holds       bool
	}{
		"the version acknowledged last":                {3, 3, version(3), true},
		"an older version was acknowledged too":        {3, 3, version(2), false},
		"a later one that was never answered":          {3, 4, version(4), true},
		"the acknowledged one, a later unanswered":     {3, 4, version(3), true},
		"any of several that were never answered":      {3, 6, version(5), true},
		"one that was never sent":                      {3, 4, version(5), false},
		"a value that nobody wrote":                    {3, 3, alien, false},
		"no document after an acknowledged write":      {3, 3, absent, false},
		"no document after unanswered writes only":     {0, 2, absent, true},
		"an unanswered first write":                    {0, 1, version(1), true},
		"no document where nothing was sent":           {0, 0, absent, true},
		"a document where nothing was sent":            {0, 0, version(0), false},
		"version 0, which is never sent":               {0, 2, version(0), false},
		"a value that nobody wrote, nothing was acked": {0, 1, alien, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := workload.NewLedger(1)
			for v := uint32(1); v <= tc.sent; v++ {
				got, _ := l.Begin(0)
				require.Equal(t, v, got)
				if v <= tc.acked {
					l.Ack(0, v, uint64(100+v))
				}
			}
			assert.Equal(t, tc.holds, l.Holds(0, tc.found))
		})
	}
}

func TestBeginGivesTheCASOfTheAcknowledgedPredecessor(t *testing.T) {
	l := workload.NewLedger(2)
	v, cas := l.Begin(1)
	assert.Equal(t, uint32(1), v)
	assert.Zero(t, cas, "the first version must not find a document")
	l.Ack(1, v, 77)
	v, cas = l.Begin(1)
	assert.Equal(t, uint32(2), v)
	assert.Equal(t, uint64(77), cas)
	v, cas = l.Begin(1)
	assert.Equal(t, uint32(3), v, "an unanswered version is not used again")
	assert.Equal(t, uint64(77), cas)

	from, to, ok := l.Unanswered(1)
	assert.True(t, ok)
	assert.Equal(t, []uint32{2, 3}, []uint32{from, to})
	_, _, ok = l.Unanswered(0)
	assert.False(t, ok)
	assert.Equal(t, 1, l.AckedWrites())
	assert.Equal(t, uint32(1), l.Acknowledged(1))
}

func TestValuesAreRecognisedAndDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := workload.NewContent(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(workload.MinValueSize, 600).Draw(t, "size"))
		doc, other := rapid.IntRange(0, 1<<20).Draw(t, "doc"), rapid.IntRange(0, 1<<20).Draw(t, "other doc")
		ver := rapid.Uint32().Draw(t, "version")

		value := c.Value(doc, ver)
		assert.Equal(t, value, c.Value(doc, ver))
		got, ok := c.Version(doc, value)
		assert.True(t, ok)
		assert.Equal(t, ver, got)
		if other != doc {
			_, ok = c.Version(other, value)
			assert.False(t, ok, "the value of another document")
		}
		damaged := append([]byte(nil), value...)
		damaged[rapid.IntRange(0, len(damaged)-1).Draw(t, "damaged at")] ^= 1
		_, ok = c.Version(doc, damaged)
		assert.False(t, ok)
		_, ok = c.Version(doc, value[:rapid.IntRange(0, len(value)-1).Draw(t, "cut at")])
		assert.False(t, ok)
	})
}

func TestSeedDecidesValues(t *testing.T) {
	a, b := workload.NewContent(1, 64), workload.NewContent(2, 64)
	assert.NotEqual(t, a.Value(5, 1), b.Value(5, 1))
	assert.Equal(t, a.Key(5), b.Key(5))
}
