package relay_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

func TestInjectWhileIdle(t *testing.T) {
	g := start(t, tcp, relay.Config{})
	for vb := range uint16(3) {
		for _, side := range []relay.Side{relay.Consumer, relay.Producer} {
			require.NoError(t, g.relay.Inject(side, addStream(vb)))
			g.expect(side, addStream(vb))
		}
	}
}

func TestInjectedBeforeRunComesFirst(t *testing.T) {
	near, far := tcp(t)
	other, otherFar := tcp(t)
	r := relay.New(relay.Config{Consumer: near, Producer: other})
	require.NoError(t, r.Inject(relay.Consumer, join(addStream(1), addStream(2))))
	_, err := otherFar.Write(noop(1))
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- r.Run(t.Context()) }()
	want := join(addStream(1), addStream(2), noop(1))
	got := make([]byte, len(want))
	_, err = io.ReadFull(far, got)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	require.NoError(t, far.Close())
	require.Error(t, <-done)
	require.NoError(t, otherFar.Close())
}

// A long frame whose source pauses is not a boundary.
func TestInjectionWaitsForTheEndOfALongFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, pipe, relay.Config{})
		f := mutation(1, 1, 1<<20)
		g.writeAsync(relay.Producer, f[:1000])
		g.expect(relay.Consumer, f[:1000])
		synctest.Wait()
		require.NoError(t, g.relay.Inject(relay.Consumer, addStream(1)))
		synctest.Wait()
		g.writeAsync(relay.Producer, f[1000:])
		g.expect(relay.Consumer, append(f[1000:len(f):len(f)], addStream(1)...))
	})
}

func TestInjectTakesWholeFramesOnly(t *testing.T) {
	g := start(t, pipe, relay.Config{})
	whole := addStream(1)
	assert.Error(t, g.relay.Inject(relay.Consumer, whole[:len(whole)-1]))
	assert.Error(t, g.relay.Inject(relay.Consumer, join(whole, noop(1)[:10])))
	var malformed *mcbp.MalformedError
	assert.ErrorAs(t, g.relay.Inject(relay.Consumer, make([]byte, mcbp.HeaderLen)), &malformed)
}

func TestInjectKeepsNoReference(t *testing.T) {
	g := start(t, pipe, relay.Config{})
	f := addStream(1)
	require.NoError(t, g.relay.Inject(relay.Consumer, f))
	clear(f)
	g.expect(relay.Consumer, addStream(1))
}

func TestInjectionQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 280
		g := start(t, pipe, relay.Config{InjectLimit: limit})
		one := addStream(1)
		var queued []byte
		for len(queued)+len(one) <= limit {
			require.NoError(t, g.relay.Inject(relay.Consumer, one))
			queued = append(queued, one...)
		}
		require.ErrorIs(t, g.relay.Inject(relay.Consumer, one), relay.ErrInjectFull)
		synctest.Wait()
		require.ErrorIs(t, g.relay.Inject(relay.Consumer, one), relay.ErrInjectFull, "what is being written still counts")
		require.NoError(t, g.relay.Inject(relay.Producer, one), "each side has its own")
		g.expect(relay.Consumer, queued)
		g.expect(relay.Producer, one)
		synctest.Wait()
		require.NoError(t, g.relay.Inject(relay.Consumer, one))
		g.expect(relay.Consumer, one)
	})
}

func TestInjectAfterTheEndNamesTheFailure(t *testing.T) {
	g := start(t, pipe, relay.Config{})
	require.NoError(t, g.far[relay.Producer].Close())
	require.ErrorIs(t, g.end(), io.EOF)
	err := g.relay.Inject(relay.Consumer, addStream(1))
	assert.ErrorIs(t, err, relay.ErrStopped)
	assert.ErrorIs(t, err, io.EOF)
	var f *relay.Failure
	require.ErrorAs(t, err, &f)
	assert.Equal(t, relay.Producer, f.Side)
}

// A saturated direction: frames of all sizes, without a pause, while others are injected into the same socket.
func TestInjectedFramesStandBetweenFramesAndAreNotStarved(t *testing.T) {
	for name, dial := range map[string]func(testing.TB) (net.Conn, net.Conn){"pipe": pipe, "tcp": tcp} {
		t.Run(name, func(t *testing.T) {
			g := start(t, dial, relay.Config{})
			block := join(
				noop(1), mutation(1, 1, 50), mutation(1, 2, 5000), noop(2), mutation(1, 3, 200_000), mutation(1, 4, 1200<<10), mutation(1, 5, 70_000),
			)
			ctx, stop := context.WithCancel(context.Background())
			var writer sync.WaitGroup
			writer.Go(func() {
				for ctx.Err() == nil {
					if _, err := g.far[relay.Producer].Write(block); err != nil {
						return
					}
				}
			})
			const rounds = 8
			injected, passed := 0, 0
			var data []byte
			require.NoError(t, g.relay.Inject(relay.Consumer, addStream(0)))
			for injected < rounds {
				header := g.read(relay.Consumer, mcbp.HeaderLen)
				n, err := mcbp.FrameLen(header, mcbp.DefaultMaxBody)
				require.NoError(t, err, "an injected frame landed inside another")
				f := mcbp.Frame(append(header, g.read(relay.Consumer, n-mcbp.HeaderLen)...))
				if f.Opcode() == mcbp.OpDCPAddStream {
					require.EqualValues(t, injected, f.VBucket(), "in the order of the calls")
					injected++
					require.NoError(t, g.relay.Inject(relay.Consumer, addStream(uint16(injected))))
					continue
				}
				passed++
				data = append(data, f...)
				if len(data) >= len(block) {
					require.True(t, bytes.Equal(block, data[:len(block)]))
					data = data[len(block):]
				}
				require.Less(t, passed, 1_000_000, "injected frames are starved")
			}
			stop()
			g.cancel(nil)
			_ = g.end()
			writer.Wait()
		})
	}
}

// Nothing but long frames, which are moved in runs of several: the runs end for an injected frame.
func TestInjectedFramesAreNotStarvedByLongOnes(t *testing.T) {
	g := start(t, tcp, relay.Config{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for {
			if _, err := g.far[relay.Producer].Write(mutation(1, 1, 100_000)); err != nil {
				return
			}
		}
	})
	r := bufio.NewReaderSize(g.far[relay.Consumer], 1<<20)
	for i := range uint16(20) {
		require.NoError(t, g.relay.Inject(relay.Consumer, addStream(i)))
		require.Equal(t, i, g.until(r, mcbp.OpDCPAddStream).VBucket())
	}
	g.cancel(nil)
	_ = g.end()
	writer.Wait()
}

func TestConcurrentInjectionsAllArriveWhole(t *testing.T) {
	g := start(t, tcp, relay.Config{})
	const each = 500
	var senders sync.WaitGroup
	for s := range uint16(4) {
		senders.Go(func() {
			for i := range uint16(each) {
				assert.NoError(t, g.relay.Inject(relay.Consumer, addStream(s<<12|i)))
			}
		})
	}
	senders.Go(func() {
		for i := range uint32(each) {
			g.write(relay.Producer, mutation(1, i, int(i)))
		}
	})
	var next [4]uint16
	var moved uint32
	for range 5 * each {
		header := g.read(relay.Consumer, mcbp.HeaderLen)
		n, err := mcbp.FrameLen(header, mcbp.DefaultMaxBody)
		require.NoError(t, err)
		f := mcbp.Frame(append(header, g.read(relay.Consumer, n-mcbp.HeaderLen)...))
		if f.Opcode() == mcbp.OpDCPMutation {
			require.Equal(t, mutation(1, moved, int(moved)), f)
			moved++
			continue
		}
		s := f.VBucket() >> 12
		require.Equal(t, next[s], f.VBucket()&0xfff)
		next[s]++
	}
	senders.Wait()
}
