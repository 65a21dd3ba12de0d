package integration

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

func (p *pair) fault(r fault.Rule) *fault.Fault {
	f, err := p.script.Add(r)
	require.NoError(p.t, err)
	p.t.Cleanup(f.Remove)
	return f
}

// at is a frame of one vbucket at one end of the replication.
func at(role fault.Role, way fault.Direction, op mcbp.Opcode) fault.Match {
	return fault.Match{Role: role, Direction: way, Opcodes: []mcbp.Opcode{op}, VBuckets: []uint16{10}}
}

// What breaks a connection while a stream is set up is the caller's error, by its own type. None of these waits for a limit:
// all are left at their defaults of half a minute and more, which a test could not sit out.
func TestABrokenSetUpIsAnErrorAtOnce(t *testing.T) {
	answer := at(fault.Producer, fault.Sent, mcbp.OpDCPStreamReq)
	added := at(fault.Consumer, fault.Sent, mcbp.OpDCPAddStream)
	ask := at(fault.Consumer, fault.Received, mcbp.OpDCPAddStream)
	closed := func(t *testing.T, err error) { require.ErrorIs(t, err, dcp.ErrSocketClosed) }
	malformed := func(t *testing.T, err error) {
		var wrong *dcp.MalformedFrame
		var bytes *mcbp.MalformedError
		if !assert.ErrorAs(t, err, &bytes) {
			require.ErrorAs(t, err, &wrong)
		}
	}
	unknown := func(t *testing.T, err error) {
		var wrong *dcp.UnknownOpaque
		require.ErrorAs(t, err, &wrong)
	}
	early := func(t *testing.T, err error) {
		var wrong *dcp.UnexpectedStreamEnd
		require.ErrorAs(t, err, &wrong)
		assert.Equal(t, mcbp.EndTooSlow, wrong.Reason)
	}
	for _, c := range []struct {
		name  string
		match fault.Match
		do    fault.Action
		role  string
		check func(*testing.T, error)
	}{
		{"the producer's socket is reset", answer, fault.Close{How: fault.RST}, dcp.RoleProducer, closed},
		{"the producer's socket is closed", answer, fault.Close{How: fault.FIN}, dcp.RoleProducer, closed},
		{"the producer closes its half", answer, fault.Close{How: fault.Half}, dcp.RoleProducer, closed},
		{"the consumer's socket is reset", ask, fault.Close{How: fault.RST}, dcp.RoleConsumer, closed},
		{"the consumer closes its half", ask, fault.Close{How: fault.Half}, dcp.RoleConsumer, closed},
		{"a frame of the producer is cut off in its header", answer, fault.Truncate{Bytes: 10}, dcp.RoleProducer, closed},
		{"a frame of the producer is cut off in its body", answer, fault.Truncate{}, dcp.RoleProducer, closed},
		{"a frame of the consumer is cut off", added, fault.Truncate{}, dcp.RoleConsumer, closed},
		{"garbage from the producer", answer, fault.Garbage{Bytes: 100}, dcp.RoleProducer, malformed},
		{"garbage from the consumer", added, fault.Garbage{Bytes: 100}, dcp.RoleConsumer, malformed},
		{"a body of 4 GiB", answer, fault.HugeLength{}, dcp.RoleProducer, malformed},
		{"an answer to nothing", added, fault.Opaque{To: mcbp.Opaque{0xff, 0x77, 0x77, 0xff}}, dcp.RoleConsumer, unknown},
		{"the stream ends before its set-up is answered", answer, fault.EndStream{Reason: mcbp.EndTooSlow, Before: true}, dcp.RoleConsumer, early},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, healthy, dcp.Limits{})
			require.NoError(t, p.apply(7))
			f := p.fault(fault.Rule{Match: c.match, Times: 1, Do: c.do})
			err := p.apply(10)
			require.NoError(t, f.Wait(p.ctx, 1))
			var crash *dcp.CrashError
			require.ErrorAs(t, err, &crash)
			assert.Equal(t, c.role, crash.Role)
			c.check(t, err)
			require.NoError(t, p.apply(10), "once is over")
			for _, vb := range []uint16{7, 10} {
				p.write(vb, 5)
				p.requireReplicated(vb)
			}
			assert.Len(t, p.crashes(), 1)
		})
	}
}

// What says nothing is found out by a limit, and the error says what was waited for.
func TestASilentSetUpIsAnErrorInTime(t *testing.T) {
	ask := at(fault.Consumer, fault.Received, mcbp.OpDCPAddStream)
	for _, c := range []struct {
		name  string
		match fault.Match
		do    fault.Action
	}{
		{"the answer is kept back", ask, fault.NoAnswer{}},
		{"the request is lost", ask, fault.Drop{}},
		{"the consumer reads no more", ask, fault.StopReading{}},
		{"the consumer's node stops", ask, fault.Pause{}},
		{"the producer's node stops", at(fault.Producer, fault.Received, mcbp.OpDCPStreamReq), fault.Pause{}},
		{"the producer's answer is lost", at(fault.Producer, fault.Sent, mcbp.OpDCPStreamReq), fault.Drop{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, healthy, dcp.Limits{Add: 300 * time.Millisecond})
			f := p.fault(fault.Rule{Match: c.match, Times: 1, Do: c.do})
			err := p.apply(10)
			require.NoError(t, f.Wait(p.ctx, 1))
			var late *dcp.AddStreamTimeout
			require.ErrorAs(t, err, &late)
			assert.Equal(t, []uint16{10}, late.VBs)
			f.Remove()
			p.eventually("it comes back", func() bool { return p.apply(10) == nil })
			p.write(10, 5)
			p.requireReplicated(10)
		})
	}
}

// shallow accepts sockets that take in little. The kernel would let what nobody reads grow beyond what flow control lets out, and
// then nothing waits for the peer.
type shallow struct{ net.Listener }

func (l shallow) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		err = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	}
	return conn, err
}

// A consumer that stops reading in the middle of a stream: the bytes that wait for it are noticed.
func TestAConsumerThatStopsReadingIsFoundOut(t *testing.T) {
	p := newPair(t, healthy, dcp.Limits{Stall: 300 * time.Millisecond}, func(p *pair) {
		p.listen = func() net.Listener {
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			require.NoError(t, err)
			return shallow{l}
		}
	})
	require.NoError(t, p.apply(10))
	f := p.fault(fault.Rule{Match: at(fault.Consumer, fault.Received, mcbp.OpDCPMutation), Times: 1, Do: fault.StopReading{}})
	large := make([]byte, 1<<20)
	for i := range 24 { // more than sockets and flow control take
		_, err := p.clients[producer].Set(p.ctx, 10, string(rune('a'+i)), large, 0, 0, 0)
		require.NoError(t, err)
	}
	require.NoError(t, f.Wait(p.ctx, 1))
	p.eventually("the crash", func() bool { return len(p.crashes()) > 0 })
	require.ErrorIs(t, p.crashes()[0].Reason, relay.ErrStalled)
	f.Remove()
	p.requireReplicated(10)
}

// What only slows a replication down, or repeats what need not be, is nobody's error.
func TestASlowOrStrangePeerIsBorneWith(t *testing.T) {
	for name, r := range map[string]fault.Rule{
		"a trickle": {Match: fault.Match{Role: fault.Producer, Direction: fault.Sent}, Times: 20, Do: fault.Trickle{Bytes: 3}},
		"delays":    {Match: fault.Match{Role: fault.Producer, Direction: fault.Sent}, Times: 20, Do: fault.Delay{For: time.Millisecond}},
		"an answer that comes twice": {
			Match: at(fault.Consumer, fault.Sent, mcbp.OpDCPAddStream), Do: fault.Duplicate{},
		},
		"an end of the stream before": {
			Match: at(fault.Producer, fault.Sent, mcbp.OpDCPStreamEnd), Do: fault.Duplicate{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, healthy, dcp.Limits{})
			f := p.fault(r)
			require.NoError(t, p.apply(10))
			p.write(10, 20)
			p.requireReplicated(10)
			require.NoError(t, p.manager.Takeover(p.ctx, 1, "move", 10, producer))
			require.NoError(t, f.Wait(p.ctx, 1))
			assert.Empty(t, p.crashes())
		})
	}
}
