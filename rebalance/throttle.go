package rebalance

import "fmt"

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
		return fmt.Errorf("rebalance: Throttle.MovesPerNode is %d", t.MovesPerNode)
	case t.BytesPerSecond < 0:
		return fmt.Errorf("rebalance: Throttle.BytesPerSecond is %d", t.BytesPerSecond)
	}
	return nil
}
