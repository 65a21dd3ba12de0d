package rebalance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/rebalance/store"
)

// updateChains changes chains of the map that is in force, and tells of each.
func (e *environment) updateChains(ctx context.Context, bucket string, epoch uint64, changes ...store.ChainChange) error {
	if err := e.buckets.UpdateChains(ctx, bucket, epoch, changes...); err != nil {
		if errors.Is(err, store.ErrConflict) {
			return fmt.Errorf("%w: %w", ErrMapChanged, err)
		}
		return err
	}
	now := time.Now()
	for _, c := range changes {
		e.events.Publish(ChainChanged{Bucket: bucket, VB: uint16(c.VB), Before: c.Old, After: c.New, At: now})
	}
	return nil
}
