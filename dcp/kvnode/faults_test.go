package kvnode_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// faulty is a pair of nodes that share an armed plan, with a vbucket replicated before and one to strike.
type faulty struct {
	*pair
	plan *fault.Plan
	log  *syncBuffer
}

const struck, spared = 17, 16

func faultyPair(t *testing.T, kind fault.Kind) *faulty {
	t.Helper()
	f := &faulty{log: &syncBuffer{}}
	f.plan = fault.New(fault.Options{
		Kind: kind, VB: struck, Log: slog.New(slog.NewJSONHandler(f.log, nil)),
	})
	hook := func(name string) func(*kvnode.Options) {
		return func(o *kvnode.Options) { o.Hooks = f.plan.For(name) }
	}
	f.pair = &pair{n0: startNode(t, "n0", hook("n0")), n1: startNode(t, "n1", hook("n1"))}
	f.a, f.b = login(t, f.n0), login(t, f.n1)
	for _, vb := range []uint16{spared, struck} {
		f.a.setVBucket(vb, mcbp.VBucketActive)
		f.b.setVBucket(vb, mcbp.VBucketReplica)
	}
	f.join(t)
	f.r.open(spared, 0)
	f.plan.Arm()
	f.r.open(1000, 0) // it must be let through: it is not the one
	return f
}

// join opens the replication, again if there was one.
func (f *faulty) join(t *testing.T) {
	t.Helper()
	f.a.setVBucket(1000, mcbp.VBucketActive)
	f.b.setVBucket(1000, mcbp.VBucketReplica)
	f.r = join(t, f.n0, f.n1, testLink)
}

// record waits until the fault has struck, and checks what is common to all.
func (f *faulty) record(t *testing.T, add mcbp.Opaque) fault.Record {
	t.Helper()
	select {
	case <-f.plan.Happened():
	case <-time.After(patience):
		require.FailNow(t, "the fault did not strike")
	}
	r, ok := f.plan.Record()
	require.True(t, ok)
	assert.EqualValues(t, struck, r.VB)
	assert.Equal(t, "n0", r.Producer)
	assert.Equal(t, "n1", r.Consumer)
	assert.Equal(t, testLink, r.Connection)
	assert.Equal(t, add, r.AddOpaque)
	assert.WithinDuration(t, time.Now(), r.At, time.Minute)

	lines := bytes.Split(bytes.TrimSpace([]byte(f.log.String())), []byte("\n"))
	require.Len(t, lines, 1, "it strikes once")
	var logged map[string]any
	require.NoError(t, json.Unmarshal(lines[0], &logged))
	assert.Equal(t, "fault_injected", logged["msg"])
	assert.Equal(t, "node", logged["part"])
	assert.Equal(t, r.Kind.String(), logged["kind"])
	assert.InDelta(t, struck, logged["vb"], 0)
	assert.Equal(t, "n0", logged["producer"])
	assert.Equal(t, "n1", logged["consumer"])
	assert.Equal(t, add.String(), logged["add_opaque"])
	if r.Requested {
		assert.Equal(t, r.StreamOpaque.String(), logged["stream_opaque"])
	} else {
		assert.Equal(t, "-", logged["stream_opaque"])
	}
	return r
}

// recovers checks that everything works when the replication is built anew, and that the fault does not come back.
func (f *faulty) recovers(t *testing.T) {
	t.Helper()
	f.r.close()
	f.join(t)
	f.r.open(struck, 0)
	f.a.set(struck, "k", "v")
	f.same(t, struck)
}

// settled waits until both ends have acted on all that was relayed to them so far, and returns what they said. It goes
// round twice: what one end says while it settles must reach the other.
func (f *faulty) settled(t *testing.T, at int) []seen {
	t.Helper()
	for i := range byte(2) {
		for _, role := range []kvnode.Role{kvnode.RoleProducer, kvnode.RoleConsumer} {
			probe := mcbp.Opaque{probeMark, byte(role), i}
			f.r.inject(role, (&mcbp.Packet{Opcode: mcbp.OpDCPNoop, Opaque: probe}).Frame())
			f.r.await("settling", at, func(s seen) bool { return s.from == role && s.frame.Opaque() == probe })
		}
	}
	return f.r.frames(at)
}

func answersTo(opaque mcbp.Opaque, frames []seen) (answers []mcbp.Frame) {
	for _, s := range frames {
		if s.from == kvnode.RoleConsumer && s.frame.IsResponse() && s.frame.Opaque() == opaque {
			answers = append(answers, s.frame)
		}
	}
	return answers
}

func TestFaultEarlyStreamEnd(t *testing.T) {
	f := faultyPair(t, fault.EarlyStreamEnd)
	at := f.r.position()
	add := f.r.add(struck, 0)
	end, _ := f.r.await("early end", at, isRequest(mcbp.OpDCPStreamEnd, struck))
	r := f.record(t, add)
	assert.True(t, r.Requested)
	assert.Equal(t, mcbp.StreamEnd{VBucket: struck, Opaque: r.StreamOpaque, Reason: mcbp.EndStateChanged}.Append(nil), []byte(end))
	assert.Empty(t, answersTo(add, f.settled(t, at)), "the ADD_STREAM is never answered")
	assert.Equal(t, "active", f.stateOn(f.a, struck), "the state is as it was")
	f.a.set(spared, "k", "v")
	f.same(t, spared)
	f.recovers(t)
}

func TestFaultLateAnswer(t *testing.T) {
	f := faultyPair(t, fault.LateAnswer)
	at := f.r.position()
	f.r.hold(true)
	add := f.r.add(struck, 0)
	f.r.await("early end", at, isRequest(mcbp.OpDCPStreamEnd, struck))
	r := f.record(t, add)
	assert.Empty(t, answersTo(add, f.r.frames(at)), "not before the end has reached the consumer")
	f.r.hold(false)
	answer := f.r.answer(kvnode.RoleConsumer, add)
	assert.Equal(t, mcbp.StatusSuccess, answer.Status())
	assert.Equal(t, r.StreamOpaque[0], answer.Extras()[3])
	f.recovers(t)
}

func TestFaultNoAddResponse(t *testing.T) {
	f := faultyPair(t, fault.NoAddResponse)
	at := f.r.position()
	add := f.r.add(struck, 0)
	r := f.record(t, add)
	assert.False(t, r.Requested)
	for _, s := range f.settled(t, at) {
		assert.NotEqual(t, mcbp.OpDCPStreamReq, s.frame.Opcode())
		assert.NotEqual(t, mcbp.OpDCPAddStream, s.frame.Opcode())
	}
	f.recovers(t)
}

func TestFaultUnknownOpaque(t *testing.T) {
	f := faultyPair(t, fault.UnknownOpaque)
	at := f.r.position()
	add := f.r.add(struck, 0)
	r := f.record(t, add)
	assert.Equal(t, mcbp.Opaque{0xff, 0x7e, 0x7e, 0xff}, r.MadeUp)
	answer := f.r.answer(kvnode.RoleConsumer, r.MadeUp)
	assert.Equal(t, mcbp.OpDCPAddStream, answer.Opcode())
	assert.Equal(t, mcbp.StatusSuccess, answer.Status())
	assert.Empty(t, answersTo(add, f.settled(t, at)))
	f.recovers(t)
}

func TestFaultDropConsumer(t *testing.T) {
	f := faultyPair(t, fault.DropConsumer)
	at := f.r.position()
	add := f.r.add(struck, 0)
	r := f.record(t, add)
	assert.False(t, r.Requested)
	f.r.awaitEnd(kvnode.RoleConsumer)
	assert.Empty(t, answersTo(add, f.r.frames(at)))
	f.recovers(t)
}

func TestFaultDropProducer(t *testing.T) {
	f := faultyPair(t, fault.DropProducer)
	at := f.r.position()
	add := f.r.add(struck, 0)
	r := f.record(t, add)
	assert.True(t, r.Requested)
	f.r.awaitEnd(kvnode.RoleProducer)
	assert.Empty(t, answersTo(add, f.r.frames(at)))
	f.recovers(t)
}

func TestFaultAddError(t *testing.T) {
	f := faultyPair(t, fault.AddError)
	add := f.r.add(struck, 0)
	answer := f.r.answer(kvnode.RoleConsumer, add)
	assert.Equal(t, mcbp.StatusNotMyVBucket, answer.Status())
	f.record(t, add)
	f.r.open(struck, 0)
	f.a.set(struck, "k", "v")
	f.same(t, struck)
}

func TestFaultStaleStreamEnd(t *testing.T) {
	f := faultyPair(t, fault.StaleStreamEnd)
	f.r.open(struck, 0)
	f.a.set(struck, "k", "v")
	f.same(t, struck)
	request, _ := f.r.await("STREAM_REQ", 0, isRequest(mcbp.OpDCPStreamReq, struck))
	at := f.r.position()
	f.r.shutStream(struck)
	for _, s := range f.settled(t, at) {
		require.NotEqual(t, mcbp.OpDCPStreamEnd, s.frame.Opcode(), "it is kept back")
	}
	_, fired := f.plan.Record()
	require.False(t, fired)

	at = f.r.position()
	add := f.r.add(struck, mcbp.StreamFlagTakeover)
	end, after := f.r.await("stale end", at, isRequest(mcbp.OpDCPStreamEnd, struck))
	assert.Equal(t, mcbp.StreamEnd{VBucket: struck, Opaque: request.Opaque(), Reason: mcbp.EndClosed}.Append(nil), []byte(end))
	assert.Empty(t, answersTo(add, f.r.frames(0)[:after]), "it comes while the takeover's ADD_STREAM is under way")
	r := f.record(t, add)
	assert.Equal(t, request.Opaque(), r.StreamOpaque)

	assert.Equal(t, mcbp.StatusSuccess, f.r.answer(kvnode.RoleConsumer, add).Status())
	eventually(t, "the takeover is not disturbed", func() bool { return f.stateOn(f.b, struck) == "active" })
	ends := 0
	for _, s := range f.settled(t, at) {
		if isRequest(mcbp.OpDCPStreamEnd, struck)(s) {
			ends++
		}
	}
	assert.Equal(t, 2, ends, "the stale one and the takeover's own")
}

// A closed stream that is added again as a replica gets its end then; the fault waits for a takeover.
func TestFaultStaleStreamEndWaitsForATakeover(t *testing.T) {
	f := faultyPair(t, fault.StaleStreamEnd)
	f.r.open(struck, 0)
	f.r.shutStream(struck)
	at := f.r.position()
	f.r.open(struck, 0)
	f.r.await("the end that was kept back", at, isRequest(mcbp.OpDCPStreamEnd, struck))
	_, fired := f.plan.Record()
	require.False(t, fired)
	f.r.shutStream(struck)
	f.record(t, f.r.add(struck, mcbp.StreamFlagTakeover))
}

// Set-ups that fail for a reason of their own do not use the fault up.
func TestFaultWaitsForASetupThatWouldSucceed(t *testing.T) {
	for _, kind := range []fault.Kind{fault.EarlyStreamEnd, fault.LateAnswer, fault.UnknownOpaque} {
		f := faultyPair(t, kind)
		f.a.setVBucket(struck, mcbp.VBucketDead)
		refused := f.r.answer(kvnode.RoleConsumer, f.r.add(struck, 0))
		require.Equal(t, mcbp.StatusNotMyVBucket, refused.Status(), "%v", kind)
		_, fired := f.plan.Record()
		require.False(t, fired, "%v", kind)
		f.a.setVBucket(struck, mcbp.VBucketActive)
		f.record(t, f.r.add(struck, 0))
	}
	f := faultyPair(t, fault.NoAddResponse)
	f.b.setVBucket(struck, mcbp.VBucketActive)
	require.Equal(t, mcbp.StatusNotMyVBucket, f.r.answer(kvnode.RoleConsumer, f.r.add(struck, 0)).Status())
	f.b.setVBucket(struck, mcbp.VBucketReplica)
	f.record(t, f.r.add(struck, 0))
}

// A fault whose connection is opened anew in the middle strikes on the new one.
func TestFaultOutlivesItsConnection(t *testing.T) {
	f := faultyPair(t, fault.UnknownOpaque)
	f.r.hold(true) // the STREAM_REQ's answer never reaches the consumer, so it has nothing to forge
	f.r.add(struck, 0)
	f.r.await("STREAM_REQ", 0, isRequest(mcbp.OpDCPStreamReq, struck))
	f.r.close()
	f.join(t)
	f.r.next = 99 // its opaques are not those of the first one
	f.record(t, f.r.add(struck, 0))
}

// Without an order to strike, a plan changes nothing.
func TestAPlanThatIsNotArmedIsInvisible(t *testing.T) {
	for _, kind := range fault.Kinds() {
		plan := fault.New(fault.Options{Kind: kind, VB: fault.AnyVBucket})
		hook := func(name string) func(*kvnode.Options) {
			return func(o *kvnode.Options) { o.Hooks = plan.For(name) }
		}
		p := &pair{n0: startNode(t, "n0", hook("n0")), n1: startNode(t, "n1", hook("n1"))}
		p.a, p.b = login(t, p.n0), login(t, p.n1)
		p.a.setVBucket(7, mcbp.VBucketActive)
		p.b.setVBucket(7, mcbp.VBucketReplica)
		p.r = join(t, p.n0, p.n1, testLink)
		p.r.open(7, 0)
		p.a.set(7, "k", "v")
		p.same(t, 7)
		p.r.shutStream(7)
		p.r.await("end", 0, isRequest(mcbp.OpDCPStreamEnd, 7))
		p.r.open(7, mcbp.StreamFlagTakeover)
		eventually(t, "taken over", func() bool { return p.stateOn(p.b, 7) == "active" })
		_, fired := plan.Record()
		assert.False(t, fired, "%v", kind)
	}
}
