package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/demo"
)

// fields are those that --json always prints, in order.
var fields = []string{
	"status", "failures", "error", "rebalances", "fault", "acked_writes", "lost_writes", "mismatched_replicas",
	"connection_restarts", "janitor_runs", "seconds",
}

// checkResult is the script command
//
//	result STATUS [OUTCOME...]
//
// Standard output of the last command must be one JSON object with all fields of a result, this status, and rebalances
// with these outcomes.
func checkResult(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: result STATUS [OUTCOME...]")
	}
	line := ts.ReadFile("stdout")
	var present map[string]json.RawMessage
	ts.Check(json.Unmarshal([]byte(line), &present))
	for _, field := range fields {
		if _, ok := present[field]; !ok {
			ts.Fatalf("no field %q in %s", field, line)
		}
	}
	decoder := json.NewDecoder(strings.NewReader(line))
	decoder.DisallowUnknownFields()
	var r demo.Result
	ts.Check(decoder.Decode(&r))
	if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
		ts.Fatalf("not one line: %q", line)
	}
	var outcomes []string
	for _, rebalance := range r.Rebalances {
		outcomes = append(outcomes, rebalance.Outcome)
		if rebalance.Cause == nil {
			ts.Fatalf("cause is null: %s", line)
		}
	}
	if r.Status != args[0] || !slices.Equal(outcomes, args[1:]) {
		ts.Fatalf("status %s, outcomes %v: %s", r.Status, outcomes, line)
	}
}

// checkTrace is the script command
//
//	trace FILE [PART/EVENT...]
//
// Every line of FILE must be a JSON object with t_ns, level and event, and these events of these parts must be among
// them, in this order of their stamps.
func checkTrace(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: trace FILE [PART/EVENT...]")
	}
	type event struct {
		T     *int64 `json:"t_ns"`
		Level string `json:"level"`
		Part  string `json:"part"`
		Event string `json:"event"`
	}
	var events []event
	for line := range bytes.Lines([]byte(ts.ReadFile(args[0]))) {
		var e event
		ts.Check(json.Unmarshal(line, &e))
		if e.T == nil || e.Level == "" || e.Event == "" {
			ts.Fatalf("incomplete line %s", line)
		}
		events = append(events, e)
	}
	slices.SortStableFunc(events, func(a, b event) int { return int(*a.T - *b.T) })
	for _, e := range events {
		if len(args) > 1 && e.Part+"/"+e.Event == args[1] {
			args = slices.Delete(args, 1, 2)
		}
	}
	if len(args) > 1 {
		ts.Fatalf("%s is not there, or not in this order", args[1])
	}
}
