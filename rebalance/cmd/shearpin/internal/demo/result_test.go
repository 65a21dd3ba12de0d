package demo

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode/fault"
)

func TestResultOfACommandLineThatCannotBeUsed(t *testing.T) {
	line, err := json.Marshal(Failed(errors.New("--nodes 0: must be between 1 and 64")))
	require.NoError(t, err)
	assert.JSONEq(t, `{"status":"failed","failures":[],"error":"--nodes 0: must be between 1 and 64","rebalances":[],"fault":null,`+
		`"acked_writes":0,"lost_writes":0,"mismatched_replicas":0,"connection_restarts":0,"janitor_runs":0,"seconds":0.0}`, string(line))
	assert.Contains(t, string(line), `"seconds":0.000000`, "seconds always have a fraction")
}

func TestResultOfAFailureThatWasExpected(t *testing.T) {
	o := asItMustBe(fault.EarlyStreamEnd)
	*o.abort = 1500 * time.Microsecond
	o.acked, o.janitorRuns = 42, 3
	o.reports[0].Ended = o.reports[0].Started.Add(2 * time.Second)
	line, err := json.Marshal(result(o, 3*time.Second))
	require.NoError(t, err)
	assert.JSONEq(t, `{"status":"complete","failures":[],"error":null,
		"rebalances":[
			{"outcome":"failed","moves_planned":9,"moves":2,"seconds":2.0,"cause":[
				"rebalance of \"demo\" aborted","move of vb 17 n0→n3","replication n0→n3/0","consumer connection crashed",
				"unexpected_stream_end: STREAM_END (state changed) before ADD_STREAM was answered: vb=17 add_opaque=ff0011ff stream_opaque=01000000 code=2"]},
			{"outcome":"complete","moves_planned":9,"moves":9,"seconds":0.0,"cause":[]}],
		"fault":{"kind":"early-stream-end","vb":17,"producer":"n0","consumer":"n3","abort_ms":1.5},
		"acked_writes":42,"lost_writes":0,"mismatched_replicas":0,"connection_restarts":1,"janitor_runs":3,"seconds":3.0}`, string(line))
}

func TestStatusIsCompleteOnlyWithoutFailures(t *testing.T) {
	o := asItMustBe(fault.StaleStreamEnd)
	o.err = errors.New("a node did not start")
	r := result(o, time.Second)
	assert.Equal(t, StatusFailed, r.Status)
	assert.NotEmpty(t, r.Failures)
	assert.Equal(t, "a node did not start", *r.Error)
	assert.Nil(t, r.Fault.AbortMS)
}
