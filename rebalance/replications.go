package rebalance

import (
	"context"

	"github.com/shearpin/shearpin/dcp"
)

// replications is what an agent asks of the streams into its node; a *dcp.Manager is one.
type replications interface {
	Prepare(ctx context.Context, epoch uint64) error
	Apply(ctx context.Context, epoch uint64, owner string, changes map[uint16]string) error
	Want(ctx context.Context, epoch uint64, wanted map[uint16]string) error
	Retain(ctx context.Context, epoch uint64, owner string, wanted map[uint16]string) error
	Takeover(ctx context.Context, epoch uint64, owner string, vb uint16, producer string) error
	Release(ctx context.Context, epoch uint64, owner string) error
	Fence(ctx context.Context, vb uint16, producer string) error
	Status(ctx context.Context) (dcp.Status, error)
	Shut(ctx context.Context) error
	Count(vbs []uint16)
	Carried() uint64
}

var _ replications = (*dcp.Manager)(nil)

// liveStreams is vbucket to producer of the streams that are live.
func liveStreams(status dcp.Status) map[uint16]string {
	streams := map[uint16]string{}
	for _, link := range status.Links {
		for _, vb := range link.Streams {
			streams[vb] = link.Producer
		}
	}
	return streams
}
