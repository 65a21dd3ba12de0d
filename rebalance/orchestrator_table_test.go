package rebalance

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// orchestratorStates is every state in which something can happen to an orchestrator (rebalance.md §9.1). The run is r1; the
// callers of what is under way have the IDs 1 to 9, the caller of the event has 50.
var orchestratorStates = []struct {
	name  string
	given func(m *orchestratorMachine)
}{
	{"idle", func(*orchestratorMachine) {}},
	{"janitor runs", func(m *orchestratorMachine) { m.clean(1, reasonDemand) }},
	{"rebalancing", func(m *orchestratorMachine) { m.start(1, "r1") }},
	{"rebalancing, janitor runs", func(m *orchestratorMachine) { m.clean(1, reasonDemand); m.start(2, "r1") }},
	{"paused", func(m *orchestratorMachine) { m.start(1, "r1"); m.steer(2, "r1", pauseMoves{true}) }},
	{"stopping", func(m *orchestratorMachine) { m.start(1, "r1"); m.stop(2, "r1") }},
	{"stopping, failover waits", func(m *orchestratorMachine) { m.start(1, "r1"); m.failover(2) }},
	{"failing over, not begun", func(m *orchestratorMachine) { m.failover(1) }},
	{"failing over", func(m *orchestratorMachine) { m.failover(1); m.janitorInterrupted() }},
	{"failing over, gracefully", func(m *orchestratorMachine) { m.start(1, "r1"); m.giveUp(2, "r1"); m.janitorInterrupted() }},
	{"changing", func(m *orchestratorMachine) { m.change(1); m.janitorInterrupted() }},
	{"changing, failover waits", func(m *orchestratorMachine) { m.change(1); m.janitorInterrupted(); m.failover(2) }},
}

var errCleaning = errors.New("janitor")

// orchestratorEvents is everything that can happen to it.
var orchestratorEvents = []struct {
	name  string
	event func(m *orchestratorMachine) []orchestratorEffect
}{
	{"start", func(m *orchestratorMachine) []orchestratorEffect { return starting(m, 50, "r2") }},
	{"stop", func(m *orchestratorMachine) []orchestratorEffect { return m.stop(50, "r1") }},
	{"stop of another", func(m *orchestratorMachine) []orchestratorEffect { return m.stop(50, "r0") }},
	{"stop overdue", func(m *orchestratorMachine) []orchestratorEffect { return m.stopOverdue("r1") }},
	{"pause", func(m *orchestratorMachine) []orchestratorEffect { return m.steer(50, "r1", pauseMoves{true}) }},
	{"complete", func(m *orchestratorMachine) []orchestratorEffect { return m.ended("r1", Complete) }},
	{"failed", func(m *orchestratorMachine) []orchestratorEffect { return m.ended("r1", Failed) }},
	{"stopped", func(m *orchestratorMachine) []orchestratorEffect { return m.ended("r1", Stopped) }},
	{"failover", func(m *orchestratorMachine) []orchestratorEffect { return m.failover(50) }},
	{"give up", func(m *orchestratorMachine) []orchestratorEffect { e, _ := m.giveUp(50, "r1"); return e }},
	{"change", func(m *orchestratorMachine) []orchestratorEffect { return m.change(50) }},
	{"janitor wanted", func(m *orchestratorMachine) []orchestratorEffect { return m.clean(50, reasonDemand) }},
	{"link lost", func(m *orchestratorMachine) []orchestratorEffect { return m.clean(0, reasonLinkLost) }},
	{"janitor timer", func(m *orchestratorMachine) []orchestratorEffect { return m.clean(0, reasonPeriodic) }},
	{"janitor ended", func(m *orchestratorMachine) []orchestratorEffect {
		if !m.cleaning {
			return nil
		}
		return m.cleaned(errCleaning)
	}},
	{"janitor interrupted", (*orchestratorMachine).janitorInterrupted},
	{"operation ended", func(m *orchestratorMachine) []orchestratorEffect { return m.operationEnded(m.operation.ID) }},
}

// effectText is an effect in a few words.
func effectText(effect orchestratorEffect) string {
	switch e := effect.(type) {
	case startRebalance:
		return "start " + e.Run
	case stopRebalance:
		return "stop " + e.Run
	case killRebalance:
		return "kill " + e.Run
	case steerRebalance:
		return fmt.Sprintf("%v for %d", e.Order, e.ID)
	case runJanitor:
		return fmt.Sprintf("janitor (%s)", e.Reason)
	case interruptJanitor:
		return "interrupt janitor"
	case startOperation:
		return fmt.Sprintf("begin %s for %d", e.Operation.State, e.Operation.ID)
	case answerCaller:
		if e.Err != nil {
			return fmt.Sprintf("%d: %v", e.ID, e.Err)
		}
		return fmt.Sprintf("%d: ok", e.ID)
	}
	return fmt.Sprintf("%T", effect)
}

// orchestratorTable is what is done in every state at every event, one line each, in testdata/orchestrator.txt.
func orchestratorTable() string {
	var table strings.Builder
	for _, s := range orchestratorStates {
		for _, e := range orchestratorEvents {
			m := newOrchestratorMachine()
			s.given(m)
			effects := []string{}
			for _, effect := range e.event(m) {
				effects = append(effects, effectText(effect))
			}
			fmt.Fprintf(&table, "%s | %s | %s | %s\n", s.name, e.name, strings.Join(effects, ", "), m.state)
		}
	}
	return table.String()
}

// Each row of the table is a rule that was read and found right; see the file.
func TestOrchestratorTable(t *testing.T) {
	const file = "testdata/orchestrator.txt"
	got := orchestratorTable()
	if os.Getenv("REWRITE") != "" { // then read what has changed
		require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	wanted, found := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	require.Len(t, found, len(wanted))
	for i, row := range wanted {
		state, _, _ := strings.Cut(row, " | ")
		t.Run(strings.TrimSpace(state), func(t *testing.T) { assert.Equal(t, row, found[i]) })
	}
}
