package rebalance

import (
	"context"
	"fmt"
)

// Throttle slows rebalances down. The zero value does not.
type Throttle struct {
	// MovesPerNode is how many moves may involve one node at the same time; 0 means what [Limits.Schedule] says, which it
	// never exceeds.
	MovesPerNode int `json:"moves_per_node,omitempty"`
	// BytesPerSecond limits what moves make the replications carry, all together, in the mean: no move begins while those
	// before it have carried more than that. 0 means no limit. A vbucket that has begun to move is not slowed down, so that
	// nothing else that shares its connections is held up; what it carries beyond the limit is waited for before the next
	// one begins.
	BytesPerSecond int64 `json:"bytes_per_second,omitempty"`
}

func (t Throttle) validate() error {
	switch {
	case t.MovesPerNode < 0:
		return fmt.Errorf("Throttle.MovesPerNode is %d", t.MovesPerNode)
	case t.BytesPerSecond < 0:
		return fmt.Errorf("Throttle.BytesPerSecond is %d", t.BytesPerSecond)
	}
	return nil
}

// SetThrottle slows rebalances down from now on, or lets them go: the one that runs, and those to come, as long as the cluster is
// open. Moves that are under way are not touched.
func (c *Cluster) SetThrottle(ctx context.Context, throttle Throttle) error {
	if err := throttle.validate(); err != nil {
		return fmt.Errorf("rebalance: %w", err)
	}
	c.env.throttle.Store(&throttle)
	_, err := c.orchestrator().Call(ctx, throttleChanged{})
	return c.closedError(err)
}

// Throttle is how rebalances are slowed down now.
func (c *Cluster) Throttle() Throttle { return *c.env.throttle.Load() }
