package rebalance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// RetryConfig says whether a rebalance, or graceful failover, that failed is started again by itself. One that was stopped
// is not, nor one that executed a plan. What waits is forgotten when the manager ends.
type RetryConfig struct {
	// Enabled switches it on.
	Enabled bool
	// After is the pause before each try, 5 s to 1 h; 0 means 5 min.
	After time.Duration
	// MaxAttempts is how often it is tried again, 1 to 3; 0 means 1.
	MaxAttempts int
}

func (r RetryConfig) validate() (RetryConfig, error) {
	if r.After == 0 {
		r.After = 5 * time.Minute
	}
	if r.MaxAttempts == 0 {
		r.MaxAttempts = 1
	}
	switch {
	case r.After < 5*time.Second || r.After > time.Hour:
		return r, fmt.Errorf("rebalance: Config.Retry.After is %v, must be 5 s to 1 h", r.After)
	case r.MaxAttempts < 1 || r.MaxAttempts > 3:
		return r, fmt.Errorf("rebalance: Config.Retry.MaxAttempts is %d, must be 1 to 3", r.MaxAttempts)
	}
	return r, nil
}

// RetryState is what becomes of a rebalance that failed.
type RetryState string

// The states.
const (
	RetryNotPending RetryState = "not_pending"
	// RetryPending waits for its time.
	RetryPending RetryState = "pending"
	// RetryInProgress runs again.
	RetryInProgress RetryState = "in_progress"
)

// PendingRetry is a rebalance that failed and is to be started again, or runs again.
type PendingRetry struct {
	State RetryState `json:"retry_rebalance"`
	// RebalanceID is the one that failed first; [Report].RetryOf of the others is the same.
	RebalanceID string        `json:"rebalance_id"`
	Type        RebalanceType `json:"type"`
	// AttemptsRemaining counts the tries that have not begun.
	AttemptsRemaining int `json:"attempts_remaining"`
	// At is when the next one begins; zero for one that runs.
	At time.Time `json:"at"`
	// RetryAfter is how long that was off when the question was answered.
	RetryAfter Seconds `json:"retry_after_secs"`
	// Keep and Buckets are those of the request; Nodes are those of a graceful failover.
	Keep    []string `json:"keep,omitempty"`
	Buckets []string `json:"buckets,omitempty"`
	Nodes   []string `json:"nodes,omitempty"`
}

type (
	pendingRetryCall struct{}
	cancelRetryCall  struct{}
	retryChecked     struct {
		check retryCheck
		err   error
	}
	retryDue struct{ timer int }
)

// PendingRetry tells which rebalance is to be started again; nil if there is none.
func (c *Cluster) PendingRetry(ctx context.Context) (*PendingRetry, error) {
	pending, err := actors.Call[*PendingRetry](ctx, c.orchestrator(), pendingRetryCall{})
	return pending, c.closedError(err)
}

// CancelRetry keeps a rebalance that failed from being started again; if it runs again it goes on, and is not tried once
// more. A rebalance, or failover, that somebody starts does the same. It is no error if there is none.
func (c *Cluster) CancelRetry(ctx context.Context) error {
	_, err := c.orchestrator().Call(ctx, cancelRetryCall{})
	return c.closedError(err)
}

// considerRetry tells the machine how a rebalance has ended. Who is kept was decided when it began.
func (o *orchestrator) considerRetry(c *actors.Context, request Request, report Report) {
	if len(request.Keep) == 0 && len(request.giveUp) == 0 {
		request.Keep = report.Nodes.Keep
	}
	o.performRetry(c, o.retry.ended(report.ID, report.Outcome, request, report.Type))
}

func (o *orchestrator) performRetry(c *actors.Context, effects []retryEffect) {
	for _, effect := range effects {
		switch e := effect.(type) {
		case readRetryCheck:
			c.Go(func(ctx context.Context) any {
				check, err := within(ctx, o.env.config.Limits.Query, func(ctx context.Context) (retryCheck, error) {
					return o.env.retryCheck(ctx, e.Request)
				})
				return retryChecked{check, err}
			})
		case armRetry:
			o.retryAt = c.Clock().Now().Add(e.After)
			o.log.Info("rebalance_retry_pending", "after", e.After)
			c.SendAfter(e.After, retryDue{e.Timer})
		case startRetry:
			o.startRetry(c, e.Operation)
		case retryGivenUp:
			o.log.Info("rebalance_retry_given_up", "rebalance_id", e.First, "reason", e.Why)
		}
	}
	o.env.desk.retrying(o.pendingRetry(c))
}

// startRetry starts a rebalance that nobody waits for.
func (o *orchestrator) startRetry(c *actors.Context, operation retryOperation) {
	run := newRun(c.Self())
	run.retryOf = operation.First
	o.lastID++
	effects, accepted := o.machine.start(o.lastID, run.id)
	if !accepted {
		o.performRetry(c, o.retry.refused())
		return
	}
	o.retry.retrying(run.id)
	o.take(c, run, operation.Request)
	o.perform(c, effects)
}

// pendingRetry is what waits, and for how long.
func (o *orchestrator) pendingRetry(c *actors.Context) *PendingRetry {
	pending := o.retry.pending()
	if pending != nil && pending.State == RetryPending {
		pending.At = o.retryAt
		pending.RetryAfter = Seconds(max(0, o.retryAt.Sub(c.Clock().Now()).Seconds()))
	}
	return pending
}

// retryCheck reads what must not change between a failure and the next try.
func (e *environment) retryCheck(ctx context.Context, request Request) (check retryCheck, err error) {
	cluster, _, err := e.readCluster(ctx)
	if err != nil {
		return check, err
	}
	var failed, groups, members []string
	for _, m := range cluster.Members {
		members = append(members, m.Name)
		if m.Membership == FailedOver {
			failed = append(failed, m.Name)
		}
		if slices.Contains(request.Keep, m.Name) {
			groups = append(groups, fmt.Sprintf("%s in %s weighs %d", m.Name, m.Group, m.Weight))
		}
	}
	docs, err := e.buckets.List(ctx)
	if err != nil {
		return check, err
	}
	var buckets []string
	for _, doc := range docs {
		buckets = append(buckets, fmt.Sprintf("%s %s %d", doc.Name, doc.UUID, doc.Replicas))
	}
	text := func(list []string) string { return strings.Join(sorted(list), "; ") }
	check = retryCheck{Failed: text(failed), Groups: text(groups), Buckets: text(buckets)}
	if len(request.giveUp) > 0 {
		check.Members = text(members)
	}
	return check, nil
}
