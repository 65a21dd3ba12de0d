package rebalance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/shearpin/shearpin/rebalance/store"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// What the store keeps of rebalances: the reports of the last ones, and while one runs a record that says so. A record that is
// there when an orchestrator starts is of a rebalance that nobody works on any more; it becomes a report (history 25).

const (
	reportPrefix = "reports/"
	runningKey   = "running"

	recordSchema = 1
)

// recordLimit bounds each piece of work on the records. A store that hangs must not hold up the outcome for ever.
const recordLimit = 5 * time.Second

// ErrInterrupted is the cause of a rebalance whose manager ended before it did.
var ErrInterrupted = errors.New("the manager ended while it ran")

// storedReport is a report with the error that its JSON lacks.
type storedReport struct {
	Schema int        `json:"schema"`
	Report Report     `json:"report"`
	Err    *errorData `json:"err,omitempty"`
}

// runningRecord says that a rebalance runs, and what is known of it beforehand.
type runningRecord struct {
	Schema int    `json:"schema"`
	Report Report `json:"report"`
}

// reportKey sorts by the time at which the rebalance began.
func reportKey(r Report) string {
	return fmt.Sprintf("%s%020d-%s", reportPrefix, r.Started.UnixNano(), r.ID)
}

// recorder saves reports beside all processes, so that none of them waits for a disk and their ends break nothing off.
type recorder struct{ saving sync.WaitGroup }

// save writes a report and takes the record away that says that the rebalance runs, and calls then. Whoever closes the
// store waits for it first.
func (e *environment) save(report Report, then func()) {
	e.recorder.saving.Go(func() {
		defer then()
		ctx, cancel := context.WithTimeout(context.Background(), recordLimit)
		defer cancel()
		if err := e.saveReport(ctx, report); err != nil {
			e.log("recorder", "rebalance_id", report.ID).Warn("report_not_saved", "err", err)
		}
	})
}

func (e *environment) saveReport(ctx context.Context, report Report) error {
	value, err := json.Marshal(storedReport{Schema: recordSchema, Report: report, Err: encodeError(report.Err)})
	if err != nil {
		return err
	}
	if err := e.put(ctx, reportKey(report), value); err != nil {
		return err
	}
	entries, err := e.config.Store.List(ctx, reportPrefix)
	if err != nil {
		return err
	}
	for _, old := range entries[:max(len(entries)-keptReports, 0)] {
		if err := e.config.Store.Delete(ctx, old.Key, old.Revision); err != nil && !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return e.clearRunning(ctx, report.ID)
}

// put writes a value whatever there was.
func (e *environment) put(ctx context.Context, key string, value []byte) error {
	for {
		_, revision, err := e.config.Store.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if _, err = e.config.Store.CompareAndSet(ctx, key, value, revision); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// readReports are the last reports, newest first: those of this process as they were, the others from the store. What is in
// the store and cannot be read is passed over; it is nobody's work that depends on it.
func (e *environment) readReports(ctx context.Context) ([]Report, error) {
	reports := e.desk.look().reports
	entries, err := e.config.Store.List(ctx, reportPrefix)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		var stored storedReport
		if json.Unmarshal(entry.Value, &stored) != nil || stored.Schema != recordSchema {
			continue
		}
		if slices.ContainsFunc(reports, func(r Report) bool { return r.ID == stored.Report.ID }) {
			continue
		}
		stored.Report.Err = decodeError(stored.Err)
		reports = append(reports, stored.Report)
	}
	slices.SortStableFunc(reports, func(a, b Report) int { return b.Started.Compare(a.Started) })
	return reports[:min(len(reports), keptReports)], nil
}

// saveRunning puts down that a rebalance runs.
func (e *environment) saveRunning(ctx context.Context, report Report) error {
	value, err := json.Marshal(runningRecord{Schema: recordSchema, Report: report})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, recordLimit)
	defer cancel()
	return e.put(ctx, runningKey, value)
}

// updateRunning puts down more of a rebalance that runs. One whose record is gone has ended.
func (e *environment) updateRunning(ctx context.Context, report Report) error {
	ctx, cancel := context.WithTimeout(ctx, recordLimit)
	defer cancel()
	value, err := json.Marshal(runningRecord{Schema: recordSchema, Report: report})
	if err != nil {
		return err
	}
	before, revision, err := e.config.Store.Get(ctx, runningKey)
	if err != nil {
		return err
	}
	var record runningRecord
	if json.Unmarshal(before, &record) != nil || record.Report.ID != report.ID {
		return store.ErrConflict
	}
	_, err = e.config.Store.CompareAndSet(ctx, runningKey, value, revision)
	return err
}

// running is the rebalance that the store thinks is running; ok is false if there is none.
func (e *environment) running(ctx context.Context) (report Report, ok bool, err error) {
	value, _, err := e.config.Store.Get(ctx, runningKey)
	if errors.Is(err, store.ErrNotFound) {
		return report, false, nil
	}
	if err != nil {
		return report, false, err
	}
	var record runningRecord
	if err := json.Unmarshal(value, &record); err != nil {
		return report, false, &store.CorruptError{Key: runningKey, Err: err}
	}
	if record.Schema != recordSchema {
		return report, false, &store.SchemaError{Key: runningKey, Found: record.Schema}
	}
	return record.Report, true, nil
}

// clearRunning takes the record of a rebalance away, and no other's.
func (e *environment) clearRunning(ctx context.Context, id string) error {
	for {
		value, revision, err := e.config.Store.Get(ctx, runningKey)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		var record runningRecord
		if json.Unmarshal(value, &record) == nil && record.Report.ID != id {
			return nil
		}
		if err = e.config.Store.Delete(ctx, runningKey, revision); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// interrupted finds the rebalance that ran when the last orchestrator ended, makes its report, and takes its record away.
// It comes before anything else is begun: what the buckets' maps say of it is lost when the janitor has run.
func (e *environment) interrupted(ctx context.Context, now time.Time) (report Report, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, recordLimit)
	defer cancel()
	report, found, err = e.running(ctx)
	if err != nil {
		return report, false, err
	}
	known, err := e.readReports(ctx)
	if err != nil {
		return report, false, err
	}
	ended := func(id string) bool { return slices.ContainsFunc(known, func(r Report) bool { return r.ID == id }) }
	if found && ended(report.ID) {
		// It has told so; only the record was left, or is about to be taken away.
		if err := e.clearRunning(ctx, report.ID); err != nil {
			return report, false, err
		}
		found = false
	}
	// One that was accepted in this process may not be on record yet.
	if current := e.desk.look().current; !found && current != nil && !ended(current.id) {
		report, found = Report{ID: current.id, Started: current.started}, true
	}
	if !found {
		return report, false, nil
	}
	report.Outcome, report.Ended = Interrupted, now
	report.Err = &RebalanceError{Err: ErrInterrupted}
	for i := range report.Buckets {
		b := &report.Buckets[i]
		left, err := e.chainsLeft(ctx, b.Name)
		if err != nil {
			return report, false, err
		}
		b.Moves = max(b.MovesPlanned-left, 0)
		report.Moves += b.Moves
	}
	report.conclude()
	return report, true, e.saveReport(ctx, report)
}

// chainsLeft is how many chains of a bucket are not as its rebalance wanted them.
func (e *environment) chainsLeft(ctx context.Context, bucket string) (int, error) {
	doc, err := e.buckets.Get(ctx, bucket)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, err
	case doc.Target == nil:
		return 0, nil
	}
	return len(vbmap.Diff(doc.Map, doc.Target)), nil
}
