package rebalance

import (
	"context"
	"errors"
	"slices"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// createBucketOnAll creates a bucket on nodes, all at the same time. One that warms up is waited for, but only as long as
// none fails for another reason.
func (e *environment) createBucketOnAll(ctx context.Context, nodes []string, config BucketConfig) error {
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	_, err := onNodes(nodes, "creating the bucket", func(node string) (struct{}, error) {
		err := e.createBucketOn(ctx, node, config)
		if err != nil {
			giveUp()
		}
		return struct{}{}, err
	})
	var failed *NodesError
	if errors.As(err, &failed) {
		if causes := slices.DeleteFunc(slices.Clone(failed.Failed), onlyWaited); len(causes) > 0 {
			return &NodesError{Doing: failed.Doing, Failed: causes}
		}
	}
	return err
}

// onlyWaited says that a node was not at fault but not ready yet, or was not waited for any more.
func onlyWaited(e *NodeError) bool {
	return errors.Is(e, mcbp.StatusTemporaryFailure) || isVague(e)
}
