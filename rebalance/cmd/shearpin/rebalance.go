package main

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/console"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/demo"
)

// choice says which nodes shall hold data, and which buckets are meant.
type choice struct {
	Keep   []string `placeholder:"NODE" help:"A node that shall hold data when it is done; several with commas. Without it, all that the manager knows."`
	Remove []string `placeholder:"NODE" help:"A node that shall hold nothing when it is done; several with commas."`
	Bucket []string `placeholder:"NAME" help:"A bucket to rebalance; several with commas, in that order. Without it, all."`
}

func (c *choice) validate() error {
	if len(c.Keep) > 0 && len(c.Remove) > 0 {
		return &demo.FlagError{Flag: "--remove", Value: strings.Join(c.Remove, ","), Why: "cannot be together with --keep"}
	}
	return nil
}

func (c *choice) request() control.RebalanceRequest {
	return control.RebalanceRequest{Keep: c.Keep, Remove: c.Remove, Buckets: c.Bucket}
}

// rebalanceCommand starts a rebalance and shows it until it has ended.
type rebalanceCommand struct {
	managerFlags `embed:""`
	choice       `embed:""`

	Add        []string `sep:"none" placeholder:"NAME=ADDR[,GROUP]" help:"A node to make known first; may be given several times."`
	Plan       string   `placeholder:"FILE" help:"Execute the plan in FILE, which shearpin plan has made, as it is."`
	Detach     bool     `help:"Do not wait for the end: print the name of the rebalance and leave it to the manager."`
	Standalone bool     `help:"Do it without a manager: open the store of --config, rebalance, and close. Replication stops at the end."`

	add  []rebalance.Node
	plan *rebalance.Plan
}

func (c *rebalanceCommand) validate() error {
	for _, err := range []error{c.managerFlags.validate(), c.choice.validate(), checkPath("--plan", c.Plan)} {
		if err != nil {
			return err
		}
	}
	for _, text := range c.Add {
		node, err := parseNode("--add", text)
		if err != nil {
			return err
		}
		c.add = append(c.add, node)
	}
	if c.Standalone && (c.Detach || c.Control != "" && c.Config == "") {
		return &demo.FlagError{Flag: "--standalone", Value: "true", Why: "needs --config, and goes with neither --control nor --detach"}
	}
	if c.Plan == "" {
		return nil
	}
	if len(c.Keep)+len(c.Remove)+len(c.Bucket)+len(c.Add) > 0 {
		return &demo.FlagError{Flag: "--plan", Value: c.Plan, Why: "comes alone: it says itself which nodes and buckets"}
	}
	text, err := os.ReadFile(c.Plan)
	if err == nil {
		err = json.Unmarshal(text, &c.plan)
	}
	if err != nil {
		return &demo.FlagError{Flag: "--plan", Value: c.Plan, Why: err.Error()}
	}
	return nil
}

// parseNode reads NAME=ADDR[,GROUP], which was given with a flag.
func parseNode(flag, text string) (rebalance.Node, error) {
	name, rest, found := strings.Cut(text, "=")
	addr, group, _ := strings.Cut(rest, ",")
	host, _, err := net.SplitHostPort(addr)
	if !found || name == "" || err != nil || host == "" {
		return rebalance.Node{}, &demo.FlagError{Flag: flag, Value: text, Why: "must be a name, =, a host, a colon and a port, and if wanted a comma and a group"}
	}
	return rebalance.Node{Name: name, Addr: addr, Group: group}, nil
}

func (c *rebalanceCommand) request() control.RebalanceRequest {
	request := c.choice.request()
	request.Add, request.Plan = c.add, c.plan
	return request
}

func (c *rebalanceCommand) run(_ []string, s streams) int {
	if c.Standalone {
		return c.alone(s)
	}
	if c.Detach {
		return c.detached(s)
	}
	status := c.follow("/rebalances", c.request(), s)
	if status == exitComplete && len(c.Remove) > 0 && !c.JSON {
		fmt.Fprintf(s.out, "%s: nothing is on it any more, and the manager forgets it. Take it out of the configuration too: the next start would add it again.\n",
			strings.Join(c.Remove, ", "))
	}
	return status
}

// startLimit is for a manager to say that it has begun.
const startLimit = time.Minute

// detached starts it and says only what it is called.
func (c *rebalanceCommand) detached(s streams) int {
	return c.ask(s, func(ctx context.Context, client *control.Client) error {
		var started control.Started
		return c.shown(ctx, client, http.MethodPost, "/rebalances", c.request(), &started, s,
			func(screen *console.Console) { screen.Step(started.ID) })
	})
}

// follow starts a rebalance, by a request to a path, and shows it until it has ended.
func (f *managerFlags) follow(path string, request any, s streams) int {
	client, err := f.client()
	if err != nil {
		f.tell(err, s)
		return exitUsage
	}
	defer client.Close()
	var started control.Started
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	err = client.Do(ctx, http.MethodPost, control.Prefix+path, request, &started)
	cancel()
	if err != nil {
		return f.status(err, s)
	}
	return f.show(rebalanceHandle{
		follow: func(ctx context.Context) iter.Seq2[control.Update, error] { return client.Follow(ctx, started.ID) },
		stop: func(ctx context.Context) error {
			return client.Do(ctx, http.MethodPost, control.Prefix+"/rebalances/"+started.ID+"/stop", nil, nil)
		},
	}, s)
}

// rebalanceHandle is a rebalance that somebody may look at and stop.
type rebalanceHandle struct {
	// follow yields what happens, until it has ended or ctx does.
	follow func(ctx context.Context) iter.Seq2[control.Update, error]
	// stop asks it to stop and returns when it has.
	stop func(ctx context.Context) error
}

// show shows a rebalance until it has ended. The first signal stops it, the second quits.
func (f *managerFlags) show(handle rebalanceHandle, s streams) int {
	people := s.out
	if f.JSON {
		people = s.err
	}
	screen := console.New(people, isTerminal(people))
	report, err := handle.watch(screen, s)
	if err != nil {
		return f.status(err, s)
	}
	if f.JSON {
		printJSON(s.out, report)
	} else {
		screen.Report(report)
	}
	switch report.Outcome {
	case rebalance.Complete:
		return exitComplete
	case rebalance.Stopped:
		return exitStopped
	}
	return exitFailed
}

// stopLimit is for a rebalance to stop.
const stopLimit = 10 * time.Minute

// heard is one step of a stream of updates.
type heard struct {
	update control.Update
	err    error
}

// watch shows what happens and returns the report.
func (h rebalanceHandle) watch(screen *console.Console, s streams) (*rebalance.Report, error) {
	ctx, quit := context.WithCancel(context.Background())
	defer quit()
	news, stopped := make(chan heard), make(chan error, 1)
	go func() {
		for update, err := range h.follow(ctx) {
			select {
			case news <- heard{update, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	moves := screen.Moves()
	defer moves.End()
	for stopping := false; ; {
		select {
		case n := <-news:
			switch {
			case n.err != nil:
				return nil, n.err
			case n.update.Problem != nil:
				return nil, n.update.Problem
			case n.update.Report != nil:
				return n.update.Report, nil
			}
			moves.Show(*n.update.Progress)
		case err := <-stopped:
			if err != nil {
				return nil, fmt.Errorf("stopping it: %w", err)
			}
		case <-s.signals:
			if stopping {
				return nil, fmt.Errorf("%w twice: quit while it was being stopped", errInterrupted)
			}
			stopping = true
			screen.Step("stopping; interrupt again to quit at once")
			go func() {
				ctx, cancel := context.WithTimeout(ctx, stopLimit)
				defer cancel()
				stopped <- h.stop(ctx)
			}()
		}
	}
}
