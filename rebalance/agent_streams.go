package rebalance

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shearpin/shearpin/dcp"
)

// endStreams ends all streams from some producers, also if these hang, and forgets that they were wanted. When it is
// answered without an error, nothing comes from them any more.
type endStreams struct {
	stamp
	Producers []string `json:"producers"`
}

func (endStreams) scope() (uint16, bool) { return 0, true }

func (r endStreams) String() string {
	return "end of the streams from " + strings.Join(r.Producers, ", ")
}

// closePatience is how long streams may take to be closed, closeAttempts how often that is tried.
const (
	closePatience = 2 * time.Second
	closeAttempts = 3
)

// endStreams breaks the connections first, because a producer that is given up may be silent, and a stream is closed on
// both sides. What the manager has restored meanwhile, from a producer that lives, is closed in good order.
func (a *agent) endStreams(ctx, fence context.Context, r endStreams) error {
	_, err := within(ctx, a.limits.Query, func(ctx context.Context) (_ struct{}, err error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(fence, func() { cancel(dcp.ErrSuperseded) })()
		for range closeAttempts {
			if err = a.tryEndStreams(ctx, r); err == nil || ctx.Err() != nil {
				break
			}
		}
		return struct{}{}, err
	})
	return err
}

func (a *agent) tryEndStreams(ctx context.Context, r endStreams) error {
	from := func(producer string) bool { return slices.Contains(r.Producers, producer) }
	status, err := a.replications.Status(ctx)
	if err != nil {
		return err
	}
	links := slices.DeleteFunc(status.Links, func(l dcp.LinkStatus) bool { return !from(l.Producer) })
	if err := a.breakLinks(ctx, links); err != nil {
		return err
	}
	if status, err = a.replications.Status(ctx); err != nil {
		return err
	}
	retain := liveStreams(status)
	maps.Copy(retain, status.Desired)
	maps.DeleteFunc(retain, func(_ uint16, producer string) bool { return from(producer) })
	_, err = within(ctx, closePatience, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, a.replications.Retain(ctx, r.Epoch, r.Owner, retain)
	})
	return err
}

// breakLinks ends the connections of links. The engine of the consumer has answered afterwards, and ended their streams.
func (a *agent) breakLinks(ctx context.Context, links []dcp.LinkStatus) error {
	var group errgroup.Group
	for _, l := range links {
		group.Go(func() error {
			// Any vbucket that the link carries will do.
			if err := a.replications.Fence(ctx, uint16(l.Conn), l.Producer); err != nil {
				return fmt.Errorf("replication %s→%s/%d is not broken: %w", l.Producer, a.node, l.Conn, err)
			}
			return nil
		})
	}
	return group.Wait()
}
