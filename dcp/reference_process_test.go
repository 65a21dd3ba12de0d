package dcp

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// What is about sockets and processes: the rows h, k and 0, c1, and g4 to g6.

func noop(n byte) *mcbp.Packet { return &mcbp.Packet{Opcode: mcbp.OpDCPNoop, Opaque: mcbp.Opaque{n}} }

func frames(packets ...*mcbp.Packet) (all []mcbp.Frame) {
	for _, p := range packets {
		all = append(all, p.Frame())
	}
	return all
}

// Differs as c2 does. k6 is what was read before the end and after it.
func TestReference_c1_k6(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		done := s.apply(0, 1)
		s.link()
		name := s.c.open.Key()
		add := s.c.read()
		s.c.read()
		s.request(0, 1)
		s.p.write(noop(1), endOf(0, 1, mcbp.EndLostPrivileges), noop(2))
		var end *UnexpectedStreamEnd
		require.ErrorAs(t, next(s, done), &end, "at once, though vb 1 is still being set up")
		assert.Equal(t, UnexpectedStreamEnd{VB: 0, AddOpaque: add.Opaque(), StreamOpaque: streamOpaque(1), Reason: mcbp.EndLostPrivileges}, *end)
		toConsumer, toProducer := s.bothClosed()
		assert.Equal(t, frames(noop(1)), toConsumer, "not the end, and nothing after it")
		assert.Empty(t, toProducer)
		crash := s.crash()
		require.ErrorIs(t, crash.Reason, error(end))
		assert.EqualValues(t, 1, crash.Incarnation)
		assert.Equal(t, []uint16{0}, crash.VBs)
		exit := s.exit()
		assert.Equal(t, "consumer connection", exit.ID)
		require.ErrorIs(t, exit.Reason, error(end))
		s.link()
		assert.Equal(t, name, s.c.open.Key(), "opened again under the same name")
	})
}

// broken closes a socket while a call is in flight: the call fails with that cause, both sockets close, both connections
// go and come back, and the replicator above them lives.
func broken(s *stage, role string, inFlight func() <-chan error, hangUp func()) {
	t := s.t
	done := inFlight()
	s.link()
	s.c.read()
	replicator := s.process("replicator")
	hangUp()
	err := next(s, done)
	require.ErrorIs(t, err, ErrSocketClosed)
	var crash *CrashError
	require.ErrorAs(t, err, &crash)
	assert.Equal(t, role, crash.Role)
	s.bothClosed()
	assert.ErrorIs(t, s.crash().Reason, error(crash))
	exit := s.exit()
	assert.Equal(t, role+" connection", exit.ID, "the true cause exits first")
	assert.ErrorIs(t, exit.Reason, error(crash))
	s.link()
	assert.True(t, replicator.Alive())
}

// Differs in what the caller sees, which is one shape and no race; and the connections come back by themselves.
func TestReference_0_direct(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		s.quiet()
		pid := s.process("consumer connection")
		done := s.in(func() error {
			_, err := pid.Call(s.ctx, changeStreams{changes: []streamChange{{VB: 1, Kind: opAdd}}})
			return err
		})
		s.c.read()
		_ = s.p.raw.Close()
		require.ErrorIs(t, next(s, done), actors.Shutdown, "the consumer connection is not the cause")
		exit := s.exit()
		assert.Equal(t, "producer connection", exit.ID)
		require.ErrorIs(t, exit.Reason, ErrSocketClosed)
		s.bothClosed()
	})
}

func TestReference_h1_h1b(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		broken(s, RoleConsumer, func() <-chan error { return s.apply(0, 1) }, func() { _ = s.c.raw.Close() })
	})
}

// Differs: the caller is told the true cause, not that the other proxy was killed.
func TestReference_h2_h2b(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		broken(s, RoleProducer, func() <-chan error { return s.apply(0, 1) }, func() { _ = s.p.raw.Close() })
	})
}

func TestReference_h3(t *testing.T) {
	onTCP(t, func(s *stage) {
		broken(s, RoleConsumer, func() <-chan error { return s.apply(0, 1) }, func() {
			require.NoError(t, s.c.raw.(*net.TCPConn).SetLinger(0))
			_ = s.c.raw.Close()
		})
	})
}

// Differs: the stream comes back by itself.
func TestReference_h4(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		_ = s.c.raw.Close()
		require.ErrorIs(t, s.crash().Reason, ErrSocketClosed)
		s.bothClosed()
		s.link()
		assert.Equal(t, mcbp.OpDCPAddStream, s.c.read().Opcode())
	})
}

func TestReference_h5(t *testing.T) {
	onTCP(t, func(s *stage) {
		broken(s, RoleProducer, func() <-chan error { return s.apply(0, 1) }, func() {
			require.NoError(t, s.p.raw.(*net.TCPConn).CloseWrite())
		})
	})
}

func TestReference_h6(t *testing.T) {
	onTCP(t, func(s *stage) {
		s.up(0)
		s.p.write(noop(1), noop(2))
		require.NoError(t, s.p.raw.(*net.TCPConn).CloseWrite())
		toConsumer, _ := s.bothClosed()
		assert.Equal(t, frames(noop(1), noop(2)), toConsumer)
		require.ErrorIs(t, s.crash().Reason, ErrSocketClosed)
	})
}

func TestReference_h7(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		broken(s, RoleConsumer, func() <-chan error { return s.takeover(3) }, func() { _ = s.c.raw.Close() })
	})
}

func TestReference_h8(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0, 1)
		done := s.in(func() error { return s.manager.Shut(s.ctx) })
		assert.Equal(t, mcbp.OpDCPCloseStream, s.c.read().Opcode())
		_ = s.c.raw.Close()
		err := next(s, done)
		require.ErrorIs(t, err, ErrSocketClosed)
		assert.Equal(t, 1, strings.Count(err.Error(), "replication n0→n1/0"), "%v", err)
		s.bothClosed()
	})
}

// Differs: there is always somebody to call, and the next call waits for the new connections.
func TestReference_h9(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		_ = s.c.raw.Close()
		s.crash()
		done := s.apply(1)
		assert.Empty(t, s.status().Streams)
		s.link()
		for range 2 {
			add := s.c.read()
			s.c.write(answerTo(add, mcbp.StatusSuccess))
		}
		require.NoError(t, next(s, done))
	})
}

// Differs: a frame that is longer than the buffer streams through. That a run of frames is one write is tested in relay/.
func TestReference_k1(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		whole := frames(noop(1))[0]
		for i := range whole {
			assert.Empty(t, s.c.arrived(), "after %d bytes", i)
			s.p.bytes(whole[i : i+1])
		}
		assert.Equal(t, []mcbp.Frame{whole}, s.c.arrived())
	})
}

// Differs: the magics of framing extras and of the server's requests are passed on. Others are no frames.
func TestReference_k2_k3(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		for _, magic := range []mcbp.Magic{0x82, 0x83, 0x08, 0x18} {
			p := &mcbp.Packet{Magic: magic, Opcode: 0x01, Key: []byte("key")}
			s.p.write(p)
			assert.Equal(t, p.Frame(), s.c.read())
		}
		bad := frames(noop(1))[0]
		bad[0] = 0x42
		s.p.bytes(bad)
		reason := s.crash().Reason
		var (
			malformed *mcbp.MalformedError
			crash     *CrashError
		)
		require.ErrorAs(t, reason, &malformed)
		assert.Equal(t, []byte(bad), malformed.Header[:])
		assert.Contains(t, reason.Error(), "425c0000")
		require.ErrorAs(t, reason, &crash)
		assert.Equal(t, RoleProducer, crash.Role, "the side that read it")
		s.bothClosed()
	})
}

func TestReference_k4_k5(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		var odd []*mcbp.Packet
		for op := range 256 {
			switch mcbp.Opcode(op) {
			case mcbp.OpDCPStreamEnd, mcbp.OpDCPSetVBucketState, mcbp.OpDCPStreamReq:
			default:
				odd = append(odd, &mcbp.Packet{Opcode: mcbp.Opcode(op), VBucket: 9, Opaque: mcbp.Opaque{byte(op)}})
			}
		}
		s.p.write(odd...)
		s.c.write(odd...)
		for _, p := range odd {
			assert.Equal(t, p.Frame(), s.c.read())
			assert.Equal(t, p.Frame(), s.p.read())
		}
	})
}

// Differs: a message that only our own code could have sent by mistake crashes the process.
func TestReference_k7(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		for _, id := range []string{"consumer connection", "producer connection", "replicator"} {
			pid := s.process(id)
			_, err := pid.Call(s.ctx, "hello")
			require.ErrorIs(t, err, actors.ErrUnexpectedCall, id)
			pid.Cast("hello")
			s.quiet()
			assert.True(t, pid.Alive())
		}
		s.process("consumer connection").Send("hello")
		assert.Equal(t, "consumer connection", s.exit().ID)
	})
}

// Answers to our own requests are not relayed; all else is.
func TestReference_k_only(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		done := s.apply(-1)
		toConsumer, toProducer := s.c.read(), s.p.read()
		assert.Equal(t, mcbp.OpDCPCloseStream, toProducer.Opcode())
		s.c.write(answerTo(toConsumer, mcbp.StatusSuccess), noop(1))
		s.p.write(answerTo(toProducer, mcbp.StatusSuccess), noop(2))
		require.NoError(t, next(s, done))
		assert.Equal(t, frames(noop(1)), s.p.arrived())
		assert.Equal(t, frames(noop(2)), s.c.arrived())
		s.p.write(endOf(0, 1, mcbp.EndClosed))
		assert.Equal(t, mcbp.OpDCPStreamEnd, s.c.read().Opcode())
		s.c.write(&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: mcbp.OpDCPMutation, Status: mcbp.StatusStreamNotFound})
		assert.Equal(t, mcbp.StatusStreamNotFound, s.p.read().Status(), "a late mutation's refusal is passed on")
	})
}

// Differs: this is the manager's planned stop; a supervisor's shutdown talks to nobody (g5).
func TestReference_g4(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0, 1)
		done := s.in(func() error { return s.manager.Shut(s.ctx) })
		for _, vb := range []uint16{0, 1} {
			f := s.c.read()
			assert.Equal(t, mcbp.OpDCPCloseStream, f.Opcode())
			assert.Equal(t, vb, f.VBucket())
			assert.Empty(t, s.p.arrived())
			s.c.write(answerTo(f, mcbp.StatusSuccess))
		}
		require.NoError(t, next(s, done))
		toConsumer, toProducer := s.bothClosed()
		assert.Empty(t, toConsumer)
		assert.Empty(t, toProducer)
		for range 4 {
			require.ErrorIs(t, s.exit().Reason, actors.Shutdown)
		}
	})
}

// Differs: a fence closes the sockets at once. The engine ends the streams when the name is opened again.
func TestReference_g4b(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0, 1)
		name := s.c.open.Key()
		done := s.in(func() error { return s.manager.Fence(s.ctx, 0, "n0") })
		toConsumer, toProducer := s.bothClosed()
		assert.Empty(t, toConsumer)
		assert.Empty(t, toProducer)
		s.link()
		assert.Equal(t, name, s.c.open.Key())
		require.NoError(t, next(s, done))
		exit := s.exit()
		assert.Equal(t, "consumer connection", exit.ID)
		require.ErrorIs(t, exit.Reason, ErrFenced)
	})
}

func TestReference_g4c(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0, 1)
		boom := errors.New("boom")
		s.process("replicator").Exit(boom)
		toConsumer, toProducer := s.bothClosed()
		assert.Empty(t, toConsumer, "nothing is closed in words")
		assert.Empty(t, toProducer)
		exit := s.exit()
		assert.Equal(t, "replicator", exit.ID)
		require.ErrorIs(t, exit.Reason, boom)
	})
}

// Differs: the stop is complete all the same, see g2b.
func TestReference_g4d(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0, 1)
		done := s.in(func() error { return s.manager.Shut(s.ctx) })
		s.c.write(answerTo(s.c.read(), mcbp.StatusSuccess))
		s.c.write(answerTo(s.c.read(), mcbp.StatusNotMyVBucket))
		require.NoError(t, next(s, done))
		s.bothClosed()
	})
}

// Differs: the caller of a stopped replication gets the reason of the stop, and no half-dead helper is in between.
func TestReference_g5_f13(t *testing.T) {
	for name, call := range map[string]func(*stage) <-chan error{
		"set-up":   func(s *stage) <-chan error { return s.apply(0, 1) },
		"takeover": func(s *stage) <-chan error { return s.takeover(3) },
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, nil, func(s *stage) {
				done := call(s)
				s.link()
				s.c.read()
				require.NoError(t, s.manager.Stop(s.ctx))
				require.ErrorIs(t, next(s, done), actors.Shutdown)
				toConsumer, toProducer := s.bothClosed()
				for _, f := range toConsumer {
					assert.Equal(t, mcbp.OpDCPAddStream, f.Opcode())
				}
				assert.Empty(t, toProducer)
			})
		})
	}
}

func TestReference_g6(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0, 1)
		since := time.Now()
		err := s.manager.Shut(s.ctx)
		require.Error(t, err)
		assert.LessOrEqual(t, time.Since(since), 2*Limits{}.withDefaults().Close)
		toConsumer, toProducer := s.bothClosed()
		assert.Len(t, toConsumer, 2, "the CLOSE_STREAMs that nobody answered")
		assert.Empty(t, toProducer)
		require.NoError(t, s.manager.Stop(s.ctx))
	})
}

// Differs: after a crash there is always somebody to call (h9). After a stop everything is down, and says so.
func TestReference_0_after(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		require.NoError(t, s.manager.Stop(s.ctx))
		require.ErrorIs(t, next(s, s.apply(1)), actors.NoProcess)
		_, err := s.p.conn.Read(make([]byte, 1))
		require.Error(t, err, "closed")
	})
}
