package rebalance

import "sync"

// carriers are the replications into all members, by the name of their agent. What they carry for moves is counted here, without
// asking a process: whoever slows moves down must know it in time.
type carriers struct {
	mu      sync.Mutex
	byAgent map[string]replications
	// before is what was carried into members that are no more.
	before uint64
}

func newCarriers() *carriers { return &carriers{byAgent: map[string]replications{}} }

// enter takes the replications that an agent commands.
func (c *carriers) enter(agent string, r replications) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := c.byAgent[agent]; last != nil && last != r {
		c.before += last.Carried()
	}
	c.byAgent[agent] = r
}

// leave takes the end of a member.
func (c *carriers) leave(agent string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := c.byAgent[agent]; last != nil {
		c.before += last.Carried()
		delete(c.byAgent, agent)
	}
}

// count says which vbuckets' bytes are a move's, on their way to the agent's node.
func (c *carriers) count(agent string, vbs []uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.byAgent[agent]; r != nil {
		r.Count(vbs)
	}
}

// total is how many bytes moves have made the replications carry since the cluster was opened. It never falls.
func (c *carriers) total() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	total := c.before
	for _, r := range c.byAgent {
		total += r.Carried()
	}
	return total
}
