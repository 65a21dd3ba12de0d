package integration

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
)

// Nobody reads from a socket that waits for the other end of its link, so that a kick is noticed only when they are joined.
// Until then every caller has his answer all the same, and afterwards the link comes back by itself.
func TestAKickOfASocketThatWaitsForTheOtherLetsNobodyWait(t *testing.T) {
	p := newPair(t, healthy, dcp.Limits{Join: 100 * time.Millisecond})
	p.dialBy(producer, func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("down") })
	name := p.manager.ConnectionFor(producer, 1)
	kicked := func() {
		t.Helper()
		p.eventually("the consumer's end is open", func() bool { return slices.Contains(p.connections(), name) })
		require.NoError(t, p.open(name).Close())
		p.eventually("it is gone", func() bool { return !slices.Contains(p.connections(), name) })
	}
	var down *dcp.NotConnectedError
	require.ErrorAs(t, p.apply(1), &down)
	kicked()
	require.ErrorAs(t, p.apply(1), &down)
	require.NoError(t, p.manager.Fence(p.ctx, 1, producer), "it is opened again")
	kicked()
	require.NoError(t, p.manager.Prepare(p.ctx, 2))
	p.dialBy(producer, nil)
	p.eventually("it comes back", func() bool { return p.manager.Apply(p.ctx, 2, "", map[uint16]string{1: producer}) == nil })
	p.write(1, 3)
	p.requireReplicated(1)
}
