package rebalance

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// What counts as progress of a step, and what happens without it (design §6, Watchdogs): the move ends, and says at which
// step of which vbucket it waited for what. The moves are real, the nodes are fakes, the time is virtual.

// A signal of progress comes every signalEvery, signals times; then there is none any more.
const (
	signalEvery = 100 * time.Second
	signals     = 10
)

// watched is a step that does not come to its end.
type watched struct {
	// hang is the operation at which it does not, if it is one that hangs.
	hang, node string
	nth        int
	// signal makes the nodes show the nth sign of progress; nil for none.
	signal func(w *moveWorld, nth func() uint64)
	// limit is the time without progress, and slack how long it takes to see the last sign.
	limit, slack time.Duration
	want         string
}

func (s watched) run(t *testing.T) {
	t.Helper()
	inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
		began := time.Now()
		nth := func() uint64 { return min(signals, uint64(time.Since(began)/signalEvery)) }
		expected := s.limit
		if s.signal != nil {
			s.signal(w, nth)
			expected += signals * signalEvery
		}
		if s.hang != "" {
			w.breakAt(s.hang, s.node, s.nth, func(ctx context.Context) error {
				<-ctx.Done()
				return context.Cause(ctx)
			})
		}
		err := w.move(futureChain)
		require.EqualError(t, err, "move of vb 0 n0→n3: "+s.want)
		assert.GreaterOrEqual(t, time.Since(began), expected)
		assert.LessOrEqual(t, time.Since(began), expected+s.slack)
		w.world.setGate(nil)
		w.world.tell(nil, nil)
		require.NoError(t, w.janitor().Problem())
		w.requireChain(oldChain)
	})
}

const watchdogLimit = 2 * time.Minute

func TestWatchdog_backfill(t *testing.T) {
	stands := watched{
		limit: watchdogLimit, slack: probePause + lastPoll,
		want: `step backfill of vb 0 made no progress for 2m0s: waited for n3: backfill from n0 (status "backfilling", 5000 items left)`,
	}
	t.Run("nothing changes", func(t *testing.T) {
		s := stands
		s.signal = func(w *moveWorld, _ func() uint64) {
			w.world.estimate = func(uint16) kv.Estimate { return kv.Estimate{Status: "backfilling", Items: 5000} }
		}
		s.limit -= signals * signalEvery
		s.run(t)
	})
	t.Run("the estimate changes", func(t *testing.T) {
		s := stands
		s.signal = func(w *moveWorld, nth func() uint64) {
			w.world.estimate = func(uint16) kv.Estimate {
				return kv.Estimate{Status: "backfilling", Items: 5000 + signals - nth()}
			}
		}
		s.run(t)
	})
	t.Run("the status changes", func(t *testing.T) {
		s := stands
		s.signal = func(w *moveWorld, nth func() uint64) {
			w.world.estimate = func(uint16) kv.Estimate {
				if nth()%2 == 1 {
					return kv.Estimate{Status: "in-memory", Items: 5000}
				}
				return kv.Estimate{Status: "backfilling", Items: 5000}
			}
		}
		s.run(t)
	})
	t.Run("the seqno grows", func(t *testing.T) {
		s := stands
		s.signal = func(w *moveWorld, nth func() uint64) {
			w.world.estimate = func(uint16) kv.Estimate { return kv.Estimate{Status: "backfilling", Items: 5000} }
			w.world.seqno = func(node string, _ uint16, is kv.SeqnoInfo) kv.SeqnoInfo {
				if node == nodeN {
					is.High = nth()
				}
				return is
			}
		}
		s.run(t)
	})
	t.Run("it is not counted for ever", func(t *testing.T) {
		s := stands
		s.signal = func(w *moveWorld, _ func() uint64) {
			w.world.estimate = func(uint16) kv.Estimate { return kv.Estimate{Status: "calculating-item-count"} }
		}
		s.limit -= signals * signalEvery
		s.want = `step backfill of vb 0 made no progress for 2m0s: waited for n3: backfill from n0 (status "calculating-item-count", 0 items left)`
		s.run(t)
	})
}

// The wait before the topology of both chains is set, and the one after it.
func TestWatchdog_persistence(t *testing.T) {
	for nth, step := range []Step{StepPersist, StepBarrier} {
		stands := watched{
			hang: "persistence", node: nodeN, nth: nth + 1, limit: watchdogLimit, slack: probePause,
			want: "step " + string(step) + " of vb 0 made no progress for 2m0s: waited for n3: persistence of seqno 100",
		}
		t.Run(string(step)+": the disk stands still", stands.run)
		t.Run(string(step)+": the persisted seqno grows", func(t *testing.T) {
			s := stands
			s.signal = func(w *moveWorld, nth func() uint64) {
				w.world.seqno = func(node string, _ uint16, is kv.SeqnoInfo) kv.SeqnoInfo {
					if node == nodeN {
						is.Persisted = nth()
					}
					return is
				}
			}
			s.run(t)
		})
		t.Run(string(step)+": writes alone are no progress", func(t *testing.T) {
			s := stands
			s.signal = func(w *moveWorld, nth func() uint64) {
				w.world.seqno = func(node string, _ uint16, is kv.SeqnoInfo) kv.SeqnoInfo {
					if node == nodeN {
						is.High, is.Persisted = 100+nth(), 3
					}
					return is
				}
			}
			s.limit -= signals * signalEvery
			s.run(t)
		})
	}
	t.Run("the node asks to be asked again", func(t *testing.T) {
		inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
			began := time.Now()
			var asked atomic.Int32
			w.world.setGate(func(ctx context.Context, op fakeOp) error {
				if op.What != "persistence" {
					return nil
				}
				if asked.Add(1) > signals {
					<-ctx.Done()
					return context.Cause(ctx)
				}
				if err := after(ctx, signalEvery); err != nil {
					return err
				}
				return mcbp.StatusTemporaryFailure
			})
			err := w.move(futureChain)
			require.ErrorContains(t, err, "step persist of vb 0 made no progress for 2m0s: waited for n3: persistence of seqno 100")
			assert.Equal(t, signals*signalEvery+watchdogLimit, time.Since(began))
		})
	})
}

// The replication has its own, sharper limit on the frames of the takeover; this is the move's, for an answer that is
// lost.
func TestWatchdog_takeover(t *testing.T) {
	stands := watched{
		hang: "takeover", node: nodeN, nth: 1, limit: watchdogLimit, slack: probePause,
		want: "step takeover of vb 0 made no progress for 2m0s: waited for n3: takeover from n0",
	}
	t.Run("nothing happens", stands.run)
	t.Run("the seqno grows", func(t *testing.T) {
		s := stands
		s.signal = func(w *moveWorld, nth func() uint64) {
			w.world.seqno = func(node string, _ uint16, is kv.SeqnoInfo) kv.SeqnoInfo {
				if node == nodeN {
					is.High = 100 + nth()
				}
				return is
			}
		}
		s.run(t)
	})
}

func TestWatchdog_state_change(t *testing.T) {
	t.Run("of a copy that is built", watched{
		hang: "state replica", node: nodeN, nth: 1, limit: watchdogLimit,
		want: "step replica of vb 0 made no progress for 2m0s: waited for n3: state replica",
	}.run)
	t.Run("of a topology", watched{
		hang: "state active", node: nodeA, nth: 1, limit: watchdogLimit,
		want: "step topology of vb 0 made no progress for 2m0s: waited for n0: state active with topology [n0 n1] [n3 n0]",
	}.run)
	t.Run("of a stream", watched{
		hang: "open", node: nodeN, nth: 1, limit: 11 * time.Minute,
		want: "step stream of vb 0 made no progress for 11m0s: waited for n3: stream from n0",
	}.run)
}

// A question that is not answered ends the move sooner, and says as much.
func TestAQuestionThatIsNotAnsweredIsNamed(t *testing.T) {
	watched{
		hang: "seqno", node: nodeA, nth: 1, limit: 10 * time.Second,
		want: "step persist of vb 0 was not answered: waited for n0: its seqno: context deadline exceeded",
	}.run(t)
}

// A copy that cannot be deleted fails nothing: it is left over, and told.
func TestWatchdog_deletion(t *testing.T) {
	inMoveWorld(t, oldChain, func(t *testing.T, w *moveWorld) {
		w.breakAt("delete", nodeB, 1, func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		began := time.Now()
		ended := <-w.startMove(futureChain)
		require.NoError(t, ended.err)
		assert.Equal(t, watchdogLimit, time.Since(began))
		require.Len(t, ended.leftovers, 1)
		assert.Equal(t, "vb 0: node n1: step delete of vb 0 made no progress for 2m0s: waited for n1: deletion of its copy",
			strings.Join(ended.leftovers, ""))
		require.NoError(t, w.janitor().Problem())
		w.requireChain(futureChain)
	})
}
