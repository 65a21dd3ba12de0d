package explore

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// The four mistakes that matter most are all about what an end is taken for. They are made here by somebody who stands in
// front of the machine that ships and shows it another end than the one that came, or none: for the machine that is the same
// as to decide wrongly, and it needs no hook. That the same mistakes are found when they are made inside the machine, with
// others, is for TestMistakes; it has to compile each, so only .ci/run makes them.

// misreading is a mistake: what the machine is shown instead of an end; nil shows it nothing.
type misreading func(v dcp.RawVBucket, end mcbp.Frame) mcbp.Frame

// own reports whether an end is that of the vbucket's current stream or add.
func own(v dcp.RawVBucket, end mcbp.Frame) bool { return v.Known && v.Stream == end.Opaque() }

// asOwn is an end with the opaque of the current stream.
func asOwn(v dcp.RawVBucket, end mcbp.Frame) mcbp.Frame {
	if !v.Known {
		return end
	}
	other := slices.Clone(end)
	copy(other[12:16], v.Stream[:])
	return other
}

// withoutRule3 lets an end pass that comes before the answer of its ADD_STREAM.
func withoutRule3(v dcp.RawVBucket, end mcbp.Frame) mcbp.Frame {
	if v.State == "adding" && own(v, end) {
		return nil
	}
	return end
}

// byTheOpaqueOfTheAdd compares the end of a stream that is being added with the opaque of our ADD_STREAM, as the reference
// does. Engines number their streams by themselves, so it is never the same.
func byTheOpaqueOfTheAdd(v dcp.RawVBucket, end mcbp.Frame) mcbp.Frame {
	if (v.State == "adding" || v.State == "takeover") && !v.Answered && !v.Active {
		return nil
	}
	return end
}

// byVBucketAlone takes every end for the current stream's.
func byVBucketAlone(v dcp.RawVBucket, end mcbp.Frame) mcbp.Frame { return asOwn(v, end) }

// ofTheTakeover takes the late end of a stream that was closed for the end of the takeover that follows it.
func ofTheTakeover(v dcp.RawVBucket, end mcbp.Frame) mcbp.Frame {
	if v.State == "takeover" && v.Answered {
		return asOwn(v, end)
	}
	return end
}

// misread is the exploration that must find them. It has one vbucket, and every order of an engine's frames and the other's.
func misread(t *testing.T, by misreading, asks string) *search {
	t.Helper()
	i := slices.IndexFunc(small, func(cfg config) bool { return cfg.name == "overtake" })
	require.GreaterOrEqual(t, i, 0)
	cfg := small[i]
	cfg.misread, cfg.asks = by, asks
	return explore(&cfg, nil)
}

func TestMisreadEndsAreFound(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		by    misreading
		finds invariant
		story []string // words that it must contain
	}{
		{
			"rule 3 is taken out: the hang", withoutRule3, invHang,
			[]string{"forgets its answer"},
		},
		{
			"compared with the opaque of our ADD_STREAM: the ghost stream", byTheOpaqueOfTheAdd, invStreams,
			[]string{"will answer for the dead stream"},
		},
		{
			"matched by vbucket alone: the false crash", byVBucketAlone, invStale,
			[]string{"will end the stream later", "STREAM_END (closed) before ADD_STREAM was answered"},
		},
		{
			"a closed stream's late end taken for the takeover's: the false takeover failure", ofTheTakeover, invCause,
			[]string{"will end the stream later", "take over vb 0"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := misread(t, tt.by, invariantNames[tt.finds])
			require.NotNil(t, s.found, "not found")
			assert.Equal(t, tt.finds, s.found.invariant)
			for _, words := range tt.story {
				assert.Contains(t, s.verdict(), words)
			}
			t.Logf("after %d states: %s", len(s.nodes), s.verdict())
		})
	}
	t.Run("and nothing is, when ends are read as they are", func(t *testing.T) {
		t.Parallel()
		s := misread(t, func(_ dcp.RawVBucket, end mcbp.Frame) mcbp.Frame { return end }, "")
		assert.Nil(t, s.found, s.verdict())
		assert.True(t, s.complete)
	})
}
