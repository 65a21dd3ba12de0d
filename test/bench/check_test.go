package bench

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if playPart() {
		return
	}
	goleak.VerifyTestMain(m)
}

// A comparison is worth nothing if one side does less. Every workload checks that its work was seen by the other side; here
// it also has to leave nobody behind.
func TestEveryWorldDoesTheWork(t *testing.T) {
	for _, work := range workloads {
		for _, c := range contenders {
			t.Run(work.name+"/"+c.name, func(t *testing.T) {
				w := c.open()
				figures := work.run(t, w, work.few)
				require.Len(t, figures, len(work.figures))
				require.Zero(t, w.close(), "processes are left")
			})
		}
	}
}

func TestMedianAndRatio(t *testing.T) {
	require.Equal(t, int64(3), median([]int64{9, 1, 3}))
	require.Zero(t, median([]int64(nil)))
	r := row{figure: figure{name: "a", unit: micros, target: target{0.5, ratioAtMost}}}
	r.rounds = [...][]float64{{1, 2, 3}, {4, 4, 4}, {2, 2, 2}}
	require.Equal(t, []float64{0.25, 0.5, 0.75}, r.byRounds(raw))
	require.Contains(t, r.verdict(), "met")
	r.target.limit = 0.49
	require.Contains(t, r.verdict(), "MISSED")
	r.target = target{0.51, ratioAtLeast}
	require.Contains(t, r.verdict(), "MISSED")
	r.target = target{1.9, atMost}
	require.Contains(t, r.verdict(), "MISSED")
	require.Contains(t, table([]row{r}), "0.50 (0.25-0.75)")
}
