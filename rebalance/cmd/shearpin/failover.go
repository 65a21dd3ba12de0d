package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/console"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/demo"
)

// failoverCommand gives nodes up.
type failoverCommand struct {
	managerFlags `embed:""`

	Nodes       []string `arg:"" name:"node" help:"The nodes to give up: all that do not answer, at the same time."`
	Graceful    bool     `help:"Move their vbuckets away first, without losing anything; the nodes have to answer."`
	AllowUnsafe bool     `help:"Accept that data is lost: of vbuckets that have no copy elsewhere."`
}

func (c *failoverCommand) validate() error {
	if c.Graceful && c.AllowUnsafe {
		return &demo.FlagError{Flag: "--allow-unsafe", Value: "true", Why: "cannot be together with --graceful"}
	}
	return c.managerFlags.validate()
}

func (c *failoverCommand) run(_ []string, s streams) int {
	request := control.FailoverRequest{
		FailoverRequest: rebalance.FailoverRequest{Nodes: c.Nodes, AllowUnsafe: c.AllowUnsafe}, Graceful: c.Graceful,
	}
	if c.Graceful {
		return c.follow("/failover", request, s)
	}
	done := false
	status := c.ask(s, func(ctx context.Context, client *control.Client) error {
		var report control.Failover
		err := c.shown(ctx, client, http.MethodPost, "/failover", request, &report, s, func(screen *console.Console) { screen.Failover(report) })
		done = err == nil && len(report.Cause) == 0
		return err
	})
	if status == exitComplete && !done {
		return exitFailed
	}
	return status
}

// addBackCommand takes a node back that was failed over.
type addBackCommand struct {
	managerFlags `embed:""`

	Node            string `arg:"" help:"The node."`
	DiscardDiverged bool   `help:"Let the next rebalance delete those of its copies that hold writes which were never replicated before it was given up. Without it such a rebalance is refused."`
}

func (c *addBackCommand) run(_ []string, s streams) int {
	return c.ask(s, func(ctx context.Context, client *control.Client) error {
		request := control.AddBack{DiscardDiverged: c.DiscardDiverged}
		return c.shown(ctx, client, http.MethodPost, "/nodes/"+url.PathEscape(c.Node)+"/add-back", request, &struct{}{}, s, func(screen *console.Console) {
			screen.Step(fmt.Sprintf("%s is active again; the next rebalance takes up its copies", c.Node))
		})
	})
}

// The commands that steer the rebalance that runs.
type (
	pauseCommand struct {
		managerFlags `embed:""`
	}
	resumeCommand struct {
		managerFlags `embed:""`
	}
	abortMoveCommand struct {
		managerFlags `embed:""`

		Bucket string `arg:"" help:"The bucket."`
		VB     uint16 `arg:"" name:"vbucket" help:"The vbucket."`
	}
	retryCommand struct {
		Show   retryShowCommand   `cmd:"" default:"withargs" help:"Show the rebalance that failed and is to be started again."`
		Cancel retryCancelCommand `cmd:"" help:"Do not start it again."`
	}
	retryShowCommand struct {
		managerFlags `embed:""`
	}
	retryCancelCommand struct {
		managerFlags `embed:""`
	}
)

func (c *pauseCommand) run(_ []string, s streams) int {
	return c.steer("/pause", "paused: no more moves begin; shearpin resume goes on", s)
}

func (c *resumeCommand) run(_ []string, s streams) int { return c.steer("/resume", "resumed", s) }

func (c *abortMoveCommand) run(_ []string, s streams) int {
	return c.ask(s, func(ctx context.Context, client *control.Client) error {
		move := &control.Move{Bucket: c.Bucket, VB: c.VB}
		return c.shown(ctx, client, http.MethodPost, "/rebalances/"+control.Current+"/abort-move", move, move, s, func(screen *console.Console) {
			screen.Step(fmt.Sprintf("the move of vb %d of %s is aborted; the others go on", c.VB, c.Bucket))
		})
	})
}

func (f *managerFlags) steer(how, done string, s streams) int {
	return f.ask(s, func(ctx context.Context, client *control.Client) error {
		return f.shown(ctx, client, http.MethodPost, "/rebalances/"+control.Current+how, nil, &control.Started{}, s,
			func(screen *console.Console) { screen.Step(done) })
	})
}

func (c *retryShowCommand) run(_ []string, s streams) int {
	return get(&c.managerFlags, "/retry", s, func(screen *console.Console, p rebalance.PendingRetry) {
		switch p.State {
		case rebalance.RetryPending:
			screen.Step(fmt.Sprintf("rebalance %s starts again in %.0f s; %d attempts are left", p.RebalanceID, float64(p.RetryAfter), p.AttemptsRemaining))
		case rebalance.RetryInProgress:
			screen.Step(fmt.Sprintf("rebalance %s runs again; %d attempts are left", p.RebalanceID, p.AttemptsRemaining))
		default:
			screen.Step(strings.ReplaceAll(string(rebalance.RetryNotPending), "_", " "))
		}
	})
}

func (c *retryCancelCommand) run(_ []string, s streams) int {
	return c.ask(s, func(ctx context.Context, client *control.Client) error {
		return c.shown(ctx, client, http.MethodDelete, "/retry", nil, &struct{}{}, s, func(screen *console.Console) { screen.Step("cancelled") })
	})
}
