package rebalance_test

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance"
)

// A connection breaks at one of a takeover's messages, under writes. Every vbucket is served again, by one node, and no
// write that was acknowledged is lost: so none was acknowledged by two.
func TestHistory_18_AtEachMessage(t *testing.T) {
	const pending, isActive = byte(mcbp.VBucketPending), byte(mcbp.VBucketActive)
	state := func(of byte) func(mcbp.Frame) bool {
		return func(f mcbp.Frame) bool { return len(f.Extras()) == 1 && f.Extras()[0] == of }
	}
	takesOver := func(f mcbp.Frame) bool { return len(f.Extras()) >= 4 && f.Extras()[3]&1 == 1 }
	states := []mcbp.Opcode{mcbp.OpDCPSetVBucketState}
	for name, test := range map[string]struct {
		match fault.Match
		after int
	}{
		"add": {match: fault.Match{
			Role: fault.Consumer, Direction: fault.Received, Frames: fault.Requests,
			Opcodes: []mcbp.Opcode{mcbp.OpDCPAddStream}, Where: takesOver,
		}},
		"request": {match: fault.Match{
			Role: fault.Producer, Direction: fault.Received, Frames: fault.Requests,
			Opcodes: []mcbp.Opcode{mcbp.OpDCPStreamReq}, Where: takesOver,
		}},
		"pending sent": {match: fault.Match{
			Role: fault.Producer, Direction: fault.Sent, Frames: fault.Requests, Opcodes: states, Where: state(pending),
		}},
		"pending received": {match: fault.Match{
			Role: fault.Consumer, Direction: fault.Received, Frames: fault.Requests, Opcodes: states, Where: state(pending),
		}},
		"pending answered": {match: fault.Match{
			Role: fault.Consumer, Direction: fault.Sent, Frames: fault.Answers, Opcodes: states,
		}},
		"active sent": {match: fault.Match{
			Role: fault.Producer, Direction: fault.Sent, Frames: fault.Requests, Opcodes: states, Where: state(isActive),
		}},
		"active received": {match: fault.Match{
			Role: fault.Consumer, Direction: fault.Received, Frames: fault.Requests, Opcodes: states, Where: state(isActive),
		}},
		"active answered": {match: fault.Match{
			Role: fault.Producer, Direction: fault.Received, Frames: fault.Answers, Opcodes: states,
		}, after: 1},
	} {
		t.Run(name, func(t *testing.T) {
			script := fault.NewScript(1)
			w := newWorldOf(t, 4, 3, rebalance.BucketConfig{Name: "orders", VBuckets: 4, Replicas: 1}, noFault,
				func(o *kvnode.Options) { o.Faults = script })
			written := w.write(40, "first ")
			require.NoError(t, w.cluster.AddNode(w.ctx, w.node("n3")))
			broken, err := script.Add(fault.Rule{Match: test.match, After: test.after, Times: 1, Do: fault.Close{How: fault.RST}})
			require.NoError(t, err)
			writers := w.startWriters(1)
			report := w.rebalance(rebalance.Request{Keep: []string{"n1", "n2", "n3"}})
			assert.Equal(t, 1, broken.Count())
			assert.Equal(t, rebalance.Failed, report.Outcome)
			require.Eventually(t, func() bool {
				janitor, err := w.cluster.Janitor(w.ctx)
				return err == nil && janitor.Problem() == nil
			}, 20*time.Second, 10*time.Millisecond, "the janitor repairs")
			for vb, chain := range w.activeMap() {
				_, err := w.client(chain.Active()).Get(w.ctx, uint16(vb), "no such key")
				require.ErrorIs(t, err, mcbp.StatusKeyNotFound, "vb %d is served", vb)
			}
			require.NoError(t, w.rebalance(rebalance.Request{Keep: []string{"n1", "n2", "n3"}}).Err)
			maps.Copy(written, writers.end())
			actives := 0
			for node := range w.nodes {
				actives += w.activesOn(node)
			}
			assert.Equal(t, w.bucket.VBuckets, actives)
			w.requireAll(written)
			w.requireClean()
		})
	}
}

// Whoever asks the destination before the takeover is told at once that it is not the active; and nobody hangs.
func TestHistory_19_Clients(t *testing.T) {
	w := newWorld(t, 4, 3, rebalance.BucketConfig{Name: "orders", VBuckets: 32, Replicas: 1}, noFault)
	w.write(200, "first ")
	require.NoError(t, w.cluster.AddNode(w.ctx, w.node("n3")))
	events := w.cluster.Events().Subscribe(1000)
	defer events.Close()
	run, err := w.cluster.Rebalance(w.ctx, rebalance.Request{})
	require.NoError(t, err)
	var before, asked int
	for ended := false; !ended; {
		select {
		case event := <-events.C():
			started, ok := event.(rebalance.MoveStarted)
			if _, last := event.(rebalance.RebalanceEnded); last {
				ended = true
			}
			if !ok || started.New[0] == started.Old[0] {
				continue
			}
			for {
				_, err := w.client(started.New[0]).Get(w.ctx, started.VB, "no such key")
				asked++
				if errors.Is(err, mcbp.StatusKeyNotFound) {
					break // it has taken over
				}
				if errors.Is(err, mcbp.StatusNotMyVBucket) {
					before++
					continue
				}
				require.ErrorIs(t, err, mcbp.StatusTemporaryFailure, "it is taking over")
			}
		case <-w.ctx.Done():
			require.FailNow(t, "the rebalance does not end")
		}
	}
	report, err := run.Wait(w.ctx)
	require.NoError(t, err)
	require.NoError(t, report.Err)
	assert.Positive(t, asked)
	t.Logf("%d questions, %d of them too early", asked, before)
}
