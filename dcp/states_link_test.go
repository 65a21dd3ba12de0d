package dcp

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// The reference's proxies and replicator (2.5, 2.7 and 2.8 of its state tables): what is common to both proxies, the producer's
// own, and who looks after the two.

// Differs: the process is there before its socket, for the consumer too.
func TestState_2_5_start(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		for _, n := range s.nodes {
			n.mu.Lock()
			n.hanging = true
			n.mu.Unlock()
		}
		done := s.apply(0)
		for _, id := range []string{"producer connection", "consumer connection"} {
			assert.True(t, s.process(id).Alive(), id)
		}
		s.quiet()
		assert.Equal(t, "connecting", s.status().State)
		var unconnected *NotConnectedError
		require.ErrorAs(t, next(s, done), &unconnected)
		s.quiet()
	})
}

// Differs: the two are joined by their replicator, and nothing is sent before.
func TestState_2_5_setup(t *testing.T) {
	s := newScript(t)
	s.m.phase = phaseConnecting
	id := s.call(opAdd, 1)
	assert.Empty(t, s.sent)
	s.m.opened(s.now)
	s.perform()
	assert.Equal(t, []uint16{1}, s.asked(relay.Consumer, mcbp.OpDCPAddStream))
	s.unanswered(id)

	p := newPost(t)
	p.m.opened(RoleProducer, p.producer, p.now)
	p.perform()
	assert.Zero(t, p.joins)
	p.m.opened(RoleConsumer, p.consumer, p.now)
	p.perform()
	assert.Equal(t, 1, p.joins)
}

// Frames are cut from the bytes wherever those were cut, and passed on whole and in order.
func TestState_2_5_data_chunk(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		var sent []mcbp.Frame
		for i := range 50 {
			sent = append(sent, (&mcbp.Packet{
				Opcode: mcbp.OpDCPMutation, Opaque: mcbp.Opaque{byte(i)}, Extras: make([]byte, 31), Value: make([]byte, i*i),
			}).Frame())
		}
		stream := bytes.Join(toBytes(sent), nil)
		for size := 1; len(stream) > 0; size = size%97 + 13 {
			n := min(size, len(stream))
			s.p.bytes(stream[:n])
			stream = stream[n:]
		}
		for _, f := range sent {
			assert.Equal(t, f, s.c.read())
		}
	})
}

func toBytes(frames []mcbp.Frame) (all [][]byte) {
	for _, f := range frames {
		all = append(all, f)
	}
	return all
}

// Differs in which magics there are (k2, k3). What is none crashes the side that read it.
func TestState_2_5_bad_magic(t *testing.T) {
	for _, role := range []string{RoleConsumer, RoleProducer} {
		onStage(t, nil, func(s *stage) {
			s.up(0)
			from := s.c
			if role == RoleProducer {
				from = s.p
			}
			from.bytes(append([]byte{0x7f}, make([]byte, mcbp.HeaderLen-1)...))
			var crash *CrashError
			require.ErrorAs(t, s.crash().Reason, &crash)
			assert.Equal(t, role, crash.Role)
			s.bothClosed()
		})
	}
}

func TestState_2_5_closed(t *testing.T) {
	for _, role := range []string{RoleConsumer, RoleProducer} {
		onStage(t, nil, func(s *stage) {
			s.up(0)
			closed := s.c
			if role == RoleProducer {
				closed = s.p
			}
			_ = closed.raw.Close()
			reason := s.crash().Reason
			require.ErrorIs(t, reason, ErrSocketClosed)
			var crash *CrashError
			require.ErrorAs(t, reason, &crash)
			assert.Equal(t, role, crash.Role)
			assert.Equal(t, role+" connection", s.exit().ID)
		})
	}
	for _, err := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, io.ErrClosedPipe} {
		require.ErrorIs(t, closedSocket(err), ErrSocketClosed)
		require.ErrorIs(t, closedSocket(err), err)
	}
	require.NotErrorIs(t, closedSocket(relay.ErrStalled), ErrSocketClosed)
}

func TestState_2_5_tls_error(t *testing.T) { brokenTLS(t, RoleProducer) }

// Differs: an exit signal ends the process, which traps none; both sockets close.
func TestState_2_5_exit_notice(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		done := s.apply(1)
		s.c.read()
		boom := errors.New("boom")
		s.process("producer connection").Exit(boom)
		require.ErrorIs(t, next(s, done), boom)
		require.ErrorIs(t, s.exit().Reason, boom)
		s.bothClosed()
	})
}

func TestState_2_5_other(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		for _, id := range []string{"consumer connection", "producer connection"} {
			_, err := s.process(id).Call(s.ctx, struct{}{})
			require.ErrorIs(t, err, actors.ErrUnexpectedCall)
		}
		s.quiet()
	})
}

// Differs: there is no line for a frame, at any level.
func TestState_2_5_frame_log(t *testing.T) {
	var log bytes.Buffer
	handler := slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 8})
	onStage(t, func(s *stage) { s.log = slog.New(handler) }, func(s *stage) {
		s.up(0, 1)
		s.quiet()
		lines := bytes.Count(log.Bytes(), []byte("\n"))
		for i := range 20 {
			s.p.write(&mcbp.Packet{Opcode: mcbp.OpDCPMutation, Extras: make([]byte, 31)}, endOf(9, uint32(i), mcbp.EndClosed))
			s.c.write(&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: mcbp.OpDCPSetVBucketState})
		}
		assert.Len(t, s.c.arrived(), 40)
		assert.Equal(t, lines, bytes.Count(log.Bytes(), []byte("\n")))
	})
}

// Differs: the connection opens its socket by itself; the replicator only hears of it.
func TestState_2_7_connect(t *testing.T) {
	p := newPost(t)
	p.m.opened(RoleProducer, new(actors.PID), p.now)
	assert.False(t, p.m.producer.open, "of another incarnation")
	p.m.opened(RoleProducer, p.producer, p.now)
	assert.True(t, p.m.producer.open)
	assert.Empty(t, p.forwarded)
}

func TestState_2_7_state_request(t *testing.T) {
	s, _ := taking(t)
	assert.Equal(t, relay.Pass, s.state(1, mcbp.VBucketActive))
	assert.Equal(t, mcbp.VBucketActive, s.m.vbs[3].op.requested)
}

func TestState_2_7_stream_end(t *testing.T) {
	s := newScript(t)
	s.live(1, 1)
	assert.Equal(t, relay.Pass, s.end(1, 1, mcbp.EndOK))
	assert.Empty(t, s.m.streams())
}

func TestState_2_7_close_answer(t *testing.T) {
	s := newScript(t)
	s.live(1, 1)
	s.call(opClose, 1)
	assert.Equal(t, relay.Drop, s.closeAnswer(relay.Producer, 1, mcbp.StatusSuccess))
	assert.True(t, s.m.vbs[1].op.producerDone)
}

func TestState_2_7_other_frame(t *testing.T) {
	table := relay.DefaultTable(relay.Producer)
	for _, op := range []mcbp.Opcode{mcbp.OpDCPMutation, mcbp.OpDCPSnapshotMarker, mcbp.OpDCPNoop, mcbp.OpDCPPrepare, 0xee} {
		assert.Equal(t, relay.ActionPass, table.Action(mcbp.MagicRequest, op))
	}
}

// Differs in the opaque.
func TestState_2_7_close_stream(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(5)
		s.apply(-6)
		f := s.p.read()
		assert.Equal(t, mcbp.OpDCPCloseStream, f.Opcode())
		assert.EqualValues(t, 5, f.VBucket())
		opaque := f.Opaque()
		assert.Equal(t, []byte{0xff, 0xff}, []byte{opaque[0], opaque[3]})
		assert.NotEqual(t, opaque, s.c.read().Opaque(), "each end has its own")
	})
}

// Differs: that a frame is known before its answer can come is enforced: the relay passes it on after the decision. So an
// answer that is as fast as can be completes the takeover.
func TestState_2_7_order(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		done := s.takeover(3)
		s.link()
		add := s.c.read()
		s.request(3, 1)
		s.c.write(answerTo(add, mcbp.StatusSuccess))
		for _, state := range []mcbp.VBucketState{mcbp.VBucketPending, mcbp.VBucketActive} {
			s.p.write(&mcbp.Packet{Opcode: mcbp.OpDCPSetVBucketState, VBucket: 3, Opaque: streamOpaque(1), Extras: []byte{byte(state)}})
			s.c.write(answerTo(s.c.read(), mcbp.StatusSuccess))
			assert.Equal(t, streamOpaque(1), s.p.read().Opaque())
		}
		require.NoError(t, next(s, done))
		s.p.write(endOf(3, 1, mcbp.EndOK))
		assert.Equal(t, mcbp.OpDCPStreamEnd, s.c.read().Opcode())
		s.quiet()
	})
}

// Differs: calls that come before wait, with a limit, and a connection that fails is tried again (s0h).
func TestState_2_8_connect_producer(t *testing.T) {
	p := newPost(t)
	p.request(1)
	p.m.opened(RoleConsumer, p.consumer, p.now)
	p.perform()
	assert.Empty(t, p.forwarded)
	p.m.opened(RoleProducer, p.producer, p.now)
	p.perform()
	assert.Equal(t, []callID{1}, p.forwarded)
	assert.IsType(t, LinkUp{}, p.events[len(p.events)-1])
}

func TestState_2_8_set_streams(t *testing.T) {
	p := newPost(t)
	p.open()
	p.request(1)
	assert.Equal(t, []callID{1}, p.forwarded)
	p.m.answered(1, nil)
	p.perform()
	assert.Equal(t, answerLink{call: 1, incarnation: 1}, p.answers[1])
}

// Differs: the result of the close counts (f5c).
func TestState_2_8_takeover(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 3)
	id := d.do(func(id callID) { d.m.takeover(id, 1, "move", 3, "n1", d.now) })
	assert.Equal(t, []streamChange{{3, opClose}, {3, opTakeover}}, d.changes(), "one call: no one comes in between")
	refused := &StreamStatusError{Op: mcbp.OpDCPCloseStream, VB: 3, Role: RoleConsumer, Status: mcbp.StatusBusy}
	d.linkAnswer(map[uint16]error{3: refused}, nil)
	require.ErrorIs(t, d.answer(id), error(refused))
}

// Differs: the manager answers from what it knows.
func TestState_2_8_get_partitions(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 3, 1, 2)
	assert.Equal(t, []uint16{1, 2, 3}, d.m.status().Links[0].Streams)
}

// Differs: the replicator outlives its connections and tells why they went.
func TestState_2_8_exit_notice(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		replicator := s.process("replicator")
		s.process("consumer connection").Exit(errors.New("boom"))
		require.ErrorContains(t, s.crash().Reason, "boom")
		s.bothClosed()
		s.link()
		assert.True(t, replicator.Alive())
	})
}

func TestState_2_8_other_call(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		_, err := s.process("replicator").Call(s.ctx, struct{}{})
		require.ErrorIs(t, err, actors.ErrUnexpectedCall)
		s.quiet()
	})
}

// Differs: there are no helpers. Calls to one link run side by side, and a death in between answers each of them.
func TestState_2_8_helper(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		first := s.apply(0)
		s.link()
		s.c.read()
		second, third := s.apply(1), s.takeover(2)
		for range 2 {
			add := s.c.read()
			if add.VBucket() == 1 {
				s.c.write(answerTo(add, mcbp.StatusSuccess))
			}
		}
		require.NoError(t, next(s, second), "the first is still being set up")
		_ = s.p.raw.Close()
		for _, done := range []<-chan error{first, third} {
			require.ErrorIs(t, next(s, done), ErrSocketClosed)
		}
	})
}

// Differs: a supervisor's shutdown closes sockets and says nothing to a node.
func TestState_2_8_shutdown(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		require.NoError(t, s.manager.Stop(s.ctx))
		toConsumer, toProducer := s.bothClosed()
		assert.Empty(t, toConsumer)
		assert.Empty(t, toProducer)
	})
}

// Differs: nuking is opening the name again (2.10).
func TestState_2_8_nuke(t *testing.T) {
	p := newPost(t)
	p.open()
	p.m.fence(9)
	p.perform()
	assert.Equal(t, []error{ErrFenced}, p.closed)
	assert.NotContains(t, p.answers, callID(9))
	p.down(RoleConsumer, ErrFenced)
	p.restart()
	p.m.opened(RoleConsumer, p.consumer, p.now)
	p.perform()
	assert.Contains(t, p.answers, callID(9))
}

// Differs: a normal exit of a replicator is the end of its link like any other, for it is permanent.
func TestState_2_8_normal_other(t *testing.T) {
	for _, reason := range []error{actors.Normal, errors.New("boom")} {
		onStage(t, nil, func(s *stage) {
			s.up(0)
			replicator := s.process("replicator")
			if errors.Is(reason, actors.Normal) {
				assert.NoError(t, replicator.Stop(s.ctx, reason))
			} else {
				replicator.Exit(reason)
			}
			toConsumer, toProducer := s.bothClosed()
			assert.Empty(t, toConsumer)
			assert.Empty(t, toProducer)
			assert.Equal(t, "replicator", s.exit().ID)
			for {
				if gone, ok := next(s, s.news.C()).(LinkGaveUp); ok {
					assert.Equal(t, "n0", gone.Producer)
					break
				}
			}
			s.link() // the manager starts another after a pause
			add := s.c.read()
			assert.EqualValues(t, 0, add.VBucket())
		})
	}
}
