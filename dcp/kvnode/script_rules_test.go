package kvnode_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// refused counts which of n sets are refused by a rule that answers "busy".
func (c *client) refused(n int) (pattern string) {
	c.t.Helper()
	for i := range n {
		switch status := c.do(setPacket(7, fmt.Sprint(i), "v")).Status(); status {
		case mcbp.StatusBusy:
			pattern += "x"
		case mcbp.StatusSuccess:
			pattern += "."
		default:
			require.Fail(c.t, "another status", "%v", status)
		}
	}
	return pattern
}

var busy = fault.Answer{Status: mcbp.StatusBusy}

func TestRulesCount(t *testing.T) {
	s := stageFor(t)
	f := s.add(fault.Rule{Match: received(aSet), After: 2, Times: 3, Do: busy})
	assert.Equal(t, "..xxx..", s.victim.refused(7))
	assert.Equal(t, 3, f.Count())
	assert.Equal(t, "...", s.admin.refused(3), "of another name")
}

func TestRulesDrawLotsThatCanBeDrawnAgain(t *testing.T) {
	draw := func(seed uint64) string {
		s := stageFor(t)
		s.script = fault.NewScript(seed)
		s.node = startNode(t, "n0", scripted(s.script))
		s.admin = login(t, s.node)
		s.admin.setVBucket(7, mcbp.VBucketActive)
		s.victim = s.loginVictim()
		s.add(fault.Rule{Match: received(aSet), Probability: 0.5, Do: busy})
		return s.victim.refused(40)
	}
	first := draw(1)
	assert.Contains(t, first, "x")
	assert.Contains(t, first, ".")
	assert.Equal(t, first, draw(1))
	assert.NotEqual(t, first, draw(2))
}

func TestTheFirstRuleThatIsDueStrikes(t *testing.T) {
	s := stageFor(t)
	s.add(fault.Rule{Name: "one", Match: received(aSet), Times: 1, Do: busy})
	two := s.add(fault.Rule{Name: "two", Match: received(aSet), After: 1, Do: fault.Answer{Status: mcbp.StatusNoMemory}})
	for _, want := range []mcbp.Status{mcbp.StatusBusy, mcbp.StatusSuccess, mcbp.StatusNoMemory} {
		assert.Equal(t, want, s.victim.do(setPacket(7, "k", "v")).Status())
	}
	assert.Equal(t, 1, two.Count())
}

func TestRulesFitByConnectionAndFrame(t *testing.T) {
	s := stageFor(t)
	s.admin.setVBucket(8, mcbp.VBucketActive)
	peer := s.victim.socket.LocalAddr().String()
	for name, m := range map[string]fault.Match{
		"node":    {Node: "n0"},
		"bucket":  {Bucket: "def*"},
		"peer":    {Peer: peer},
		"role":    {Role: fault.Client},
		"request": {Frames: fault.Requests},
		"vbucket": {VBuckets: []uint16{1, 7}},
		"opcodes": {Opcodes: []mcbp.Opcode{mcbp.OpGet, mcbp.OpSet}},
		"where":   {Where: func(f mcbp.Frame) bool { return string(f.Key()) == "0" }},
	} {
		m.Direction = fault.Received
		f := s.add(fault.Rule{Match: m, Do: busy})
		assert.Equal(t, "x", s.victim.refused(1), name)
		f.Remove()
	}
	for name, m := range map[string]fault.Match{
		"node":       {Node: "n1"},
		"bucket":     {Bucket: "other"},
		"connection": {Connection: "somebody*"},
		"peer":       {Peer: "127.0.0.2:*"},
		"role":       {Role: fault.Producer},
		"answers":    {Frames: fault.Answers},
		"status":     {Statuses: []mcbp.Status{mcbp.StatusSuccess}},
		"vbucket":    {VBuckets: []uint16{8}},
		"no vbucket": {VBuckets: []uint16{}},
		"opcode":     {Opcodes: []mcbp.Opcode{mcbp.OpGet}},
		"direction":  {Direction: fault.Sent, Where: func(f mcbp.Frame) bool { return !f.IsResponse() }},
		"where":      {Where: func(mcbp.Frame) bool { return false }},
	} {
		if m.Direction == fault.Either {
			m.Direction = fault.Received
		}
		f := s.add(fault.Rule{Match: m, Do: busy})
		assert.Equal(t, ".", s.victim.refused(1), name)
		assert.Zero(t, f.Count(), name)
		f.Remove()
	}
}

// An answer is about the vbucket of its request, and has a status.
func TestRulesFitAnswers(t *testing.T) {
	s := stageFor(t)
	s.admin.setVBucket(8, mcbp.VBucketActive)
	f := s.add(fault.Rule{
		Match: fault.Match{Direction: fault.Sent, VBuckets: []uint16{8}, Statuses: []mcbp.Status{mcbp.StatusKeyNotFound}}, Do: busy,
	})
	assert.Equal(t, mcbp.StatusKeyNotFound, s.victim.get(7, "k").Status())
	assert.Equal(t, mcbp.StatusBusy, s.victim.get(8, "k").Status())
	s.victim.set(8, "k", "v")
	assert.Equal(t, mcbp.StatusSuccess, s.victim.get(8, "k").Status())
	s.victim.ping()
	assert.Equal(t, 1, f.Count())
}

func TestRulesFitTheEndsOfAReplication(t *testing.T) {
	p, script := scriptedPair(t, 7)
	names := map[fault.Role]*fault.Fault{}
	for _, role := range []fault.Role{fault.Consumer, fault.Producer} {
		names[role] = addRule(t, script, fault.Rule{
			Match: fault.Match{
				Connection: "replication:*:default", Role: role, Direction: fault.Received, Opcodes: []mcbp.Opcode{mcbp.OpDCPStreamReq},
			},
			Do: fault.Duplicate{Copies: 1}, Times: 1,
		})
	}
	p.r.add(7, 0)
	happened(t, names[fault.Producer], 1)
	happened(t, names[fault.Consumer], 1)
	strikes := script.Strikes()
	require.Len(t, strikes, 2)
	assert.Equal(t, "n0", strikes[0].Node, "the request comes before its answer")
	assert.Equal(t, fault.Producer, strikes[0].Role)
	assert.False(t, strikes[0].Answer)
	assert.Equal(t, "n1", strikes[1].Node)
	assert.True(t, strikes[1].Answer)
	for i, s := range strikes {
		assert.EqualValues(t, i+1, s.Seq)
		assert.Equal(t, testLink, s.Connection)
		assert.Equal(t, testBucket, s.Bucket)
		assert.Equal(t, 7, s.VBucket)
		assert.Equal(t, mcbp.OpDCPStreamReq, s.Opcode)
		assert.Equal(t, fault.Received, s.Direction)
		assert.Equal(t, fault.Duplicate{Copies: 1}, s.Action)
	}
	assert.False(t, strikes[1].At.Before(strikes[0].At))
}

func TestWaitingForAFaultEnds(t *testing.T) {
	s := stageFor(t)
	f := s.add(fault.Rule{Name: "mine", Match: received(aSet), Do: busy})
	done := make(chan error)
	go func() { done <- f.Wait(t.Context(), 2) }()
	s.victim.refused(2)
	require.NoError(t, <-done)

	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- f.Wait(ctx, 3) }()
	cancel()
	err := <-done
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "mine (answer busy (0x85)) happened 2 times, not 3")

	go func() { done <- f.Wait(t.Context(), 3) }()
	f.Remove()
	require.ErrorContains(t, <-done, "was removed; it happened 2 times, not 3")
	f.Remove()
	assert.Equal(t, "..", s.victim.refused(2))
}

// What is kept is bounded: strikes of long ago, requests that are never answered.
func TestAScriptKeepsALimitedMemory(t *testing.T) {
	const many = 10_000
	s := stageFor(t)
	f := s.add(fault.Rule{Match: received(aSet), Do: fault.NoAnswer{}})
	for i := range many {
		s.victim.send(setPacket(7, "k", "v"))
		if i%1000 == 0 {
			s.victim.ping()
		}
	}
	s.victim.ping()
	assert.Equal(t, many, f.Count())
	strikes := s.script.Strikes()
	require.Len(t, strikes, 4096)
	assert.EqualValues(t, many, strikes[4095].Seq)
	assert.EqualValues(t, many-4095, strikes[0].Seq)
}

func TestRulesComeAndGoUnderTraffic(t *testing.T) {
	p, script := scriptedPair(t, 7)
	p.r.open(7, 0)
	written := make(chan struct{}, 1)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range written {
				for _, r := range []fault.Rule{
					{Match: sent(fault.Match{Opcodes: []mcbp.Opcode{mcbp.OpSet}, VBuckets: []uint16{7}}), Do: fault.Trickle{Bytes: 10}},
					{Match: fault.Match{Role: fault.Producer, Opcodes: []mcbp.Opcode{mcbp.OpDCPMutation}}, Do: fault.Delay{For: 1}},
					{Match: fault.Match{VBuckets: []uint16{3}}, Do: fault.Drop{}},
				} {
					f, err := script.Add(r)
					if err != nil {
						panic(err)
					}
					_ = script.Strikes()
					f.Remove()
				}
			}
		})
	}
	for i := range 500 {
		p.a.set(7, fmt.Sprint(i), "v")
		select {
		case written <- struct{}{}:
		default: // they are still busy with the one before
		}
	}
	close(written)
	wg.Wait()
	p.same(t, 7)
}

// A node that is closed while faults hold everything up, and with connections that come and go, leaves nothing behind.
func TestAStalledNodeCanBeClosed(t *testing.T) {
	s := stageFor(t)
	for _, r := range []fault.Rule{
		{Match: received(aSet), Do: fault.StopReading{}},
		{Match: sent(aGet), Do: fault.Delay{For: patience * 100}},
	} {
		f := s.add(r)
		c := s.loginVictim()
		for _, op := range r.Match.Opcodes {
			p := setPacket(7, "k", "v")
			if op == mcbp.OpGet {
				p = &mcbp.Packet{Opcode: op, VBucket: 7, Key: []byte("k")}
			}
			c.send(p)
		}
		happened(t, f, 1)
	}
	require.NoError(t, s.node.Close())
}

func TestHookAndScriptTogether(t *testing.T) {
	script := fault.NewScript(1)
	plan := fault.New(fault.Options{Kind: fault.NoAddResponse, VB: 7})
	plan.Arm()
	n := startNode(t, "n1", scripted(script), func(o *kvnode.Options) { o.Hooks = plan.For("n1") })
	f := addRule(t, script, fault.Rule{Match: fault.Match{Opcodes: []mcbp.Opcode{mcbp.OpDCPAddStream}}, Do: fault.Duplicate{}})
	login(t, n).setVBucket(7, mcbp.VBucketReplica)
	c := openDCP(t, n, kvnode.RoleConsumer, testLink, "n1")
	c.write(mcbp.AddStream{VBucket: 7, Opaque: mcbp.Opaque{0xff, 0, 1, 0xff}}.Append(nil))
	happened(t, f, 1)
	<-plan.Happened()
	c.agreeUntil(mcbp.OpDCPStreamReq) // of the second, which the plan lets through
}
