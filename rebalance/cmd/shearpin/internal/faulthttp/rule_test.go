package faulthttp

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

func TestEveryActionCanBeAskedFor(t *testing.T) {
	asked := map[string]bool{}
	for text, want := range map[string]fault.Action{
		`{"action": "delay", "for": "1.5s"}`:                       fault.Delay{For: 1500 * time.Millisecond},
		`{"action": "drop"}`:                                       fault.Drop{},
		`{"action": "duplicate", "copies": 2}`:                     fault.Duplicate{Copies: 2},
		`{"action": "answer", "status": 134}`:                      fault.Answer{Status: mcbp.StatusTemporaryFailure},
		`{"action": "no-answer"}`:                                  fault.NoAnswer{},
		`{"action": "stop-reading"}`:                               fault.StopReading{},
		`{"action": "cut"}`:                                        fault.Cut{},
		`{"action": "pause", "for": "1s"}`:                         fault.Pause{For: time.Second},
		`{"action": "close", "how": "rst"}`:                        fault.Close{How: fault.RST},
		`{"action": "close", "how": "half"}`:                       fault.Close{How: fault.Half},
		`{"action": "close"}`:                                      fault.Close{},
		`{"action": "trickle", "bytes": 3, "every": "1ms"}`:        fault.Trickle{Bytes: 3, Every: time.Millisecond},
		`{"action": "garbage", "bytes": 3}`:                        fault.Garbage{Bytes: 3},
		`{"action": "truncate", "bytes": 3}`:                       fault.Truncate{Bytes: 3},
		`{"action": "huge-length", "body": 3}`:                     fault.HugeLength{Body: 3},
		`{"action": "opaque", "to": 258}`:                          fault.Opaque{To: mcbp.Opaque{0, 0, 1, 2}},
		`{"action": "stale-opaque"}`:                               fault.StaleOpaque{},
		`{"action": "end-stream", "reason": 2, "before": true}`:    fault.EndStream{Reason: mcbp.EndStateChanged, Before: true},
		`{"action": "refuse-rollback", "status": "0x22"}`:          fault.RefuseRollback{Status: mcbp.StatusRange},
		`{"action": "seqnos", "by": -7}`:                           fault.Seqnos{By: -7},
		`{"action": "slow-disk", "for": "1s", "kinds": ["write"]}`: fault.SlowDisk{For: time.Second, Kinds: []kvnode.DiskKind{kvnode.DiskWrite}},
		`{"action": "hold", "until": {"opcodes": ["0x53"], "frames": "answers"}, "at_most": "1s"}`: fault.Hold{
			Until: fault.Match{Opcodes: []mcbp.Opcode{mcbp.OpDCPStreamReq}, Frames: fault.Answers}, AtMost: time.Second,
		},
	} {
		r, err := ParseRule(strings.NewReader(`{"do": ` + text + `}`))
		require.NoError(t, err, text)
		assert.Equal(t, want, r.Do)
		var name struct{ Action string }
		require.NoError(t, json.Unmarshal([]byte(text), &name))
		asked[name.Action] = true
	}
	assert.Len(t, asked, len(Actions()), "each is here")
}

func TestAWholeRule(t *testing.T) {
	r, err := ParseRule(strings.NewReader(`{
		"name": "mine", "after": 1, "times": 2, "probability": 0.5,
		"match": {"node": "n0", "bucket": "b", "connection": "c*", "peer": "p", "role": "producer", "direction": "sent",
			"frames": "answers", "opcodes": ["DCP_STREAM_REQ"], "vbuckets": [1, 2], "statuses": [0, "0x23"]},
		"do": {"action": "drop"}}`))
	require.NoError(t, err)
	assert.Equal(t, fault.Rule{
		Name: "mine", After: 1, Times: 2, Probability: 0.5, Do: fault.Drop{},
		Match: fault.Match{
			Node: "n0", Bucket: "b", Connection: "c*", Peer: "p", Role: fault.Producer, Direction: fault.Sent, Frames: fault.Answers,
			Opcodes: []mcbp.Opcode{mcbp.OpDCPStreamReq}, VBuckets: []uint16{1, 2},
			Statuses: []mcbp.Status{mcbp.StatusSuccess, mcbp.StatusRollback},
		},
	}, r)
}

func TestWrongRulesNameFieldAndValue(t *testing.T) {
	for text, want := range map[string][2]string{
		`{}`:                                    {"do", "nothing"},
		`{"do": 7}`:                             {"do", "number"},
		`{"do": {}}`:                            {"do.action", ""},
		`{"do": {"action": "explode"}}`:         {"do.action", "explode"},
		`{"do": {"action": "drop", "hard": 1}}`: {"do.hard", "unknown"},
		`{"do": {"action": "delay", "for": "long"}}`:                  {"do.for", "long"},
		`{"do": {"action": "hold", "at_most": "x"}}`:                  {"do.at_most", "x"},
		`{"do": {"action": "hold", "until": {"role": "x"}}}`:          {"do.until.role", "x"},
		`{"do": {"action": "answer", "status": "bad"}}`:               {"do.status", "bad"},
		`{"do": {"action": "close", "how": "gently"}}`:                {"do.how", "gently"},
		`{"do": {"action": "slow-disk", "kinds": ["x"]}}`:             {"do.kinds", "x"},
		`{"do": {"action": "duplicate", "copies": "two"}}`:            {"do.copies", "string"},
		`{"match": {"opcodes": ["SET", "JUMP"]}, "do": {}}`:           {"match.opcodes[1]", "JUMP"},
		`{"match": {"vbuckets": [70000]}, "do": {"action": "drop"}}`:  {"match.vbuckets", "70000"},
		`{"match": {"statuses": [1, "x"]}, "do": {"action": "drop"}}`: {"match.statuses[1]", "x"},
		`{"match": {"direction": "up"}, "do": {"action": "drop"}}`:    {"match.direction", "up"},
		`{"match": {"frames": "x"}, "do": {"action": "drop"}}`:        {"match.frames", "x"},
		`{"wrong": 1}`:                                                      {"wrong", "unknown"},
		`{"times": "often"}`:                                                {"times", "string"},
		`{"do": {"action": "drop"}} {}`:                                     {"rule", "more than one value"},
		`{"do": {"action": "drop"}}]`:                                       {"rule", "more than one value"},
		`{"do": {"action": "drop"}}}`:                                       {"rule", "more than one value"},
		`{"match": {"statuses": [""]}, "do": {"action": "drop"}}`:           {"match.statuses[0]", "must be a number"},
		`{"do": {"action": "answer", "status": ""}}`:                        {"do.status", "must be a number"},
		`{"match": {"opcodes": ["opcode 0x0f"]}, "do": {"action": "drop"}}`: {"match.opcodes[0]", "no such opcode"},
	} {
		_, err := ParseRule(strings.NewReader(text))
		var wrong *FieldError
		require.ErrorAs(t, err, &wrong, text)
		assert.Equal(t, want[0], strings.ToLower(wrong.Field), text)
		assert.Contains(t, wrong.Error(), want[1], text)
	}
	_, err := ParseRule(strings.NewReader(`{`))
	require.ErrorContains(t, err, "unexpected EOF")
}

// A list that is there and empty fits nothing, as in Go; what is left out, or null, fits all.
func TestEmptyListsStayEmpty(t *testing.T) {
	r, err := ParseRule(strings.NewReader(`{
		"match": {"opcodes": [], "vbuckets": [], "statuses": []}, "do": {"action": "slow-disk", "kinds": []}}`))
	require.NoError(t, err)
	assert.Equal(t, fault.Match{Opcodes: []mcbp.Opcode{}, VBuckets: []uint16{}, Statuses: []mcbp.Status{}}, r.Match)
	assert.Equal(t, fault.SlowDisk{Kinds: []kvnode.DiskKind{}}, r.Do)
	r, err = ParseRule(strings.NewReader(`{"match": {"opcodes": null}, "do": {"action": "slow-disk"}}`))
	require.NoError(t, err)
	assert.Equal(t, fault.Rule{Do: fault.SlowDisk{}}, r)
}

func FuzzParseRule(f *testing.F) {
	f.Add([]byte(`{"times": 1, "match": {"opcodes": ["SET"], "statuses": ["0x1"]}, "do": {"action": "hold", "until": {}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRule(strings.NewReader(string(b)))
		if err != nil {
			return
		}
		added, err := fault.NewScript(1).Add(r)
		if err == nil {
			assert.NotEmpty(t, added.String())
		}
	})
}
