package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/console"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/demo"
)

// eventsCommand shows the event log.
type eventsCommand struct {
	managerFlags `embed:""`

	Since  uint64 `placeholder:"N" help:"Begin after the event with this number."`
	Follow bool   `help:"Go on with what happens, until interrupted."`
}

func (c *eventsCommand) run(_ []string, s streams) int {
	screen := console.New(s.out, false)
	return c.ask(s, func(ctx context.Context, client *control.Client) error {
		for event, err := range client.Events(ctx, c.Since, c.Follow) {
			switch {
			case c.Follow && errors.Is(err, errInterrupted):
				return nil
			case err != nil:
				return err
			case c.JSON:
				printJSON(s.out, event)
			default:
				screen.Event(event)
			}
		}
		return nil
	})
}

// throttleCommand shows or changes how rebalances are slowed down.
type throttleCommand struct {
	managerFlags `embed:""`

	MovesPerNode   *int   `placeholder:"N" help:"How many moves may involve one node at the same time; 0 is as many as the configuration's limits say."`
	BytesPerSecond *int64 `placeholder:"N" help:"How many bytes the moves may make the replications carry in a second, in the mean; 0 is no limit."`
}

func (c *throttleCommand) validate() error {
	if c.MovesPerNode != nil && *c.MovesPerNode < 0 {
		return &demo.FlagError{Flag: "--moves-per-node", Value: fmt.Sprint(*c.MovesPerNode), Why: "must be 0 or more"}
	}
	if c.BytesPerSecond != nil && *c.BytesPerSecond < 0 {
		return &demo.FlagError{Flag: "--bytes-per-second", Value: fmt.Sprint(*c.BytesPerSecond), Why: "must be 0 or more"}
	}
	return c.managerFlags.validate()
}

func (c *throttleCommand) run(_ []string, s streams) int {
	return c.ask(s, func(ctx context.Context, client *control.Client) error {
		var now rebalance.Throttle
		if err := client.Do(ctx, http.MethodGet, control.Prefix+"/throttle", nil, &now); err != nil {
			return err
		}
		if c.MovesPerNode != nil {
			now.MovesPerNode = *c.MovesPerNode
		}
		if c.BytesPerSecond != nil {
			now.BytesPerSecond = *c.BytesPerSecond
		}
		show := func(screen *console.Console) { screen.Throttle(now) }
		if c.MovesPerNode == nil && c.BytesPerSecond == nil {
			return c.shown(ctx, client, http.MethodGet, "/throttle", nil, &now, s, show)
		}
		return c.shown(ctx, client, http.MethodPut, "/throttle", now, &now, s, show)
	})
}
