package rebalance

import (
	"maps"
	"slices"
	"sync"
)

// desk is where the processes of a cluster lay down what anybody may want to know at any time: what the orchestrator is
// doing, the handles of rebalances, the last reports. Reading it waits for nobody, neither for a process nor for a node.
// It outlives the processes.
type desk struct {
	mu    sync.Mutex
	state State
	// current is the rebalance that has not ended.
	current *Run
	// runs are the last ones, newest first, the current one included; reports are the last, newest first.
	runs    []*Run
	reports []Report
	// retry is the rebalance that is to be started again.
	retry *PendingRetry
	// cleaned is what the last run of the janitor over each bucket found.
	cleaned map[string]cleanedBucket
}

// cleanedBucket is the janitor's last word on a bucket.
type cleanedBucket struct {
	run    JanitorReport // without its buckets
	bucket JanitorBucketReport
}

// keptReports is how many reports are kept, and the handles of how many rebalances.
const keptReports = 5

func newDesk() *desk { return &desk{state: Idle, cleaned: map[string]cleanedBucket{}} }

// show says what the orchestrator is doing.
func (d *desk) show(state State) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = state
}

// retrying says which rebalance is to be started again.
func (d *desk) retrying(retry *PendingRetry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.retry = retry
}

// began lays down the handle of a rebalance.
func (d *desk) began(run *Run) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.current = run
	d.runs = slices.Insert(d.runs, 0, run)
	d.runs = d.runs[:min(len(d.runs), keptReports+1)]
}

// ended lays down a report. It can be read from then on, whatever the store does; and at the same moment the rebalance is
// over for whoever looks, who has not been told yet.
func (d *desk) ended(report Report) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.current != nil && d.current.id == report.ID {
		d.current, d.state = nil, Idle
	}
	d.reports = slices.DeleteFunc(d.reports, func(r Report) bool { return r.ID == report.ID })
	d.reports = slices.Insert(d.reports, 0, report)
	d.reports = d.reports[:min(len(d.reports), keptReports)]
}

// lost says that nobody works on a rebalance any more.
func (d *desk) lost() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.current = nil
}

// janitorEnded lays down what a run of the janitor found. Buckets that it did not look at stay as they are.
func (d *desk) janitorEnded(report JanitorReport) {
	d.mu.Lock()
	defer d.mu.Unlock()
	run := report
	run.Buckets = nil
	for _, b := range report.Buckets {
		d.cleaned[b.Name] = cleanedBucket{run, b}
	}
}

// deskView is what lies on the desk at one moment.
type deskView struct {
	state   State
	current *Run
	runs    []*Run
	reports []Report
	retry   *PendingRetry
	cleaned map[string]cleanedBucket
}

func (d *desk) look() deskView {
	d.mu.Lock()
	defer d.mu.Unlock()
	return deskView{
		state: d.state, current: d.current, runs: slices.Clone(d.runs), reports: slices.Clone(d.reports), retry: d.retry,
		cleaned: maps.Clone(d.cleaned),
	}
}
