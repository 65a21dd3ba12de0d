package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
)

// told is a rebalance of which only the given updates are told; until stop is called, if it waits for that.
func told(waits bool, stop error, updates ...control.Update) (handle rebalanceHandle, stops *int) {
	stops = new(int)
	stopped := make(chan struct{})
	return rebalanceHandle{
		follow: func(ctx context.Context) iter.Seq2[control.Update, error] {
			return func(yield func(control.Update, error) bool) {
				if !yield(control.Update{Progress: &rebalance.Progress{State: rebalance.Rebalancing}}, nil) {
					return
				}
				if waits {
					select {
					case <-stopped:
					case <-ctx.Done():
						return
					}
				}
				for _, update := range updates {
					if !yield(update, nil) {
						return
					}
				}
				yield(control.Update{}, errCut)
			}
		},
		stop: func(ctx context.Context) error {
			*stops++
			if stop != nil {
				return stop
			}
			if len(updates) == 0 {
				<-ctx.Done()
				return ctx.Err()
			}
			close(stopped)
			return nil
		},
	}, stops
}

var errCut = errors.New("the stream was cut")

func ended(outcome rebalance.Outcome) control.Update {
	return control.Update{Report: &rebalance.Report{ID: "abc", Outcome: outcome, Cause: []string{}}}
}

func TestTheExitStatusIsThatOfTheOutcome(t *testing.T) {
	for outcome, want := range map[rebalance.Outcome]int{
		rebalance.Complete: exitComplete, rebalance.Failed: exitFailed, rebalance.Stopped: exitStopped,
		rebalance.Interrupted: exitFailed, rebalance.Partial: exitFailed,
	} {
		var out, errs bytes.Buffer
		handle, _ := told(false, nil, ended(outcome))
		assert.Equal(t, want, (&managerFlags{JSON: true}).show(handle, streams{out: &out, err: &errs}), outcome)
		var report rebalance.Report
		require.NoError(t, json.Unmarshal(out.Bytes(), &report), out.String())
		assert.Equal(t, outcome, report.Outcome)
	}
}

func TestAStreamThatEndsWithoutAReportIsAFailure(t *testing.T) {
	var out, errs bytes.Buffer
	handle, _ := told(false, nil)
	assert.Equal(t, exitFailed, (&managerFlags{}).show(handle, streams{out: &out, err: &errs}))
	assert.Equal(t, "shearpin: the stream was cut\n", errs.String())

	handle, _ = told(false, nil, control.Update{Problem: &control.Problem{Code: control.CodeFailed, Text: "nobody knows"}})
	assert.Equal(t, exitFailed, (&managerFlags{JSON: true}).show(handle, streams{out: &out, err: &errs}))
	assert.Contains(t, out.String(), `{"error":{"code":"failed","text":"nobody knows"}}`)
}

func TestTheFirstSignalStopsTheRebalance(t *testing.T) {
	var out, errs bytes.Buffer
	handle, stops := told(true, nil, ended(rebalance.Stopped))
	signals := make(chan os.Signal, 2)
	signals <- os.Interrupt
	assert.Equal(t, exitStopped, (&managerFlags{}).show(handle, streams{out: &out, err: &errs, signals: signals}))
	assert.Equal(t, 1, *stops)
	assert.Contains(t, out.String(), "stopping; interrupt again to quit at once\n")
}

func TestTheSecondSignalQuits(t *testing.T) {
	var out, errs bytes.Buffer
	handle, _ := told(true, nil)
	signals := make(chan os.Signal, 2)
	signals <- os.Interrupt
	signals <- os.Interrupt
	assert.Equal(t, exitFailed, (&managerFlags{}).show(handle, streams{out: &out, err: &errs, signals: signals}))
	assert.Equal(t, "shearpin: interrupted twice: quit while it was being stopped\n", errs.String())
}

func TestAStopThatFailsIsSaid(t *testing.T) {
	var out, errs bytes.Buffer
	handle, _ := told(true, &control.UnreachableError{Where: "there", Err: errCut})
	signals := make(chan os.Signal, 2)
	signals <- os.Interrupt
	assert.Equal(t, exitUnreachable, (&managerFlags{}).show(handle, streams{out: &out, err: &errs, signals: signals}))
	assert.Equal(t, "shearpin: stopping it: no manager answers at there: the stream was cut\n", errs.String())
}

func TestNodesOnTheCommandLine(t *testing.T) {
	node, err := parseNode("--add", "n3=127.0.0.1:11210,rack-a")
	require.NoError(t, err)
	assert.Equal(t, rebalance.Node{Name: "n3", Addr: "127.0.0.1:11210", Group: "rack-a"}, node)
	for _, text := range []string{"", "n3", "=127.0.0.1:1", "n3=", "n3=127.0.0.1", "n3=:1"} {
		_, err := parseNode("--add", text)
		require.Error(t, err, text)
	}
}
