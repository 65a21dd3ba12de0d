package rebalance

import (
	"fmt"
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

func newOf(pointer any) any { return reflect.New(reflect.TypeOf(pointer).Elem()).Interface() }

func TestCausesAreTheLayersInTheirOwnWords(t *testing.T) {
	ended := &dcp.UnexpectedStreamEnd{VB: 17, AddOpaque: mcbp.Opaque{0xff, 0, 0x11, 0xff}, StreamOpaque: mcbp.Opaque{1}, Reason: mcbp.EndStateChanged}
	err := &RebalanceError{Bucket: "orders", Err: &MoveError{
		VB: 17, From: "n0", To: "n3", Step: StepStream,
		Err: &dcp.LinkError{Producer: "n0", Consumer: "n3", Err: &dcp.CrashError{Role: dcp.RoleConsumer, Err: ended}},
	}}
	assert.Equal(t, []string{
		`rebalance of "orders" aborted`,
		"move of vb 17 n0→n3",
		"replication n0→n3/0",
		"consumer connection crashed",
		ended.Error(),
	}, Causes(err))
	assert.Contains(t, err.Error(), `rebalance of "orders" aborted: move of vb 17 n0→n3: replication n0→n3/0: consumer connection crashed: `)
	var found *dcp.UnexpectedStreamEnd
	require.ErrorAs(t, err, &found)
}

func TestCausesOfOddErrors(t *testing.T) {
	assert.Empty(t, Causes(nil))
	assert.Equal(t, []string{"EOF"}, Causes(io.EOF))
	assert.Equal(t, []string{"EOF"}, Causes(silent{io.EOF}), "a layer that adds nothing")
	assert.Equal(t, []string{"reading", "EOF"}, Causes(fmt.Errorf("reading: %w", io.EOF)))
	assert.Equal(t, []string{"EOF while reading", "EOF"}, Causes(fmt.Errorf("%w while reading", io.EOF)))
	several := &NodesError{Doing: "preparing", Failed: []*NodeError{{"n0", io.EOF}, {"n1", io.ErrNoProgress}}}
	assert.Equal(t, []string{several.Error(), "node n0", "EOF"}, Causes(several))
	one := &NodesError{Doing: "preparing", Failed: several.Failed[:1]}
	assert.Equal(t, []string{"preparing failed", "node n0", "EOF"}, Causes(one))
}

// silent is a layer without words.
type silent struct{ err error }

func (s silent) Error() string { return s.err.Error() }
func (s silent) Unwrap() error { return s.err }

func TestErrorTexts(t *testing.T) {
	for want, err := range map[string]error{
		"rebalance aborted: EOF":                                                     &RebalanceError{Err: io.EOF},
		"move of vb 3 -→n1: EOF":                                                     &MoveError{VB: 3, To: "n1", Err: io.EOF},
		"node n0: EOF":                                                               &NodeError{Node: "n0", Err: io.EOF},
		"vb 3 has no active in its chain [- n1]":                                     &NoActive{VB: 3, Chain: vbmap.Chain{"", "n1"}},
		`backfill n0→n1: status "does_not_exist" for 10s`:                            &EstimateError{"n0", "n1", "does_not_exist", 10 * time.Second},
		"preparing failed on 2 nodes: node n0: EOF; node n1: EOF":                    &NodesError{"preparing", []*NodeError{{"n0", io.EOF}, {"n1", io.EOF}}},
		"5 differences from the map: a; b; c; d; …":                                  &Leftovers{[]string{"a", "b", "c", "d", "e"}},
		"1 differences from the map: a":                                              &Leftovers{[]string{"a"}},
		`janitor could not repair "orders": EOF; EOF`:                                &JanitorError{"orders", []error{io.EOF, io.EOF}},
		`janitor could not repair "orders": EOF; EOF; EOF; EOF; … (5 in all)`:        &JanitorError{"orders", []error{io.EOF, io.EOF, io.EOF, io.EOF, io.EOF}},
		"step persist of vb 3 made no progress for 2m0s: waited for n1: persistence": &StepTimeout{3, StepPersist, "n1: persistence", 2 * time.Minute},
	} {
		assert.Equal(t, want, err.Error())
	}
}

func TestBackfillThatTheProducerNeverHearsOfEnds(t *testing.T) {
	w := &backfillWatch{consumer: "n3"}
	limits := MoveLimits{}.withDefaults()
	var waited time.Duration
	for {
		_, err := w.observe("n0", estimateAnswer{Status: "connection_does_not_exist"}, limits)
		if err != nil {
			var failed *EstimateError
			require.ErrorAs(t, err, &failed)
			assert.GreaterOrEqual(t, waited, limits.Missing)
			assert.Less(t, waited, limits.Missing+lastPoll)
			return
		}
		require.False(t, w.done)
		waited += w.next()
	}
}

// A stream that is known again has its whole time to be unknown once more.
func TestBackfillThatIsKnownAgainStartsAnew(t *testing.T) {
	w := &backfillWatch{consumer: "n3"}
	limits := MoveLimits{}.withDefaults()
	for range 10 * int(limits.Missing/lastPoll) {
		_, err := w.observe("n0", estimateAnswer{Status: "stream_does_not_exist"}, limits)
		require.NoError(t, err)
		w.next()
		_, err = w.observe("n0", estimateAnswer{Status: "calculating-item-count"}, limits)
		require.NoError(t, err)
		w.next()
	}
}

func TestPlanRefusesWhatWouldLoseData(t *testing.T) {
	_, err := planMove(3, vbmap.Chain{"", "n1"}, vbmap.Chain{"n2", "n1"})
	var refused *NoActive
	require.ErrorAs(t, err, &refused)
	_, err = planMove(3, vbmap.Chain{"n0", "n1"}, vbmap.Chain{"", ""})
	require.ErrorAs(t, err, &refused)
	_, err = planMove(3, vbmap.Chain{"", ""}, vbmap.Chain{"n0", "n1"})
	require.NoError(t, err)
}

func TestConfigIsChecked(t *testing.T) {
	good := Node{Name: "n0", Addr: "127.0.0.1:11210"}
	_, err := Config{Nodes: []Node{good}}.validate()
	require.NoError(t, err)
	for name, c := range map[string]Config{
		"no name":     {Nodes: []Node{{Addr: good.Addr}}},
		"no port":     {Nodes: []Node{{Name: "n0", Addr: "127.0.0.1"}}},
		"twice":       {Nodes: []Node{good, good}},
		"connections": {Nodes: []Node{good}, Connections: 65},
	} {
		_, err := c.validate()
		assert.Error(t, err, name)
	}
	_, err = BucketConfig{Name: "orders"}.validate()
	require.NoError(t, err)
	for _, b := range []BucketConfig{{}, {Name: "a", VBuckets: -1}, {Name: "a", VBuckets: 65537}, {Name: "a", Replicas: 4}, {Name: "a", QuotaBytes: -1}} {
		_, err := b.validate()
		assert.Error(t, err)
	}
}
