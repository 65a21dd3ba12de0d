package relay_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

func TestSmoke(t *testing.T) {
	c1, c2 := net.Pipe()
	p1, p2 := net.Pipe()
	r := relay.New(relay.Config{Consumer: c1, Producer: p1})
	done := make(chan error, 1)
	go func() { done <- r.Run(context.Background()) }()
	f := (&mcbp.Packet{Opcode: mcbp.OpDCPMutation, Value: make([]byte, 300000)}).Frame()
	go p2.Write(f)
	got := make([]byte, len(f))
	_, err := io.ReadFull(c2, got)
	require.NoError(t, err)
	require.Equal(t, []byte(f), got)
	add := (&mcbp.Packet{Opcode: mcbp.OpDCPAddStream, Extras: make([]byte, 4)}).Frame()
	require.NoError(t, r.Inject(relay.Consumer, add))
	got = make([]byte, len(add))
	_, err = io.ReadFull(c2, got)
	require.NoError(t, err)
	require.Equal(t, []byte(add), got)
	p2.Close()
	select {
	case err := <-done:
		require.ErrorIs(t, err, io.EOF)
		var f *relay.Failure
		require.ErrorAs(t, err, &f)
		require.Equal(t, relay.Producer, f.Side)
	case <-time.After(5 * time.Second):
		t.Fatal("no end")
	}
}
