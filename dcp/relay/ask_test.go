package relay_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

func TestDefaultTablesAskAboutTheFramesOfDCPWire13(t *testing.T) {
	type key struct {
		magic mcbp.Magic
		op    mcbp.Opcode
	}
	want := map[relay.Side]map[key]bool{
		relay.Consumer: {
			{mcbp.MagicResponse, mcbp.OpDCPAddStream}:       true,
			{mcbp.MagicResponse, mcbp.OpDCPCloseStream}:     true,
			{mcbp.MagicRequest, mcbp.OpDCPStreamReq}:        true,
			{mcbp.MagicResponse, mcbp.OpDCPSetVBucketState}: true,
		},
		relay.Producer: {
			{mcbp.MagicResponse, mcbp.OpDCPAddStream}:      true,
			{mcbp.MagicResponse, mcbp.OpDCPCloseStream}:    true,
			{mcbp.MagicResponse, mcbp.OpDCPStreamReq}:      true,
			{mcbp.MagicRequest, mcbp.OpDCPStreamEnd}:       true,
			{mcbp.MagicRequest, mcbp.OpDCPSetVBucketState}: true,
		},
	}
	for side, asks := range want {
		table := relay.DefaultTable(side)
		for m := range 256 {
			if !mcbp.Magic(m).Known() {
				assert.Panics(t, func() { table.Action(mcbp.Magic(m), 0) })
				assert.Panics(t, func() { table.Set(mcbp.Magic(m), 0, relay.ActionDrop) })
				continue
			}
			for op := range 256 {
				expect := relay.ActionPass
				if asks[key{mcbp.Magic(m), mcbp.Opcode(op)}] {
					expect = relay.ActionAsk
				}
				assert.Equal(t, expect, table.Action(mcbp.Magic(m), mcbp.Opcode(op)), "%v magic %#x opcode %#x", side, m, op)
			}
		}
	}
}

func TestTableKeepsMagicsApart(t *testing.T) {
	table := new(relay.Table)
	magics := []mcbp.Magic{0x80, 0x81, 0x82, 0x83, 0x08, 0x18}
	for i, m := range magics {
		table.Set(m, mcbp.Opcode(i), relay.ActionDrop)
	}
	for _, m := range magics {
		for i := range magics {
			assert.Equal(t, m == magics[i], table.Action(m, mcbp.Opcode(i)) == relay.ActionDrop)
		}
	}
}

// What is said of an opcode under one magic is not said of it under the others, whatever way the frame takes.
func TestActionsAreThoseOfTheFramesOwnMagic(t *testing.T) {
	magics := []mcbp.Magic{0x80, 0x81, 0x82, 0x83, 0x08, 0x18}
	for _, dropped := range magics {
		table := new(relay.Table)
		table.Set(dropped, mcbp.OpDCPMutation, relay.ActionDrop)
		g := start(t, pipe, relay.Config{ProducerTable: table})
		var in, out []byte
		for _, m := range magics {
			f := (&mcbp.Packet{Magic: m, Opcode: mcbp.OpDCPMutation, Value: []byte{byte(m)}}).Frame()
			in = append(in, f...)
			if m != dropped {
				out = append(out, f...)
			}
		}
		g.writeAsync(relay.Producer, append(in, noop(1)...))
		g.expect(relay.Consumer, append(out, noop(1)...))
	}
}

func TestConsecutiveAskedFramesAreOneBatchWithVerdictsInOrder(t *testing.T) {
	var batches [][]mcbp.Frame
	decider := deciderFunc(func(_ context.Context, side relay.Side, frames []mcbp.Frame, verdicts []relay.Verdict) error {
		assert.Equal(t, relay.Producer, side)
		assert.Len(t, verdicts, len(frames))
		var batch []mcbp.Frame
		for i, f := range frames {
			assert.Equal(t, relay.Pass, verdicts[i], "verdicts begin as Pass")
			batch = append(batch, append(mcbp.Frame(nil), f...))
			if f.VBucket()%3 == 0 {
				verdicts[i] = relay.Drop
			}
		}
		batches = append(batches, batch)
		return nil
	})
	g := start(t, pipe, relay.Config{Decider: decider})

	var sent, want []mcbp.Frame
	for vb := range uint16(10) {
		sent = append(sent, streamEnd(vb, 1))
	}
	sent = append(sent, mutation(3, 1, 10), streamEnd(20, 1), streamEnd(21, 1), noop(5))
	for _, f := range sent {
		if f.Opcode() != mcbp.OpDCPStreamEnd || f.VBucket()%3 != 0 {
			want = append(want, f)
		}
	}
	g.writeAsync(relay.Producer, join(sent...))
	g.expect(relay.Consumer, join(want...))
	assert.Equal(t, [][]mcbp.Frame{sent[:10], sent[11:13]}, batches)
}

func TestWhatWasReadBeforeAnAskIsWrittenBeforeIt(t *testing.T) {
	asked, proceed := make(chan struct{}), make(chan struct{})
	g := start(t, tcp, relay.Config{Decider: deciderFunc(func(ctx context.Context, _ relay.Side, _ []mcbp.Frame, _ []relay.Verdict) error {
		asked <- struct{}{}
		select {
		case <-proceed:
		case <-ctx.Done():
		}
		return nil
	})})
	before := []mcbp.Frame{mutation(1, 1, 100), noop(1)}
	g.write(relay.Producer, join(append(before, streamEnd(1, 0), noop(2))...))
	<-asked
	g.expect(relay.Consumer, join(before...))
	close(proceed)
	g.expect(relay.Consumer, join(streamEnd(1, 0), noop(2)))
}

func TestBothDirectionsAskAtOnce(t *testing.T) {
	both := make(chan relay.Side, 2)
	release := make(chan struct{})
	g := start(t, tcp, relay.Config{Decider: deciderFunc(func(ctx context.Context, side relay.Side, _ []mcbp.Frame, _ []relay.Verdict) error {
		both <- side
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil
	})})
	request := (&mcbp.Packet{Opcode: mcbp.OpDCPStreamReq, Extras: make([]byte, 48)}).Frame()
	g.write(relay.Consumer, request)
	g.write(relay.Producer, streamEnd(1, 0))
	assert.ElementsMatch(t, []relay.Side{relay.Consumer, relay.Producer}, []relay.Side{<-both, <-both})
	close(release)
	g.expect(relay.Producer, request)
	g.expect(relay.Consumer, streamEnd(1, 0))
}

func TestDeciderErrorPassesNothingOfItsBatch(t *testing.T) {
	g := start(t, tcp, relay.Config{Decider: deciderFunc(func(context.Context, relay.Side, []mcbp.Frame, []relay.Verdict) error {
		return assert.AnError
	})})
	g.write(relay.Consumer, join(noop(1), (&mcbp.Packet{Opcode: mcbp.OpDCPStreamReq, Extras: make([]byte, 48)}).Frame(), noop(2)))
	g.expect(relay.Producer, noop(1))
	f := g.failure()
	assert.Equal(t, relay.Consumer, f.Side)
	assert.ErrorIs(t, f, assert.AnError)
	_, err := g.far[relay.Producer].Read(make([]byte, 1))
	assert.Error(t, err, "nothing follows")
}

// The process that decides may still be reading when its answer is no longer awaited: what it reads must not become another
// relay's bytes.
func TestFramesOfAFailedDecisionStayAsTheyAre(t *testing.T) {
	var kept []mcbp.Frame
	g := start(t, tcp, relay.Config{Decider: deciderFunc(func(_ context.Context, _ relay.Side, frames []mcbp.Frame, _ []relay.Verdict) error {
		kept = frames
		return assert.AnError
	})})
	g.write(relay.Producer, join(streamEnd(1, 0), streamEnd(2, 0)))
	require.ErrorIs(t, g.end(), assert.AnError)
	for range 20 { // whatever memory is free is used by these
		other := start(t, tcp, relay.Config{})
		for _, from := range []relay.Side{relay.Consumer, relay.Producer} {
			other.write(from, bytes.Repeat(noop(0xffffffff), 10))
			other.expect(from.Other(), bytes.Repeat(noop(0xffffffff), 10))
		}
	}
	assert.Equal(t, []mcbp.Frame{streamEnd(1, 0), streamEnd(2, 0)}, kept)
}

type nobody struct{ actors.Base }

// Design §5.3: an ask to a dead process stops the relay.
func TestAskToADeadProcessStopsTheRelay(t *testing.T) {
	system := actors.NewSystem(actors.Options{})
	defer func() { require.NoError(t, system.Close(context.Background())) }()
	pid, err := system.Start(t.Context(), nobody{})
	require.NoError(t, err)
	g := start(t, tcp, relay.Config{Decider: deciderFunc(func(ctx context.Context, _ relay.Side, frames []mcbp.Frame, _ []relay.Verdict) error {
		_, err := pid.Call(ctx, frames)
		return err
	})})
	g.write(relay.Producer, noop(1))
	g.expect(relay.Consumer, noop(1))
	require.NoError(t, pid.Stop(t.Context(), actors.Normal))
	g.write(relay.Producer, join(streamEnd(1, 0), noop(2)))
	f := g.failure()
	assert.Equal(t, relay.Producer, f.Side)
	assert.ErrorIs(t, f, actors.NoProcess)
	for _, far := range g.far {
		_, err := far.Read(make([]byte, 1))
		assert.Error(t, err, "closed, and nothing of the ask has been passed on")
	}
}

func TestDeciderContextEndsWithTheRelay(t *testing.T) {
	asked := make(chan struct{})
	g := start(t, tcp, relay.Config{Decider: deciderFunc(func(ctx context.Context, _ relay.Side, _ []mcbp.Frame, _ []relay.Verdict) error {
		close(asked)
		<-ctx.Done()
		return ctx.Err()
	})})
	g.write(relay.Producer, streamEnd(1, 0))
	<-asked
	require.NoError(t, g.far[relay.Consumer].Close())
	f := g.failure()
	assert.Equal(t, relay.Consumer, f.Side, "the closed socket came first, not the decider's error")
}

func TestAskedFrameSplitEverywhereIsHandedOverWhole(t *testing.T) {
	decider := new(asked)
	g := start(t, pipe, relay.Config{Decider: decider})
	long := (&mcbp.Packet{
		Magic: mcbp.MagicResponse, Opcode: mcbp.OpDCPStreamReq, Value: mutation(1, 1, relay.MaxAskBody)[mcbp.HeaderLen+34:],
	}).Frame()
	frames := []mcbp.Frame{streamEnd(1, 1), streamEnd(2, 1)}
	data := join(frames...)
	for at := 1; at < len(data); at++ {
		go func() {
			_, _ = g.far[relay.Producer].Write(data[:at])
			_, _ = g.far[relay.Producer].Write(data[at:])
		}()
		g.expect(relay.Consumer, data)
	}
	g.writeAsync(relay.Producer, long)
	g.expect(relay.Consumer, long)
	var all []mcbp.Frame
	for _, b := range decider.all() {
		all = append(all, b...)
	}
	require.Len(t, all, 2*(len(data)-1)+1)
	for i, f := range all[:len(all)-1] {
		assert.Equal(t, frames[i%2], f)
	}
	assert.Equal(t, long, all[len(all)-1])
}

func TestManyAskedFramesComeInBoundedBatches(t *testing.T) {
	decider := new(asked)
	g := start(t, tcp, relay.Config{Decider: decider})
	one := streamEnd(1, 1)
	var data []byte
	for range 30_000 {
		data = append(data, one...)
	}
	g.writeAsync(relay.Producer, data)
	g.expect(relay.Consumer, data)
	total := 0
	for _, b := range decider.all() {
		total += len(b)
		assert.LessOrEqual(t, len(b), 4096)
	}
	assert.Equal(t, 30_000, total)
}
