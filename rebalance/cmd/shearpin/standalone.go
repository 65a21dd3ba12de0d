package main

import (
	"context"
	"fmt"
	"iter"
	"log/slog"

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/config"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/serve"
)

// alone does one rebalance without a manager.
func (c *rebalanceCommand) alone(s streams) int {
	file, err := config.Load(c.path())
	if err != nil {
		c.tell(err, s)
		return exitUsage
	}
	level := max(file.Log.Level.Slog(), slog.LevelWarn) // what goes well is shown otherwise
	cluster, closeAll, err := serve.Open(context.Background(), file, logOf(file, level, s.err), nil)
	if err != nil {
		return c.status(err, s)
	}
	status := c.rebalanceOn(cluster, s)
	ctx, cancel := context.WithTimeout(context.Background(), overtime)
	defer cancel()
	if err := closeAll(ctx); err != nil && status == exitComplete {
		status = c.status(err, s)
	}
	fmt.Fprintln(s.err, "Replication has stopped: it runs as long as a manager does, which is what shearpin serve is for.")
	return status
}

// rebalanceOn rebalances a cluster that is open.
func (c *rebalanceCommand) rebalanceOn(cluster *rebalance.Cluster, s streams) int {
	ctx, cancel := context.WithTimeout(context.Background(), overtime)
	defer cancel()
	run, err := serve.Begin(ctx, cluster, c.request())
	if err != nil {
		return c.status(err, s)
	}
	status := c.show(rebalanceHandle{
		follow: func(ctx context.Context) iter.Seq2[control.Update, error] { return updatesOf(ctx, run) },
		stop:   run.Stop,
	}, s)
	if status != exitComplete {
		return status
	}
	ctx, cancel = context.WithTimeout(context.Background(), overtime)
	defer cancel()
	return c.status(serve.Forget(ctx, cluster, run, c.Remove), s)
}

// updatesOf yields what happens to a rebalance of this process.
func updatesOf(ctx context.Context, run *rebalance.Run) iter.Seq2[control.Update, error] {
	return func(yield func(control.Update, error) bool) {
		for progress := range run.Progress() {
			if !yield(control.Update{Progress: &progress}, nil) {
				return
			}
		}
		report, err := run.Wait(ctx) // it has ended
		yield(control.Update{Report: report}, err)
	}
}
