package rebalance

import (
	"errors"

	"github.com/shearpin/shearpin/actors"
)

// Done is closed when the management has ended: after [Cluster.Close], or because its processes failed more often than
// their supervisors accept. In the latter case the replications have ended too, and the cluster is of no use any more.
func (c *Cluster) Done() <-chan struct{} { return c.root.Done() }

// Err is why the management has ended by itself: nil while it has not, and after [Cluster.Close].
func (c *Cluster) Err() error {
	select {
	case <-c.root.Done():
	default:
		return nil
	}
	if reason := c.root.Reason(); !errors.Is(reason, actors.Shutdown) {
		return reason
	}
	return nil
}
