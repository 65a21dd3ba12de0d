package relay_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// The model: a frame passes unless its CAS says drop. Injected frames have opaques of their own.
const dropCAS = 1

func modelDecide(_ context.Context, _ relay.Side, frames []mcbp.Frame, verdicts []relay.Verdict) error {
	for i, f := range frames {
		if f.CAS() == dropCAS {
			verdicts[i] = relay.Drop
		}
	}
	return nil
}

func genFrame(t *rapid.T) mcbp.Frame {
	p := &mcbp.Packet{
		Magic:  rapid.SampledFrom([]mcbp.Magic{0x80, 0x80, 0x80, 0x81, 0x82, 0x83, 0x08, 0x18}).Draw(t, "magic"),
		Opcode: rapid.SampledFrom([]mcbp.Opcode{0x51, 0x52, 0x53, 0x55, 0x57, 0x57, 0x5b, 0x5c, 0x5e, 0xf7}).Draw(t, "opcode"),
		CAS:    rapid.Uint64Range(0, 2).Draw(t, "cas"),
	}
	size := rapid.SampledFrom([]int{0, 0, 1, 50, 1000, 4096, 20_000}).Draw(t, "size")
	if p.Opcode == mcbp.OpDCPMutation && rapid.IntRange(0, 9).Draw(t, "large") == 0 {
		size = rapid.SampledFrom([]int{64 << 10, 70_000, 300_000, 2 << 20}).Draw(t, "size")
	}
	p.Value = bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, size)
	return p.Frame()
}

// Random frames in random pieces, both ways at once, with random injections: what comes out is what the table and the
// decider let through, in order, with the injected frames in order between them.
func TestRandomConversations(t *testing.T) {
	t.Run("pipe", rapid.MakeCheck(func(rt *rapid.T) { randomConversation(t, rt, pipe) }))
	t.Run("tcp", rapid.MakeCheck(func(rt *rapid.T) { randomConversation(t, rt, tcp) }))
}

func randomConversation(t *testing.T, rt *rapid.T, dial func(testing.TB) (near, far net.Conn)) {
	var cfg relay.Config
	var far [2]net.Conn
	cfg.Consumer, far[relay.Consumer] = dial(t)
	cfg.Producer, far[relay.Producer] = dial(t)
	cfg.Decider = deciderFunc(modelDecide)
	r := relay.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	var writers sync.WaitGroup
	defer func() {
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		writers.Wait()
		for _, c := range far {
			_ = c.Close()
		}
	}()

	var want, injected [2][]byte // by the side that receives
	for _, from := range []relay.Side{relay.Consumer, relay.Producer} {
		table := relay.DefaultTable(from)
		var data []byte
		for _, f := range rapid.SliceOfN(rapid.Custom(genFrame), 1, 30).Draw(rt, "frames from "+from.String()) {
			data = append(data, f...)
			if table.Action(f.Magic(), f.Opcode()) != relay.ActionAsk || f.CAS() != dropCAS {
				want[from.Other()] = append(want[from.Other()], f...)
			}
		}
		pieces := rapid.SliceOfN(rapid.IntRange(1, 9000), 1, 8).Draw(rt, "pieces")
		writers.Go(func() {
			for i := 0; len(data) > 0; i++ {
				n := min(len(data), pieces[i%len(pieces)]<<(i/64)) // some small ones, and an end
				if _, err := far[from].Write(data[:n]); err != nil {
					return
				}
				data = data[n:]
			}
		})
	}
	for i := range uint16(rapid.IntRange(0, 20).Draw(rt, "injections")) {
		to := relay.Side(rapid.IntRange(0, 1).Draw(rt, "to"))
		require.NoError(rt, r.Inject(to, addStream(i)))
		injected[to] = append(injected[to], addStream(i)...)
	}

	var readers sync.WaitGroup
	var got [2][]byte
	var errs [2]error
	for side := range far {
		readers.Go(func() {
			got[side] = make([]byte, len(want[side])+len(injected[side]))
			_, errs[side] = io.ReadFull(far[side], got[side])
		})
	}
	readers.Wait()
	for side := range far {
		require.NoError(rt, errs[side])
		var passed, added []byte
		for rest := got[side]; len(rest) > 0; {
			var f mcbp.Frame
			var err error
			f, rest, err = mcbp.Parse(rest, mcbp.DefaultMaxBody)
			require.NoError(rt, err, "an injected frame landed inside another")
			if o := f.Opaque(); f.Opcode() == mcbp.OpDCPAddStream && o[0] == 0xff && o[3] == 0xff {
				added = append(added, f...)
			} else {
				passed = append(passed, f...)
			}
		}
		require.True(rt, bytes.Equal(want[side], passed))
		require.True(rt, bytes.Equal(injected[side], added))
	}
}

// FuzzStream feeds arbitrary bytes: whole good frames come out, and nothing behind a bad one; the relay ends, and says why.
func FuzzStream(f *testing.F) {
	f.Add(join(assorted()...), uint16(30))
	f.Add(join(noop(1), streamEnd(1, 2)[:20]), uint16(3))
	f.Add(join(noop(1), mutation(1, 1, 100_000)[:200]), uint16(100))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n................"), uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, split uint16) {
		const maxBody = 1 << 20
		var whole []byte
		rest := data
		for {
			frame, next, err := mcbp.Parse(rest, maxBody)
			if err != nil || relay.DefaultTable(relay.Producer).Action(frame.Magic(), frame.Opcode()) == relay.ActionAsk && frame.BodyLen() > relay.MaxAskBody {
				break
			}
			whole, rest = append(whole, frame...), next
		}
		near, far := net.Pipe()
		out, sink := net.Pipe()
		r := relay.New(relay.Config{Consumer: out, Producer: near, MaxBody: maxBody})
		ended := make(chan error, 1)
		go func() { ended <- r.Run(t.Context()) }()
		go func() {
			at := min(int(split), len(data))
			_, _ = far.Write(data[:at])
			_, _ = far.Write(data[at:])
			_ = far.Close()
		}()
		got, err := io.ReadAll(sink)
		require.NoError(t, err)
		require.True(t, bytes.HasPrefix(got, whole))
		require.True(t, bytes.HasPrefix(rest, got[len(whole):]), "only a frame that streams comes out in part")
		var failure *relay.Failure
		require.ErrorAs(t, <-ended, &failure)
		require.Equal(t, relay.Producer, failure.Side)
		require.NoError(t, sink.Close())
	})
}
