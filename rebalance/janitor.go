package rebalance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// janitorProcess runs the janitor, one run at a time: it brings the copies and streams of every bucket back to what the
// map wants, as far as that loses nothing. What it does with each vbucket is decided by [decideVBucket].
type janitorProcess struct {
	actors.Base
	env   *environment
	log   *slog.Logger
	queue []queuedClean
	// from is who waits for the run that is under way.
	from *actors.From
	// cancel ends that run; interrupts are those who wait for its end.
	cancel     context.CancelFunc
	interrupts []actors.From
}

// cleanCall asks for a run and is answered with its report when it is over.
type cleanCall struct {
	reason string
	// buckets are those to look at; nil means all.
	buckets []string
	// discard are nodes whose copies may be deleted although the active lacks what they have, if no chain needs them.
	discard []string
}

// cleanInterrupt asks the janitor to leave off. It is answered when nothing of it is under way any more; runs that were
// asked for and have not begun are refused.
type cleanInterrupt struct{}

// errInterrupted refuses runs of the janitor that stand in the way of something more urgent.
var errInterrupted = errors.New("the janitor was interrupted")

type queuedClean struct {
	call cleanCall
	from actors.From
}

type cleanEnded struct{ report JanitorReport }

// JanitorReport is the account of one run.
type JanitorReport struct {
	Reason  string                `json:"reason"`
	Started time.Time             `json:"started"`
	Ended   time.Time             `json:"ended"`
	Buckets []JanitorBucketReport `json:"buckets"`
}

// JanitorBucketReport says what was done to one bucket, and what could not be.
type JanitorBucketReport struct {
	Name string `json:"name"`
	// Epoch is the run's own; 0 if there was nothing to change.
	Epoch uint64 `json:"epoch"`
	// Chains, States, Deletions and Streams count the changes that were made: to the map, of states, of copies that were
	// deleted, of streams that were opened.
	Chains    int `json:"chains"`
	States    int `json:"states"`
	Deletions int `json:"deletions"`
	Streams   int `json:"streams"`
	// Held says, per vbucket, why it was left alone.
	Held map[uint16]error `json:"-"`
	// Kept names copies that no chain needs but which hold data that the active lacks: vbucket to nodes.
	Kept map[uint16][]string `json:"kept,omitempty"`
	// Discarded names such copies that were deleted, because whoever added their node back allowed it.
	Discarded map[uint16][]string `json:"discarded,omitempty"`
	// Errs are the failures of single nodes and steps.
	Errs []error `json:"-"`
}

// Fixes is the number of changes that the run made.
func (r JanitorReport) Fixes() int {
	fixes := 0
	for _, b := range r.Buckets {
		fixes += b.Chains + b.States + b.Deletions + b.Streams
	}
	return fixes
}

// Problem is what the run could not repair: nil, or a *JanitorError for the first bucket with a problem.
func (r JanitorReport) Problem() error {
	for _, b := range r.Buckets {
		if problems := allProblems(b.Errs, b.Held); len(problems) > 0 {
			return &JanitorError{Bucket: b.Name, Errs: problems}
		}
	}
	return nil
}

// JanitorError is what the janitor could not repair in a bucket.
type JanitorError struct {
	Bucket string
	// Errs is not empty.
	Errs []error
}

func (e *JanitorError) Error() string {
	return fmt.Sprintf("janitor could not repair %q: %s", e.Bucket, listed(e.Errs))
}

// Unwrap gives errors.Is and errors.As the single problems.
func (e *JanitorError) Unwrap() []error { return e.Errs }

func newJanitorProcess(e *environment) *janitorProcess {
	return &janitorProcess{env: e, log: e.log("janitor")}
}

func (j *janitorProcess) HandleCall(c *actors.Context, from actors.From, msg any) error {
	switch m := msg.(type) {
	case cleanCall:
		j.queue = append(j.queue, queuedClean{m, from})
		j.next(c)
	case cleanInterrupt:
		j.interrupt(from)
	default:
		return j.Base.HandleCall(c, from, msg)
	}
	return nil
}

func (j *janitorProcess) interrupt(from actors.From) {
	for _, q := range j.queue {
		q.from.Fail(errInterrupted)
	}
	j.queue = nil
	if j.from == nil {
		from.Reply(nil)
		return
	}
	j.interrupts = append(j.interrupts, from)
	j.cancel()
}

func (j *janitorProcess) HandleInfo(c *actors.Context, msg any) error {
	m, ok := msg.(cleanEnded)
	if !ok {
		return j.Base.HandleInfo(c, msg)
	}
	m.report.Ended = c.Clock().Now()
	j.env.janitorRuns.Add(1)
	if len(j.interrupts) == 0 { // what a run that was broken off has not seen is no finding
		j.env.desk.janitorEnded(m.report)
	}
	j.tell(c, m.report)
	j.env.events.Publish(JanitorEnded{m.report})
	j.from.Reply(m.report)
	j.from = nil
	for _, from := range j.interrupts {
		from.Reply(nil)
	}
	j.interrupts = nil
	j.next(c)
	return nil
}

// tell logs the end of a run: what it could not repair is for somebody to act on.
func (j *janitorProcess) tell(c *actors.Context, report JanitorReport) {
	problem, fixes, level := report.Problem(), report.Fixes(), slog.LevelInfo
	switch {
	case problem != nil:
		level = slog.LevelWarn
	case fixes == 0 && report.Reason == reasonPeriodic:
		level = slog.LevelDebug
	}
	j.log.Log(c.Ctx(), level, "janitor_done", "reason", report.Reason, "fixes", fixes, "err", problem)
}

func (j *janitorProcess) next(c *actors.Context) {
	if j.from != nil || len(j.queue) == 0 {
		return
	}
	q := j.queue[0]
	j.queue = j.queue[1:]
	j.from = &q.from
	report := JanitorReport{Reason: q.call.reason, Started: c.Clock().Now()}
	level := slog.LevelInfo
	if q.call.reason == reasonPeriodic {
		level = slog.LevelDebug
	}
	j.log.Log(c.Ctx(), level, "janitor_started", "reason", q.call.reason)
	j.env.events.Publish(JanitorStarted{Reason: q.call.reason, At: report.Started})
	env := j.env
	j.cancel = withContext(c, func(ctx context.Context) any {
		calmed := make(chan struct{}) // beside the buckets, because nothing in them depends on it
		go func() {
			defer close(calmed)
			env.calmFailedOver(ctx)
		}()
		defer func() { <-calmed }()
		buckets := q.call.buckets
		if buckets == nil {
			all, err := env.chooseBuckets(ctx, nil)
			if err != nil {
				report.Buckets = append(report.Buckets, JanitorBucketReport{Errs: []error{err}})
			}
			buckets = all
		}
		for _, bucket := range buckets {
			run := &janitorRun{env: env, reason: q.call.reason, discard: q.call.discard, report: JanitorBucketReport{Name: bucket}}
			run.bucket(ctx)
			report.Buckets = append(report.Buckets, run.report)
		}
		return cleanEnded{report}
	})
}
