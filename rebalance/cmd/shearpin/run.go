package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/console"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/demo"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/trace"
)

// overtime is how long a run that was told to end may take to do so. After it the program ends regardless: a demo of
// something that never hangs must not hang either.
const overtime = 20 * time.Second

// run shows one demo. args are the whole command line, for errors.
func (c *demoCommand) run(args []string, s streams) int {
	if c.Trace == "" {
		return c.show(nil, s)
	}
	file, err := os.Create(c.Trace)
	if err != nil {
		return usageError(&demo.FlagError{Flag: "--trace", Value: c.Trace, Why: err.Error()}, demoName, args, s)
	}
	return c.show(file, s)
}

// show runs the demo, traced to a file if that is not nil, which it closes.
func (c *demoCommand) show(traced io.WriteCloser, s streams) int {
	people := s.out
	if c.JSON {
		people = s.err
	}
	screen := console.New(people, isTerminal(people))
	handler := slog.Handler(slog.NewTextHandler(screen.Beside(s.err), &slog.HandlerOptions{Level: slog.LevelWarn}))
	flush := func() error { return nil }
	if traced != nil {
		t := trace.New(traced, time.Now())
		defer func() {
			if err := t.Close(); err != nil {
				fmt.Fprintf(s.err, "shearpin: --trace %s: %v\n", c.Trace, err)
			}
		}()
		flush = t.Flush
		handler = slog.NewMultiHandler(handler, t.Handler())
	}

	d := demo.New(c.Options, slog.New(handler), screen)
	result, done := c.watch(d, screen, s)
	if err := flush(); err != nil {
		result.Fail(fmt.Sprintf("--trace %s: %v", c.Trace, err))
	}
	if c.JSON {
		printJSON(s.out, result)
	} else {
		screen.Summary(result)
	}
	if done && c.Hold {
		c.hold(d, people, s)
	}
	if result.Status != demo.StatusComplete {
		return exitFailed
	}
	return exitComplete
}

// watch runs d and returns its result. The first signal asks d to stop cleanly; on the second, or when d does not end in
// time, it returns without waiting for d and says that d is not done.
func (c *demoCommand) watch(d *demo.Demo, screen *console.Console, s streams) (result *demo.Result, done bool) {
	ctx, interrupt := context.WithCancelCause(context.Background())
	defer interrupt(nil)
	results := make(chan *demo.Result, 1)
	go func() { results <- d.Run(ctx, c.Hold) }()

	limit := time.NewTimer(c.Timeout + overtime)
	defer limit.Stop()
	for {
		select {
		case result := <-results:
			return result, true
		case <-s.signals:
			if ctx.Err() != nil {
				return demo.Failed(fmt.Errorf("%w twice: quit without cleaning up", errInterrupted)), false
			}
			interrupt(errInterrupted)
			limit.Reset(overtime)
			screen.Step("stopping; interrupt again to quit at once")
		case <-limit.C:
			return demo.Failed(fmt.Errorf("the run did not end within %v after it had to", overtime)), false
		}
	}
}

// hold leaves everything up until a signal comes.
func (c *demoCommand) hold(d *demo.Demo, people io.Writer, s streams) {
	ctx, cancel := context.WithTimeout(context.Background(), overtime)
	held, err := d.Held(ctx)
	cancel()
	switch {
	case errors.Is(err, demo.ErrNotUp):
		return // the result says why
	case err != nil:
		fmt.Fprintf(s.err, "shearpin: --hold: %v\n", err)
	default:
		printJSON(people, held)
	}
	<-s.signals
	closed := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), overtime)
		defer cancel()
		closed <- d.Close(ctx)
	}()
	select {
	case err = <-closed:
	case <-s.signals:
		err = errInterrupted
	}
	if err != nil {
		fmt.Fprintf(s.err, "shearpin: close: %v\n", err)
	}
}

// printJSON writes v as one line.
func printJSON(w io.Writer, v any) {
	line, err := json.Marshal(v)
	if err != nil {
		// Every type that comes here is ours and holds nothing that cannot be encoded.
		panic(err)
	}
	fmt.Fprintf(w, "%s\n", line)
}
