package dcp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// Bugs that systems of this kind had, by their number in a list of them. docs/dcp.md says where the others are tested.

// fateOfEnd is what a STREAM_END does.
type fateOfEnd uint8

const (
	endPasses fateOfEnd = iota // and changes nothing
	endRemoves
	endCrashes
	endFails // the takeover
	endDropped
)

// History 1: every state of the vbucket, every point of its set-up, every opaque that an end can carry, every code.
func TestHistory_1(t *testing.T) {
	const (
		earlier = 1 // the opaque of a stream of vb 7 that was closed
		own     = 2
		unseen  = 9
	)
	// begin brings a machine to where the end arrives; finish answers whatever is still owed.
	type situation struct {
		begin  func(*script)
		finish func(*script)
		own    fateOfEnd
		// stray is the fate of an end whose opaque was never seen for the vbucket.
		stray fateOfEnd
	}
	add := func(s *script) { s.call(opAdd, 7, 8) }
	requested := func(s *script) {
		add(s)
		s.streamReq(7, own)
	}
	accepted := func(s *script) {
		requested(s)
		s.reqAnswer(own, mcbp.StatusSuccess)
	}
	inBatch := func(s *script) {
		accepted(s)
		s.addAnswer(7, mcbp.StatusSuccess)
	}
	answerBoth := func(s *script) {
		s.addAnswer(7, mcbp.StatusSuccess)
		s.addAnswer(8, mcbp.StatusSuccess)
	}
	answerOther := func(s *script) { s.addAnswer(8, mcbp.StatusSuccess) }
	nothing := func(*script) {}
	takeover := func(s *script) { s.call(opTakeover, 7) }
	takeoverRequested := func(s *script) {
		takeover(s)
		s.streamReq(7, own)
	}
	state := func(s *script, state mcbp.VBucketState) {
		s.frame(relay.Producer, &mcbp.Packet{Opcode: mcbp.OpDCPSetVBucketState, VBucket: 7, Opaque: streamOpaque(own), Extras: []byte{byte(state)}})
		s.stateAnswer(own, mcbp.StatusSuccess)
	}
	complete := func(s *script) {
		s.addAnswer(7, mcbp.StatusSuccess)
		state(s, mcbp.VBucketActive)
	}
	for name, is := range map[string]situation{
		"idle":                             {nothing, nothing, endPasses, endPasses},
		"adding another":                   {func(s *script) { s.call(opAdd, 8) }, answerOther, endPasses, endPasses},
		"adding, before STREAM_REQ":        {add, answerBoth, endCrashes, endCrashes},
		"adding, before its answer":        {requested, answerBoth, endCrashes, endCrashes},
		"adding, before ADD_STREAM answer": {accepted, answerBoth, endCrashes, endCrashes},
		"added in this call":               {inBatch, answerOther, endRemoves, endPasses},
		"live":                             {func(s *script) { s.live(7, own) }, nothing, endRemoves, endPasses},
		"closing": {func(s *script) {
			s.live(7, own)
			s.call(opClose, 7)
		}, func(s *script) { s.closed(7, mcbp.StatusSuccess, mcbp.StatusKeyNotFound) }, endPasses, endPasses},
		"takeover, before STREAM_REQ": {takeover, func(s *script) {
			s.streamReq(7, own)
			complete(s)
		}, endCrashes, endCrashes},
		"takeover, before the answer": {takeoverRequested, complete, endCrashes, endCrashes},
		"takeover, before active": {func(s *script) {
			takeoverRequested(s)
			s.addAnswer(7, mcbp.StatusSuccess)
			state(s, mcbp.VBucketPending)
		}, func(s *script) { state(s, mcbp.VBucketActive) }, endFails, endPasses},
		"takeover, active, before the answer": {func(s *script) {
			takeoverRequested(s)
			state(s, mcbp.VBucketActive)
		}, func(s *script) { s.addAnswer(7, mcbp.StatusSuccess) }, endPasses, endPasses},
		"shutting": {func(s *script) {
			s.live(7, own)
			s.stop(99)
		}, func(s *script) { s.closeAnswer(relay.Consumer, 7, mcbp.StatusSuccess) }, endPasses, endPasses},
		"shut": {func(s *script) { s.stop(99) }, nothing, endDropped, endDropped},
	} {
		for opaque, want := range map[uint32]fateOfEnd{earlier: endPasses, own: is.own, unseen: is.stray} {
			if name == "shut" {
				want = endDropped
			}
			for _, code := range []mcbp.EndReason{0, 1, 2, 3, 4, 5, 6, 7, 8, 0x77} {
				t.Run(fmt.Sprintf("%s/opaque %d/code %d", name, opaque, code), func(t *testing.T) {
					s := newScript(t)
					s.live(7, earlier)
					s.call(opClose, 7)
					s.closed(7, mcbp.StatusSuccess, mcbp.StatusSuccess)
					before := len(s.answers)
					is.begin(s)
					live := s.m.streams()
					told := len(s.answers) - before
					verdict := s.end(7, opaque, code)
					if want == endCrashes {
						assert.Equal(t, relay.Drop, verdict)
						end := s.crashedWithEndOf(7)
						assert.Equal(t, code, end.Reason)
						assert.Equal(t, streamOpaque(opaque), end.StreamOpaque)
						return // the process's death answers
					}
					require.NoError(t, s.crash)
					assert.Equal(t, want == endDropped, verdict == relay.Drop)
					switch want {
					case endRemoves:
						assert.Equal(t, []uint16{7}, live)
						assert.Empty(t, s.m.streams())
						assert.Equal(t, name == "live", len(s.ended) == 1, "published, unless a caller is going to be told")
					case endFails:
						var ended *StreamEndedError
						s.failed(s.calls, 7, &ended)
						assert.Equal(t, code, ended.Reason)
					default:
						assert.Equal(t, live, s.m.streams())
						assert.Equal(t, told, len(s.answers)-before)
						assert.Empty(t, s.ended)
					}
					is.finish(s)
					require.NoError(t, s.crash)
					assert.Len(t, s.answers, int(s.calls), "no caller is left unanswered")
					if name == "added in this call" && want == endRemoves {
						var ended *StreamEndedError
						s.failed(s.calls, 7, &ended)
					}
				})
			}
		}
	}
}

// History 4: pending adds, pending closes and a silent producer do not hold up a stop, and no stream is left.
func TestHistory_4(t *testing.T) {
	t.Run("closes under way", func(t *testing.T) {
		s := newScript(t)
		for vb := range uint16(6) {
			s.live(vb, uint32(vb)+1)
		}
		s.call(opClose, 0, 1, 2)
		s.stop(99)
		for vb := range uint16(6) {
			assert.Empty(t, s.shut)
			s.closeAnswer(relay.Consumer, vb, mcbp.StatusSuccess)
		}
		assert.Equal(t, []callID{99}, s.shut)
		assert.Empty(t, s.m.streams())
		assert.False(t, s.m.awaits())
	})
	t.Run("adds under way", func(t *testing.T) {
		onStage(t, nil, func(s *stage) {
			s.up(0, 1)
			adding := s.apply(2, 3)
			s.c.read()
			s.c.read()
			require.NoError(t, s.manager.Shut(s.ctx))
			require.ErrorIs(t, next(s, adding), ErrShut)
			s.bothClosed()
		})
	})
}

// History 5: whoever has work with healthy nodes does not wait for a close that a dead one owes.
func TestHistory_5(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		closing := s.apply(-1)
		s.c.write(answerTo(s.c.read(), mcbp.StatusSuccess)) // n0 reads and never answers
		others := s.in(func() error { return s.manager.Apply(s.ctx, 1, "", map[uint16]string{1: "n2"}) })
		c, p := next(s, s.nodes["n1"].opened), next(s, s.nodes["n2"].opened)
		since := time.Now()
		c.write(answerTo(c.read(), mcbp.StatusSuccess))
		require.NoError(t, next(s, others))
		assert.Zero(t, time.Since(since))
		var timeout *CloseStreamTimeout
		require.ErrorAs(t, next(s, closing), &timeout)
		s.bothClosed()
		assert.Empty(t, p.arrived())
	})
}

// History 6: which side is told to close, for each reason.
func TestHistory_6(t *testing.T) {
	for name, is := range map[string]struct {
		end              func(*stage)
		consumer, atOnce bool
		producer         bool
	}{
		"a change":     {end: func(s *stage) { s.apply(-1) }, consumer: true, producer: true},
		"a move":       {end: func(s *stage) { s.takeover(0) }, consumer: true, producer: true},
		"planned stop": {end: func(s *stage) { s.in(func() error { return s.manager.Shut(s.ctx) }) }, consumer: true},
		"fence":        {end: func(s *stage) { s.in(func() error { return s.manager.Fence(s.ctx, 0, "n0") }) }, atOnce: true},
		"stop":         {end: func(s *stage) { assert.NoError(s.t, s.manager.Stop(s.ctx)) }, atOnce: true},
		"crash":        {end: func(s *stage) { s.p.bytes(make([]byte, mcbp.HeaderLen)) }, atOnce: true},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, nil, func(s *stage) {
				s.up(0)
				is.end(s)
				if is.atOnce {
					toConsumer, toProducer := s.bothClosed()
					assert.Empty(t, toConsumer)
					assert.Empty(t, toProducer)
					return
				}
				closes := func(frames []mcbp.Frame) bool { return len(frames) == 1 && frames[0].Opcode() == mcbp.OpDCPCloseStream }
				assert.Equal(t, is.consumer, closes(s.c.arrived()))
				assert.Equal(t, is.producer, closes(s.p.arrived()))
			})
		})
	}
}

// History 7: every way to tear down has a limit, and a kill after it.
func TestHistory_7(t *testing.T) {
	for name, end := range map[string]func(*stage) error{
		"planned": func(s *stage) error { return s.manager.Shut(s.ctx) },
		"fence":   func(s *stage) error { return s.manager.Fence(s.ctx, 0, "n0") },
		"stop":    func(s *stage) error { return s.manager.Stop(s.ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, nil, func(s *stage) {
				s.up(0)
				since := time.Now()
				_ = end(s)
				assert.LessOrEqual(t, time.Since(since), 2*Limits{}.withDefaults().Close)
				s.bothClosed()
			})
		})
	}
}

// History 8: a caller hears of the end of its connection also when TLS breaks. The rows h1, h3, h5 and g5 are the other ways
// in which it can end.
func TestHistory_8(t *testing.T) { brokenTLS(t, RoleConsumer) }

func brokenTLS(t *testing.T, role string) {
	t.Helper()
	onStage(t, func(s *stage) { s.tls = selfSigned(t) }, func(s *stage) {
		done := s.apply(0)
		s.link()
		s.c.read()
		bad, other := s.c, s.p
		if role == RoleProducer {
			bad, other = s.p, s.c
		}
		_, err := bad.raw.Write([]byte("no TLS record at all"))
		require.NoError(t, err)
		var crash *CrashError
		require.ErrorAs(t, next(s, done), &crash)
		assert.Equal(t, role, crash.Role)
		other.rest()
	})
}

func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return &tls.Config{
		Certificates:       []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		InsecureSkipVerify: true, //nolint:gosec // who the peer is does not matter here
		MinVersion:         tls.VersionTLS12,
	}
}

// waysToHang are nodes with which no handshake comes to an end, by the step that does not.
var waysToHang = map[string]struct {
	step string
	tls  bool
	hang func(*puppet)
}{
	"no answer to SYN":           {kv.StepDial, false, func(n *puppet) { n.hanging = true }},
	"accepts, no TLS":            {kv.StepTLS, true, func(n *puppet) { n.mute = true }},
	"accepts, reads nothing":     {kv.StepSASL, false, func(n *puppet) { n.mute = true }},
	"silent at SASL_LIST_MECHS":  {kv.StepSASL, false, func(n *puppet) { n.replies[mcbp.OpSASLListMechs] = silent }},
	"silent at SASL_AUTH":        {kv.StepSASL, false, func(n *puppet) { n.replies[mcbp.OpSASLAuth] = silent }},
	"silent at SELECT_BUCKET":    {kv.StepSelectBucket, false, func(n *puppet) { n.replies[mcbp.OpSelectBucket] = silent }},
	"silent at HELLO":            {kv.StepHello, false, func(n *puppet) { n.replies[mcbp.OpHello] = silent }},
	"silent at DCP_OPEN":         {kv.StepDCPOpen, false, func(n *puppet) { n.replies[mcbp.OpDCPOpen] = silent }},
	"a byte now and then":        {kv.StepSASL, false, func(n *puppet) { n.trickle = time.Second }},
	"a byte now and then, TLS":   {kv.StepSASL, true, func(n *puppet) { n.trickle = time.Second }},
	"silent at HELLO, after TLS": {kv.StepHello, true, func(n *puppet) { n.replies[mcbp.OpHello] = silent }},
}

func onStageWhereOneHangs(t *testing.T, node string, story func(s *stage, step string)) {
	t.Helper()
	for name, way := range waysToHang {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(s *stage) {
				if way.tls {
					s.tls = selfSigned(t)
				}
			}, func(s *stage) {
				n := s.nodes[node]
				n.mu.Lock()
				way.hang(n)
				n.mu.Unlock()
				story(s, way.step)
			})
		})
	}
}

// History 9: a node that hangs in any step of connecting costs nobody else anything.
func TestHistory_9(t *testing.T) {
	onStageWhereOneHangs(t, "n0", func(s *stage, step string) {
		stuck := s.apply(0)
		next(s, s.nodes["n1"].opened)
		since := time.Now()
		healthy := s.in(func() error { return s.manager.Apply(s.ctx, 1, "", map[uint16]string{1: "n2"}) })
		c := next(s, s.nodes["n1"].opened)
		next(s, s.nodes["n2"].opened)
		c.write(answerTo(c.read(), mcbp.StatusSuccess))
		require.NoError(s.t, next(s, healthy), "the supervisor starts links, and they work")
		status, err := s.manager.Status(s.ctx)
		require.NoError(s.t, err)
		assert.Len(s.t, status.Links, 2)
		assert.Zero(s.t, time.Since(since), "nobody has waited")
		var failed *kv.ConnectError
		require.ErrorAs(s.t, next(s, stuck), &failed)
		assert.Equal(s.t, step, failed.Step)
		assert.LessOrEqual(s.t, time.Since(since), 2*Limits{}.withDefaults().Join)
		s.quiet()
	})
}

// History 9, and it is the node itself that all replications lead to.
func TestHistory_9_TheConsumerHangs(t *testing.T) {
	onStageWhereOneHangs(t, "n1", func(s *stage, step string) {
		limits := Limits{}.withDefaults()
		since := time.Now()
		stuck := map[string]<-chan error{
			"Apply":    s.apply(0),
			"Takeover": s.takeover(1),
			"Fence":    s.in(func() error { return s.manager.Fence(s.ctx, 2, "n2") }),
		}
		synctest.Wait()
		require.NoError(s.t, s.manager.Want(s.ctx, 1, map[uint16]string{3: "n2"}))
		status, err := s.manager.Status(s.ctx)
		require.NoError(s.t, err)
		assert.Len(s.t, status.Links, 2)
		assert.Zero(s.t, time.Since(since), "nobody has waited")
		for name, answer := range stuck {
			var failed *kv.ConnectError
			require.ErrorAs(s.t, next(s, answer), &failed, name)
			assert.Equal(s.t, step, failed.Step, name)
		}
		require.NoError(s.t, s.manager.Prepare(s.ctx, 2), "no engine was told of the takeover")
		assert.LessOrEqual(s.t, time.Since(since), 3*limits.Join)
		s.quiet()
	})
}

// History 9: who stops does not wait for a handshake either, whoever hangs.
func TestHistory_9_Stopping(t *testing.T) {
	for _, node := range []string{"n0", "n1"} {
		for name, stop := range map[string]func(*stage) error{
			"Shut": func(s *stage) error { return s.manager.Shut(s.ctx) },
			"Stop": func(s *stage) error { return s.manager.Stop(s.ctx) },
		} {
			t.Run(name+" while "+node+" hangs", func(t *testing.T) {
				onStageWhereOneHangs(t, node, func(s *stage, _ string) {
					stuck := s.apply(0)
					synctest.Wait()
					since := time.Now()
					require.NoError(s.t, stop(s))
					require.Error(s.t, next(s, stuck))
					assert.Zero(s.t, time.Since(since))
					for _, n := range s.nodes {
						n.forsaken()
					}
				})
			})
		}
	}
}

// History 10: the status answers while a takeover is stuck, and with what is known.
func TestHistory_10(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		s.takeover(3)
		s.c.read()
		since := time.Now()
		assert.Equal(t, []uint16{0}, s.status().Streams)
		assert.Zero(t, time.Since(since))
	})
}

// History 11: whichever of several links fails, the caller hears of that vbucket and that node.
func TestHistory_11(t *testing.T) {
	producers := []string{"n1", "n2", "n3"}
	for bad := range producers {
		d := newDesk(t)
		changes := map[uint16]string{}
		for i, producer := range producers {
			changes[uint16(i)] = producer
		}
		id := d.apply(1, "", changes)
		for i, producer := range producers {
			var err error
			if i == bad {
				err = d.m.linkOf(linkKey{producer: producer}).wrap(ErrSocketClosed)
			}
			d.linkAnswer(nil, err)
		}
		var (
			failed *ApplyError
			link   *LinkError
		)
		require.ErrorAs(t, d.answer(id), &failed)
		require.Len(t, failed.ByVB, 1)
		require.ErrorAs(t, failed.ByVB[uint16(bad)], &link)
		assert.Equal(t, producers[bad], link.Producer)
	}
}

// History 12: peers that do not read cannot keep a process or its sockets.
func TestHistory_12(t *testing.T) {
	deaf := func(s *stage) {
		for _, n := range s.nodes {
			n.deaf = true
		}
	}
	for name, end := range map[string]func(*stage){
		"stop": func(s *stage) { assert.NoError(s.t, s.manager.Stop(s.ctx)) },
		"kill": func(s *stage) { s.process("consumer connection").Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, deaf, func(s *stage) {
				done := s.apply(0)
				s.link()
				go s.p.write(noop(1)) // and the consumer does not take it
				synctest.Wait()
				since := time.Now()
				end(s)
				require.Error(t, next(s, done))
				synctest.Wait()
				for _, p := range []*peer{s.c, s.p} {
					assert.ErrorIs(t, p.conn.SetDeadline(time.Time{}), io.ErrClosedPipe)
				}
				assert.Zero(t, time.Since(since), "before anybody's patience is over")
			})
		})
	}
}

// History 33: a producer that could not read its own data says so with a code of its own; that is a failure like any other.
func TestHistory_33(t *testing.T) {
	s := newScript(t)
	s.live(1, 1)
	s.call(opAdd, 2)
	s.streamReq(2, 2)
	s.end(1, 1, mcbp.EndBackfillFailed)
	require.Len(t, s.ended, 1)
	assert.Equal(t, mcbp.EndBackfillFailed, s.ended[0].reason)
	s.end(2, 2, mcbp.EndBackfillFailed)
	assert.Equal(t, mcbp.EndBackfillFailed, s.crashedWithEndOf(2).Reason)
}

// History 35: what the two engines say to each other about flow control is theirs.
func TestHistory_35(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		for range 3 {
			ack := &mcbp.Packet{Opcode: mcbp.OpDCPBufferAck, Opaque: streamOpaque(7), Extras: []byte{0, 0, 16, 0}}
			s.c.write(ack)
			assert.Equal(t, ack.Frame(), s.p.read())
		}
		s.apply(-1)
		s.c.write(answerTo(s.c.read(), mcbp.StatusSuccess))
		s.p.write(answerTo(s.p.read(), mcbp.StatusSuccess))
		s.p.write(&mcbp.Packet{Opcode: mcbp.OpDCPMutation, Extras: make([]byte, 31)})
		assert.Equal(t, mcbp.OpDCPMutation, s.c.read().Opcode(), "also of a stream that is closed: its bytes have to be acknowledged")
	})
}

// History 36: one vbucket that cannot be streamed costs the connection nothing.
func TestHistory_36(t *testing.T) {
	for _, status := range []mcbp.Status{mcbp.StatusNotMyVBucket, mcbp.StatusKeyExists, mcbp.StatusKeyNotFound} {
		onStage(t, nil, func(s *stage) {
			s.up(0)
			done := s.apply(1)
			s.c.write(answerTo(s.c.read(), status))
			require.ErrorIs(t, next(s, done), status)
			s.quiet()
			assert.Equal(t, []uint16{0}, s.status().Streams)
		})
	}
}

// History 37: an answer that comes late meets no request but its own, since its opaque rests.
func TestHistory_37(t *testing.T) {
	s := newScript(t)
	s.call(opAdd, 7)
	late := answerTo(s.last(relay.Consumer, mcbp.OpDCPAddStream, 7), mcbp.StatusSuccess)
	s.addAnswer(7, mcbp.StatusNotMyVBucket)
	again := s.call(opAdd, 7)
	assert.Equal(t, relay.Drop, s.frame(relay.Consumer, late))
	s.unanswered(again)
	require.NoError(t, s.crash)
	assert.Empty(t, s.m.streams())
}
