package kv

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

func TestACallThatCouldNotBeQueuedLeavesNothingBehind(t *testing.T) {
	c := &Client{send: make(chan []byte), done: make(chan struct{}), calls: make(map[mcbp.Opaque]*call)} // nobody writes
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := c.Do(ctx, &mcbp.Packet{Opcode: mcbp.OpNoop})
		ended <- err
	}()
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	assert.Empty(t, c.calls)
}

func TestOpaquesOfUnansweredCallsAreNotUsedAgain(t *testing.T) {
	c := &Client{calls: make(map[mcbp.Opaque]*call), next: 1<<32 - 2}
	taken := new(call)
	c.calls[mcbp.OpaqueFromUint32(0)] = taken
	for _, want := range []uint32{1<<32 - 1, 1, 2} {
		got, err := c.register(new(call))
		require.NoError(t, err)
		assert.Equal(t, want, got.Uint32())
	}
	assert.Same(t, taken, c.calls[mcbp.OpaqueFromUint32(0)])
}
