package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/console"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// The commands that ask the manager one thing and show the answer.
type (
	planCommand struct {
		managerFlags `embed:""`
		choice       `embed:""`

		Out string `placeholder:"FILE" help:"Write the plan to FILE, for shearpin rebalance --plan."`
	}
	statusCommand struct {
		managerFlags `embed:""`

		Watch bool `help:"Show it again each time something has changed, until interrupted."`
	}
	stopCommand struct {
		managerFlags `embed:""`
	}
	janitorCommand struct {
		managerFlags `embed:""`
	}
	treeCommand struct {
		managerFlags `embed:""`
	}
	reportsCommand struct {
		managerFlags `embed:""`

		ID string `arg:"" optional:"" help:"The rebalance whose whole report to show; without, a line for each that is kept."`
	}
	bucketsCommand struct {
		List   bucketsListCommand   `cmd:"" default:"withargs" help:"Show the buckets and where their copies are."`
		Create bucketsCreateCommand `cmd:"" help:"Create a bucket."`
		Map    bucketsMapCommand    `cmd:"" help:"Show the chain of each vbucket of a bucket."`
	}
	bucketsListCommand struct {
		managerFlags `embed:""`
	}
	bucketsMapCommand struct {
		managerFlags `embed:""`

		Name string `arg:"" help:"The bucket."`
	}
	bucketsCreateCommand struct {
		managerFlags `embed:""`

		Name      string `arg:"" help:"The name."`
		VBuckets  int    `name:"vbuckets" default:"1024" help:"How many vbuckets it has for the rest of its life (${default})."`
		Replicas  int    `default:"1" help:"How many copies there are besides the active, 0 to 3 (${default})."`
		QuotaMiB  int64  `name:"quota-mib" default:"256" help:"The memory that each node may use for it, in MiB (${default})."`
		Directory string `placeholder:"DIR" help:"Where each node keeps its files, a path on that node."`
	}
	nodesCommand struct {
		List   nodesListCommand   `cmd:"" default:"withargs" help:"Show the nodes that the cluster knows."`
		Add    nodesAddCommand    `cmd:"" help:"Make a node known; the next rebalance moves something to it."`
		Remove nodesRemoveCommand `cmd:"" help:"Forget a node that holds nothing any more."`
	}
	nodesListCommand struct {
		managerFlags `embed:""`
	}
	nodesAddCommand struct {
		managerFlags `embed:""`

		Node string `arg:"" placeholder:"NAME=ADDR[,GROUP]" help:"The node: NAME=ADDR[,GROUP]."`
		node rebalance.Node
	}
	nodesRemoveCommand struct {
		managerFlags `embed:""`

		Name string `arg:"" help:"The node."`
	}
)

// get asks for something and shows it.
func get[T any](f *managerFlags, path string, s streams, show func(*console.Console, T)) int {
	return f.ask(s, func(ctx context.Context, c *control.Client) error {
		var out T
		return f.shown(ctx, c, http.MethodGet, path, nil, &out, s, func(screen *console.Console) { show(screen, out) })
	})
}

// shown sends a request and shows what comes back, as JSON or as show does.
func (f *managerFlags) shown(
	ctx context.Context, c *control.Client, method, path string, in, out any, s streams, show func(*console.Console),
) error {
	if err := c.Do(ctx, method, control.Prefix+path, in, out); err != nil {
		return err
	}
	if f.JSON {
		printJSON(s.out, out)
		return nil
	}
	show(console.New(s.out, isTerminal(s.out)))
	return nil
}

func (c *planCommand) validate() error {
	for _, err := range []error{c.managerFlags.validate(), c.choice.validate(), checkPath("--out", c.Out)} {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *planCommand) run(_ []string, s streams) int {
	return c.ask(s, func(ctx context.Context, client *control.Client) error {
		plan := &rebalance.Plan{}
		if err := client.Do(ctx, http.MethodPost, control.Prefix+"/plan", c.request(), plan); err != nil {
			return err
		}
		if c.Out != "" {
			text, err := json.Marshal(plan)
			if err != nil {
				return err
			}
			if err := writeWhole("--out", c.Out, append(text, '\n')); err != nil {
				return err
			}
		}
		if c.JSON {
			printJSON(s.out, plan)
		} else {
			console.New(s.out, false).Plan(plan)
		}
		return nil
	})
}

func (c *statusCommand) run(_ []string, s streams) int {
	if c.Watch {
		return c.watch(s)
	}
	return get(&c.managerFlags, "/status", s, (*console.Console).Status)
}

// statusEvery is how often a status is asked for that is watched.
const statusEvery = time.Second

// watch shows the status whenever it has changed, until it is interrupted, which is no failure.
func (c *statusCommand) watch(s streams) int {
	client, err := c.client()
	if err != nil {
		c.tell(err, s)
		return exitUsage
	}
	defer client.Close()
	ticker := time.NewTicker(statusEvery)
	defer ticker.Stop()
	said := ""
	for {
		status, raw, err := c.read(client)
		if err != nil {
			return c.status(err, s)
		}
		if raw != said {
			said = raw
			if c.JSON {
				printJSON(s.out, status)
			} else {
				console.New(s.out, isTerminal(s.out)).Status(status)
			}
		}
		select {
		case <-ticker.C:
		case <-s.signals:
			return exitComplete
		}
	}
}

// read asks once; raw is the same as text.
func (c *statusCommand) read(client *control.Client) (status rebalance.Status, raw string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), overtime)
	defer cancel()
	if err := client.Do(ctx, http.MethodGet, control.Prefix+"/status", nil, &status); err != nil {
		return status, "", err
	}
	text, err := json.Marshal(status)
	return status, string(text), err
}

func (c *stopCommand) run(_ []string, s streams) int {
	return c.ask(s, func(ctx context.Context, client *control.Client) error {
		report := &rebalance.Report{}
		return c.shown(ctx, client, http.MethodPost, "/rebalances/"+control.Current+"/stop", nil, report, s,
			func(screen *console.Console) { screen.Report(report) })
	})
}

func (c *janitorCommand) run(_ []string, s streams) int {
	var problems int
	status := c.ask(s, func(ctx context.Context, client *control.Client) error {
		report := control.Janitor{}
		err := c.shown(ctx, client, http.MethodPost, "/janitor", nil, &report, s, func(screen *console.Console) { screen.Janitor(report) })
		problems = len(report.Problems)
		return err
	})
	if status == exitComplete && problems > 0 {
		return exitFailed
	}
	return status
}

func (c *treeCommand) run(_ []string, s streams) int {
	return get(&c.managerFlags, "/tree", s, (*console.Console).Tree)
}

func (c *reportsCommand) run(_ []string, s streams) int {
	if c.ID == "" {
		return get(&c.managerFlags, "/reports", s, (*console.Console).Reports)
	}
	return get(&c.managerFlags, "/reports/"+url.PathEscape(c.ID), s, (*console.Console).WholeReport)
}

func (c *bucketsListCommand) run(_ []string, s streams) int {
	return get(&c.managerFlags, "/buckets", s, (*console.Console).Buckets)
}

func (c *bucketsMapCommand) run(_ []string, s streams) int {
	return get(&c.managerFlags, "/buckets/"+url.PathEscape(c.Name)+"/map", s, func(screen *console.Console, m vbmap.Map) { screen.Map(m) })
}

func (c *bucketsCreateCommand) run(_ []string, s streams) int {
	return c.ask(s, func(ctx context.Context, client *control.Client) error {
		bucket := &control.Bucket{Name: c.Name, VBuckets: c.VBuckets, Replicas: c.Replicas, QuotaBytes: c.QuotaMiB << 20, Directory: c.Directory}
		return c.shown(ctx, client, http.MethodPost, "/buckets", bucket, bucket, s, func(screen *console.Console) {
			screen.Step(fmt.Sprintf("created %s", c.Name))
		})
	})
}

func (c *nodesListCommand) run(_ []string, s streams) int {
	return get(&c.managerFlags, "/nodes", s, (*console.Console).Members)
}

func (c *nodesAddCommand) validate() (err error) {
	if err := c.managerFlags.validate(); err != nil {
		return err
	}
	c.node, err = parseNode("node", c.Node)
	return err
}

func (c *nodesAddCommand) run(_ []string, s streams) int {
	return c.ask(s, func(ctx context.Context, client *control.Client) error {
		return c.shown(ctx, client, http.MethodPost, "/nodes", c.node, &c.node, s, func(screen *console.Console) {
			screen.Step(fmt.Sprintf("added %s; shearpin rebalance moves vbuckets to it", c.node.Name))
		})
	})
}

func (c *nodesRemoveCommand) run(_ []string, s streams) int {
	return c.ask(s, func(ctx context.Context, client *control.Client) error {
		return c.shown(ctx, client, http.MethodDelete, "/nodes/"+url.PathEscape(c.Name), nil, &struct{}{}, s, func(screen *console.Console) {
			screen.Step(fmt.Sprintf("removed %s; take it out of the configuration too, or the next start adds it again", c.Name))
		})
	})
}
