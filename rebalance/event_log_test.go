package rebalance

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// Whatever is added and read when: the log has the last events, without a gap, and no more than it has room for.
func TestTheEventLogIsARing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 9).Draw(t, "size")
		l := newEventLog(size)
		added := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(*rapid.T) {
				added++
				l.add(LoggedEvent{Count: int(added)})
			},
			"read": func(*rapid.T) {
				since := rapid.Uint64Range(0, added+2).Draw(t, "since")
				events, _ := l.since(since)
				wanted := max(since, added-min(added, uint64(size)))
				require.Len(t, events, int(added-min(wanted, added)))
				for n, e := range events {
					require.Equal(t, wanted+1+uint64(n), e.Seq)
					require.Equal(t, int(e.Seq), e.Count)
				}
			},
			"": func(*rapid.T) { require.LessOrEqual(t, len(l.ring), size) },
		})
	})
}

// Who follows the log gets every event once and in order, as long as it is not further behind than the log is long.
func TestAFollowerOfTheEventLogLosesNothing(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		seen := make(chan LoggedEvent)
		go func() {
			defer close(seen)
			for e := range i.cluster.FollowEventLog(ctx, 0) {
				select {
				case seen <- e:
				case <-ctx.Done():
				}
			}
		}()
		next := func() LoggedEvent {
			select {
			case e := <-seen:
				return e
			case <-t.Context().Done():
			case <-time.After(time.Minute):
			}
			require.Fail(t, "nothing more is yielded")
			return LoggedEvent{}
		}
		first := next()
		assert.Equal(t, uint64(1), first.Seq)
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		synctest.Wait() // it has read nothing of all this
		events, err := i.cluster.EventLog(t.Context(), 0)
		require.NoError(t, err)
		require.Greater(t, len(events), 50)
		for _, want := range events[1:] {
			require.Equal(t, want, next())
		}
		i.cluster.Events().Publish(TargetReset{Bucket: "orders"})
		assert.Equal(t, "resetFastForwardMap", next().Type)
		cancel()
		assert.Zero(t, next(), "it is closed")
	})
}

func TestAFollowerOfTheEventLogSeesTheGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 3)
		defer i.close()
		i.cluster.env.eventLog = newEventLog(4)
		for n := range 3 {
			i.cluster.env.eventLog.add(LoggedEvent{Count: n})
		}
		var seen []uint64
		for e := range i.cluster.FollowEventLog(t.Context(), 0) {
			seen = append(seen, e.Seq)
			if e.Seq == 3 {
				for n := range 6 {
					i.cluster.env.eventLog.add(LoggedEvent{Count: n})
				}
			}
			if e.Seq == 9 {
				break
			}
		}
		assert.Equal(t, []uint64{1, 2, 3, 6, 7, 8, 9}, seen)
	})
}

// A follower ends with the cluster, after the last event; the log stays.
func TestAFollowerOfTheEventLogEndsWithTheCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 3)
		last := make(chan uint64)
		go func() {
			seq := uint64(0)
			for e := range i.cluster.FollowEventLog(t.Context(), 0) {
				seq = e.Seq
			}
			last <- seq
		}()
		synctest.Wait()
		i.close()
		seq := <-last
		events, err := i.cluster.EventLog(t.Context(), 0)
		require.NoError(t, err)
		assert.Equal(t, events[len(events)-1].Seq, seq)
	})
}

// A follower that is never done with what there is ends with its context all the same.
func TestAFollowerOfTheEventLogEndsWhileMoreHappens(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		seen := 0
		for range i.cluster.FollowEventLog(ctx, 0) {
			i.cluster.Events().Publish(TargetReset{Bucket: "orders"})
			if seen++; seen == 3 {
				cancel()
			}
			require.Less(t, seen, 100)
		}
		assert.Equal(t, 3, seen)
	})
}

// What happens to a vbucket is told under the names of the reference (rebalance.md §11.2), in this order.
func TestTheEventLogOfAMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 3)
		defer i.close()
		i.world.setGate(func(ctx context.Context, _ fakeOp) error { return after(ctx, time.Millisecond) })
		synctest.Wait() // for the janitor
		begun, err := i.cluster.EventLog(t.Context(), 0)
		require.NoError(t, err)
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err)
		events, err := i.cluster.EventLog(t.Context(), begun[len(begun)-1].Seq)
		require.NoError(t, err)

		// The move of the vbucket that n0 was the active of.
		vbuckets := report.Buckets[0].VBuckets
		moved := vbuckets[slices.IndexFunc(vbuckets, func(v VBucketReport) bool { return v.Before.Active() == "n0" })]
		var kinds []string
		for _, e := range events {
			if e.HasVB && e.VB == moved.VB && e.Type != "vbucketStateChange" {
				kinds = append(kinds, e.Type)
			}
			if e.Type == "vbucketMoveStart" && e.VB == moved.VB {
				assert.Equal(t, moved.Before, e.Before)
				assert.Equal(t, moved.After, e.After)
				assert.Equal(t, "n0", e.Node)
			}
			if e.Type == "takeoverStarted" && e.VB == moved.VB {
				assert.Equal(t, "n0", e.Producer)
				assert.Equal(t, moved.After.Active(), e.Node)
			}
			assert.LessOrEqual(t, e.At, time.Now())
		}
		assert.Equal(t, []string{
			"vbucketMoveStart", "backfillPhaseStarted", "backfillPhaseEnded", "seqnoWaitingStarted", "seqnoWaitingEnded",
			"seqnoWaitingStarted", "seqnoWaitingEnded", "takeoverStarted", "takeoverEnded", "updateMap", "vbucketMoveDone",
		}, kinds)

		var whole []string
		for _, e := range events {
			if !e.HasVB && !strings.HasPrefix(e.Type, "dcp") {
				whole = append(whole, e.Type)
			}
		}
		assert.Equal(t, []string{
			"rebalanceAccepted", "rebalanceStart", "bucketRebalanceStarted", "janitorRun", "updateFastForwardMap", "resetFastForwardMap",
			"bucketRebalanceEnded", "rebalanceEnd",
		}, whole)
		start := events[slices.IndexFunc(events, func(e LoggedEvent) bool { return e.Type == "rebalanceStart" })]
		assert.Equal(t, []string{"n1", "n2", "n3"}, start.Keep)
		assert.Equal(t, []string{"n0"}, start.Eject)
		assert.Equal(t, report.ID, start.Run)
	})
}

// A failure is in the log with its whole chain of causes.
func TestTheEventLogHasTheCauses(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			if op.What == "takeover" {
				return errInjected
			}
			return nil
		})
		report, err := i.start().Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, Failed, report.Outcome)
		synctest.Wait() // the mover tells of its moves when it has told of the failure
		i.cluster.ReplicationEvents().Publish(dcp.LinkCrashed{
			Link:   dcp.Link{Bucket: "orders", Producer: "n1", Consumer: "n2"},
			Reason: &dcp.CrashError{Role: dcp.RoleConsumer, Err: errInjected},
		})
		events, err := i.cluster.EventLog(t.Context(), 0)
		require.NoError(t, err)
		causes := map[string][]string{}
		for _, e := range events {
			if len(e.Cause) > 0 {
				causes[e.Type] = e.Cause
			}
		}
		assert.Equal(t, report.Cause, causes["rebalanceEnd"])
		assert.Equal(t, report.Cause[1:], causes["vbucketMoverTerminate"])
		assert.Equal(t, report.Cause[1:], causes["bucketRebalanceEnded"])
		assert.Equal(t, []string{"consumer connection crashed", "injected"}, causes["dcpReplicatorTerminate"])
	})
}

// An event is one JSON object on one line, with a type and a time in seconds, and can be read back.
func TestLoggedEventsTravel(t *testing.T) {
	at := time.Date(2026, 11, 27, 3, 4, 5, 678901000, time.UTC)
	full := LoggedEvent{
		Seq: 7, Type: "vbucketMoveStart", At: at, Run: "r1", Bucket: "orders", HasVB: true, VB: 0, Node: "n0", Producer: "n1",
		Nodes: []string{"n2"}, Keep: []string{"n3"}, Eject: []string{"n4"}, Failed: []string{"n5"}, Delta: []string{"n6"},
		Before: vbmap.Chain{"n0", ""}, After: vbmap.Chain{"n1"}, Step: StepPersist, State: "active", Connection: "c", Reason: "why\nnot",
		Cause: []string{"a", "b"}, Count: 3,
	}
	for _, e := range []LoggedEvent{full, {Seq: 1, Type: "rebalanceEnd", At: at}} {
		text, err := json.Marshal(e)
		require.NoError(t, err)
		assert.NotContains(t, string(text), "\n")
		var fields map[string]any
		require.NoError(t, json.Unmarshal(text, &fields))
		assert.Equal(t, e.Type, fields["type"])
		assert.InDelta(t, 1795748645.678901, fields["ts"], 1e-6)
		_, has := fields["vbucket"]
		assert.Equal(t, e.HasVB, has)
		var again LoggedEvent
		require.NoError(t, json.Unmarshal(text, &again))
		assert.True(t, at.Equal(again.At))
		again.At = at
		assert.Equal(t, e, again)
	}
}

// everyEvent has an event of each type that has an entry, and of each step that has one.
func everyEvent() []Event {
	events := []Event{
		RebalanceStarted{},
		RebalanceBegan{},
		RebalanceEnded{},
		RebalanceStuck{},
		RebalanceUnstuck{},
		BucketRebalanceStarted{},
		BucketRebalanceEnded{},
		BucketCreated{},
		TargetSet{},
		TargetReset{},
		ChainChanged{},
		VBucketStateSet{State: mcbp.VBucketActive},
		MoveStarted{},
		MoveEnded{},
		MoveEnded{Err: errInjected},
		JanitorEnded{JanitorReport{Reason: reasonDemand}},
		FailoverStarted{},
		FailoverEnded{FailoverReport{Buckets: []BucketFailover{{Name: "orders"}}}},
	}
	for _, step := range []Step{StepBackfill, StepPersist, StepTakeover} {
		events = append(events, MoveStepped{Step: step}, MoveStepped{Previous: step})
	}
	return events
}

func everyReplicationEvent() []dcp.Event {
	return []dcp.Event{
		dcp.ConsumerStarted{}, dcp.LinkUp{}, dcp.LinkCrashed{}, dcp.LinkFenced{}, dcp.LinkGaveUp{}, dcp.StreamEnded{}, dcp.StreamLost{},
	}
}

// Every event has an entry, or is left out on purpose.
func TestEveryEventIsLogged(t *testing.T) {
	for _, event := range everyEvent() {
		entries := logged(event)
		require.NotEmpty(t, entries, "%T", event)
		assert.NotEmpty(t, entries[0].Type, "%T", event)
	}
	assert.Empty(t, logged(JanitorEnded{JanitorReport{Reason: reasonPeriodic}}), "it comes every few seconds")
	assert.Empty(t, logged(JanitorStarted{}), "its end tells more")
	for _, event := range everyReplicationEvent() {
		require.Len(t, loggedReplication(event), 1, "%T", event)
	}
}

// A log that is full does not grow, however much happens.
func TestTheMemoryOfTheEventLogIsBounded(t *testing.T) {
	const size = 1000
	l := newEventLog(size)
	fill := func(n int) {
		for i := range n {
			l.add(LoggedEvent{Type: "rebalanceEnd", Cause: []string{fmt.Sprint(i)}})
		}
	}
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	fill(size)
	before := heap()
	fill(100 * size)
	assert.Less(t, heap(), before+size*2000)
	runtime.KeepAlive(l)
}
