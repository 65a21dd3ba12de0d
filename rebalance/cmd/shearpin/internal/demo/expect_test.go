package demo

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/workload"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

var (
	addOpaque    = mcbp.Opaque{0xff, 0, 0x11, 0xff}
	streamOpaque = mcbp.Opaque{1, 0, 0, 0}
	madeUp       = mcbp.Opaque{0xff, 0x7e, 0x7e, 0xff}
	faultLink    = dcp.Link{Bucket: bucket, Producer: "n0", Consumer: "n3"}
)

// reasons are what the connection of each kind must end with, or for add-error what the call must be answered with.
func reasonOf(kind fault.Kind) error {
	crash := func(role string, err error) error {
		return &dcp.LinkError{Producer: "n0", Consumer: "n3", Err: &dcp.CrashError{Role: role, Err: err}}
	}
	switch kind {
	case fault.EarlyStreamEnd, fault.LateAnswer:
		return crash(dcp.RoleConsumer, &dcp.UnexpectedStreamEnd{
			VB: 17, AddOpaque: addOpaque, StreamOpaque: streamOpaque, Reason: mcbp.EndStateChanged,
		})
	case fault.NoAddResponse:
		return crash(dcp.RoleConsumer, &dcp.AddStreamTimeout{
			VBs: []uint16{17}, AddOpaques: []mcbp.Opaque{addOpaque}, StreamOpaques: []*mcbp.Opaque{nil},
		})
	case fault.UnknownOpaque:
		return crash(dcp.RoleConsumer, &dcp.UnknownOpaque{
			Opcode: mcbp.OpDCPAddStream, Opaque: madeUp, Role: dcp.RoleConsumer, VBs: []uint16{17},
		})
	case fault.DropConsumer:
		return crash(dcp.RoleConsumer, fmt.Errorf("%w: %w", dcp.ErrSocketClosed, io.EOF))
	case fault.DropProducer:
		return crash(dcp.RoleProducer, fmt.Errorf("%w: %w", dcp.ErrSocketClosed, io.EOF))
	case fault.AddError:
		return &dcp.StreamStatusError{Op: mcbp.OpDCPAddStream, VB: 17, Role: dcp.RoleConsumer, Status: mcbp.StatusNotMyVBucket}
	}
	return nil
}

// asItMustBe is a run of a kind in which all was seen.
func asItMustBe(kind fault.Kind) *observations {
	opts := defaults()
	opts.VBuckets, opts.Fault = 2, kind.String()
	complete := &rebalance.Report{Outcome: rebalance.Complete, MovesPlanned: 9, Moves: 9}
	o := &observations{
		opts:      opts,
		reports:   []*rebalance.Report{complete},
		fault:     &fault.Record{Kind: kind, VB: 17, Producer: "n0", Consumer: "n3", AddOpaque: addOpaque, StreamOpaque: streamOpaque, Requested: kind != fault.NoAddResponse, MadeUp: madeUp},
		documents: true, replicas: true,
		chains: vbmap.Map{{"n0", "n3"}, {"n2", "n1"}},
	}
	want := expectations[kind]
	if want.fails {
		err := &rebalance.RebalanceError{Bucket: bucket, Err: &rebalance.MoveError{VB: 17, From: "n0", To: "n3", Err: reasonOf(kind)}}
		failed := &rebalance.Report{Outcome: rebalance.Failed, MovesPlanned: 9, Moves: 2, Err: err, Cause: rebalance.Causes(err)}
		o.reports = []*rebalance.Report{failed, complete}
		o.repaired, o.abort = true, new(time.Duration)
	}
	if want.firstExit != "" {
		o.exits = []exit{{link: faultLink, role: want.firstExit, reason: reasonOf(kind)}}
		o.restarts = 1
	}
	return o
}

func TestEveryKindHasItsExpectation(t *testing.T) {
	for _, kind := range fault.Kinds() {
		assert.Contains(t, expectations, kind)
		assert.Empty(t, asItMustBe(kind).failures(), "%v", kind)
	}
	assert.Len(t, expectations, len(fault.Kinds()))
}

func TestRunWithoutFault(t *testing.T) {
	o := asItMustBe(fault.StaleStreamEnd)
	o.opts.Fault, o.fault = NoFault, nil
	assert.Empty(t, o.failures())
}

func TestEveryUnmetExpectationIsNamed(t *testing.T) {
	other := errors.New("something else")
	for want, tc := range map[string]struct {
		kind   fault.Kind
		change func(*observations)
	}{
		"the run did not come to its end: something else": {fault.StaleStreamEnd, func(o *observations) { o.err = other }},
		"fault late-answer: nothing that fits it happened": {fault.LateAnswer, func(o *observations) {
			o.fault, o.reports, o.exits, o.restarts = nil, o.reports[1:], nil, 0
		}},
		"rebalance 1: must be complete, is failed because: a: b": {fault.StaleStreamEnd, func(o *observations) {
			o.reports[0] = &rebalance.Report{Outcome: rebalance.Failed, Cause: []string{"a", "b"}}
		}},
		"rebalance 1: must be failed, is complete": {fault.AddError, func(o *observations) { o.reports[0] = o.reports[1] }},
		"rebalance 2: must be complete, is stopped": {fault.AddError, func(o *observations) {
			o.reports[1] = &rebalance.Report{Outcome: rebalance.Stopped}
		}},
		"rebalance 2: must be complete, did not run":        {fault.AddError, func(o *observations) { o.reports = o.reports[:1] }},
		"rebalance 1: is complete with 8 of 9 moves":        {fault.StaleStreamEnd, func(o *observations) { o.reports[0].Moves = 8 }},
		"2 rebalances ran, 1 were to":                       {fault.StaleStreamEnd, func(o *observations) { o.reports = append(o.reports, o.reports[0]) }},
		"janitor: did not repair after the failed":          {fault.DropConsumer, func(o *observations) { o.repaired = false }},
		"fault no-add-response: it is not known when":       {fault.NoAddResponse, func(o *observations) { o.abort = nil }},
		"rebalance 1: its cause is no unexpected_stream":    {fault.EarlyStreamEnd, func(o *observations) { o.reports[0].Err = other }},
		"rebalance 1: its cause is no add_stream_timeout":   {fault.NoAddResponse, func(o *observations) { o.reports[0].Err = other }},
		"rebalance 1: its cause is no unknown_opaque":       {fault.UnknownOpaque, func(o *observations) { o.reports[0].Err = other }},
		"rebalance 1: its cause is no closed socket":        {fault.DropProducer, func(o *observations) { o.reports[0].Err = other }},
		"rebalance 1: its cause is no refused stream":       {fault.AddError, func(o *observations) { o.reports[0].Err = other }},
		"rebalance 1: its innermost cause must contain \"v": {fault.LateAnswer, func(o *observations) { o.reports[0].Cause = []string{"x"} }},
		"first process to exit: must be none, is producer":  {fault.AddError, func(o *observations) { o.exits = []exit{{role: "producer", reason: other}} }},
		"restarts of consumer connections: must be 0, are":  {fault.StaleStreamEnd, func(o *observations) { o.restarts = 1 }},
		"restarts of consumer connections: must be at leas": {fault.DropConsumer, func(o *observations) { o.restarts = 0 }},
		"first process to exit: must be the consumer conne": {fault.DropConsumer, func(o *observations) { o.exits[0].role = dcp.RoleProducer }},
		"first process to exit: must be the producer conne": {fault.DropProducer, func(o *observations) { o.exits = nil }},
		"first process to exit: its reason is no closed so": {fault.DropProducer, func(o *observations) { o.exits[0].reason = other }},
		"3 events were lost":                                {fault.StaleStreamEnd, func(o *observations) { o.eventsLost = 3 }},
		"a writer failed: something else":                   {fault.StaleStreamEnd, func(o *observations) { o.writers = other }},
		"documents: not all were read back":                 {fault.StaleStreamEnd, func(o *observations) { o.documents = false }},
		"documents: 1 acknowledged writes are lost":         {fault.StaleStreamEnd, func(o *observations) { o.losses = make([]workload.Loss, 1) }},
		"replicas: not all were compared":                   {fault.StaleStreamEnd, func(o *observations) { o.replicas = false }},
		"replicas: 2 differ from what they must be":         {fault.StaleStreamEnd, func(o *observations) { o.mismatches = make([]workload.Mismatch, 2) }},
		"map: vb 1 has only [n2 -], must have 2 copies":     {fault.StaleStreamEnd, func(o *observations) { o.chains[1][1] = "" }},
		"map: vb 0 is on [n0 n9], must only be on":          {fault.StaleStreamEnd, func(o *observations) { o.chains[0][1] = "n9" }},
	} {
		t.Run(want, func(t *testing.T) {
			o := asItMustBe(tc.kind)
			tc.change(o)
			failures := o.failures()
			require.NotEmpty(t, failures)
			assert.Contains(t, fmt.Sprint(failures), want)
		})
	}
}

// A crash with the right type but about another vbucket or stream is another crash.
func TestCauseMustBeTheInjectedFault(t *testing.T) {
	for want, tc := range map[string]struct {
		kind   fault.Kind
		change func(*fault.Record)
	}{
		"its cause names vb=17 ":                                           {fault.EarlyStreamEnd, func(r *fault.Record) { r.VB++ }},
		"its cause names vb=17 add_opaque=ff0011":                          {fault.LateAnswer, func(r *fault.Record) { r.AddOpaque[1]++ }},
		"its cause names vb=17 add_opaque=ff0011ff stream_opaque=01000000": {fault.EarlyStreamEnd, func(r *fault.Record) { r.StreamOpaque[0]++ }},
		"its cause names vbuckets [17]":                                    {fault.NoAddResponse, func(r *fault.Record) { r.VB++ }},
		"its cause names vbuckets [17] with":                               {fault.NoAddResponse, func(r *fault.Record) { r.AddOpaque[1]++ }},
		"its cause names opaque ff7e7eff":                                  {fault.UnknownOpaque, func(r *fault.Record) { r.MadeUp[1]++ }},
		"its cause is not my vbucket (0x07) for vb 17":                     {fault.AddError, func(r *fault.Record) { r.VB++ }},
	} {
		t.Run(want, func(t *testing.T) {
			o := asItMustBe(tc.kind)
			tc.change(o.fault)
			assert.Contains(t, fmt.Sprint(o.failures()), want)
		})
	}
}

func TestFirstExitMustBeOnTheFaultsLink(t *testing.T) {
	o := asItMustBe(fault.LateAnswer)
	o.exits[0].link.Consumer = "n1"
	assert.Contains(t, fmt.Sprint(o.failures()), "must be the consumer connection of n0→n3")
}
