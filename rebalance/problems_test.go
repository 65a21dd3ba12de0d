package rebalance

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A report is read by many at the same time: whoever asks it for its problem leaves it as it is.
func TestTheProblemOfAReportIsAListOfItsOwn(t *testing.T) {
	failed, held := errors.New("n1 failed"), errors.New("vb 3 is left alone")
	for name, problem := range map[string]func(errs []error, held map[uint16]error) error{
		"janitor": func(errs []error, held map[uint16]error) error {
			return JanitorReport{Buckets: []JanitorBucketReport{{Name: "orders", Errs: errs, Held: held}}}.Problem()
		},
		"failover": func(errs []error, held map[uint16]error) error {
			return (&BucketFailover{Name: "orders", Errs: errs, Refused: held}).problem()
		},
	} {
		t.Run(name, func(t *testing.T) {
			errs := append(make([]error, 0, 4), failed)
			err := problem(errs, map[uint16]error{3: held})
			require.ErrorIs(t, err, failed)
			require.ErrorIs(t, err, held)
			assert.Equal(t, []error{failed, nil}, errs[:2], "what comes after the report's own")
		})
	}
}

// What a rebalance passes over in the janitor's report is in it still for everybody else.
func TestARebalanceLeavesTheReportOfTheJanitorAsItIs(t *testing.T) {
	lost := &NoData{VB: 3}
	report := JanitorReport{Buckets: []JanitorBucketReport{{Name: "orders", Held: map[uint16]error{3: lost}}}}
	w := &bucketWork{name: "orders", env: &environment{nodes: newNodeTable(Config{})}}
	require.NoError(t, w.repaired(report), "it is made anew")
	assert.Equal(t, map[uint16]error{3: lost}, report.Buckets[0].Held)
}
