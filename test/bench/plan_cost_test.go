package bench

import (
	"container/heap"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/rebalance/schedule"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// planned is what it took to plan for one size of cluster, and to put all moves in order.
type planned struct {
	vbuckets, nodes, replicas int
	// fresh makes a map, joins one with a node more, leaves one with a node less than that, returns one with a node that
	// was failed over, given the past maps.
	fresh, joins, leaves, returns time.Duration
	// order is the time in the schedule while every vbucket moves, moves their number, makespan how long that took in
	// the simulator over the least that it could.
	order    time.Duration
	moves    int
	makespan float64
}

// planSizes are the sizes that are printed.
func planSizes() (sizes [][2]int) {
	for _, nodes := range []int{10, 100, 1000} {
		for _, vbuckets := range []int{1024, 8192, 65536} {
			sizes = append(sizes, [2]int{vbuckets, nodes})
		}
	}
	return sizes
}

func nodesNamed(n int) []vbmap.Node {
	nodes := make([]vbmap.Node, n)
	for i := range nodes {
		nodes[i].Name = fmt.Sprintf("n%04d", i)
	}
	return nodes
}

// measurePlan plans and orders once.
func measurePlan(t testing.TB, vbuckets, nodes, replicas int) planned {
	t.Helper()
	result := planned{vbuckets: vbuckets, nodes: nodes, replicas: replicas}
	p := vbmap.Params{VBuckets: vbuckets, Replicas: replicas}
	generate := func(spent *time.Duration, current vbmap.Map, nodes []vbmap.Node, past ...vbmap.Past) vbmap.Map {
		p.Current, p.Nodes, p.Past = current, nodes, past
		p.Seed++
		var m vbmap.Map
		*spent = processorTime(func() {
			var err error
			m, err = vbmap.Generate(p)
			require.NoError(t, err)
		})
		return m
	}
	all := nodesNamed(nodes + 1)
	first := generate(&result.fresh, nil, all[:nodes])
	joined := generate(&result.joins, first, all)
	generate(&result.leaves, joined, all[1:])
	generate(&result.returns, vbmap.Failover(joined, all[0].Name), all, vbmap.Past{Map: joined}, vbmap.Past{Map: first})

	var other time.Duration
	result.order, result.moves, result.makespan = carryOut(t, vbmap.Diff(first, generate(&other, nil, all[:nodes])))
	return result
}

// moveEnd is the end of a backfill or of a move in the simulator.
type moveEnd struct {
	at, vb   int
	backfill bool
}

type simulated []moveEnd

func (e simulated) Len() int           { return len(e) }
func (e simulated) Less(i, k int) bool { return e[i].at < e[k].at }
func (e simulated) Swap(i, k int)      { e[i], e[k] = e[k], e[i] }
func (e *simulated) Push(x any)        { *e = append(*e, x.(moveEnd)) }
func (e *simulated) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// carryOut goes through all moves in a simulator, in which a backfill takes 80 ticks and the rest of a move 20. It returns
// what the schedule cost, and how long the moves took over what the busiest node needs for its backfills.
func carryOut(t testing.TB, changes []vbmap.Change) (spent time.Duration, count int, makespan float64) {
	t.Helper()
	moves := make([]schedule.Move, len(changes))
	busy := map[string]int{}
	for i, change := range changes {
		moves[i] = schedule.Move{VB: change.VB, Old: change.Old, New: change.New}
		involved := []string{change.Old.Active()}
		for position, node := range change.New {
			if !slices.Contains(involved, node) && (position == 0 || !change.Old.Contains(node)) {
				involved = append(involved, node)
			}
		}
		for _, node := range involved {
			busy[node]++
		}
	}
	const backfill, rest, slots = 80, 20, 4
	least := 0
	for _, n := range busy {
		least = max(least, (n+slots-1)/slots*backfill+rest)
	}
	var events []moveEnd
	s := schedule.New(moves, schedule.Limits{})
	queue, now := &simulated{}, 0
	for started := s.Next(); ; started = s.Next() {
		for _, move := range started {
			heap.Push(queue, moveEnd{at: now + backfill, vb: move.VB, backfill: true})
			heap.Push(queue, moveEnd{at: now + backfill + rest, vb: move.VB})
		}
		count += len(started)
		if queue.Len() == 0 {
			break
		}
		e := heap.Pop(queue).(moveEnd)
		now = e.at
		e.tell(s)
		events = append(events, e)
	}
	require.True(t, s.Done())

	// The same once more, without the simulator.
	spent = processorTime(func() {
		s = schedule.New(moves, schedule.Limits{})
		s.Next()
		for _, e := range events {
			e.tell(s)
			s.Next()
		}
	})
	require.True(t, s.Done())
	return spent, count, float64(now) / float64(max(1, least))
}

// tell has a schedule know what has ended.
func (e moveEnd) tell(s *schedule.Schedule) {
	if e.backfill {
		s.BackfillDone(e.vb)
	} else {
		s.MoveDone(e.vb)
	}
}

// processorTime is what a function costs this process, the collector's part included: it is much the same on a machine
// that does something else as well. Where it is not known it is the time that passes.
func processorTime(f func()) time.Duration {
	runtime.GC()
	began, used := time.Now(), cpuTime()
	f()
	if used == 0 {
		return time.Since(began)
	}
	return cpuTime() - used
}

// BenchmarkPlan prints what planning and ordering cost, in processor time, as they grow. Each figure is the least of the
// rounds: the work is the same, and whatever else the machine does only adds to it. Growth is over the row above it, per vbucket: 1 is
// linear.
func BenchmarkPlan(b *testing.B) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer func() { must(w.Flush()) }()
	fmt.Fprintln(w, "\nnodes\treplicas\tvbuckets\tnew map\tgrowth\tnode joins\tgrowth\tnode leaves\tnode returns\tmoves\torder\tgrowth\tmakespan\t")
	for replicas := 1; replicas <= 2; replicas++ {
		var above planned
		for _, size := range planSizes() {
			b.Run(fmt.Sprintf("vbuckets=%d/nodes=%d/replicas=%d", size[0], size[1], replicas), func(b *testing.B) {
				var best planned
				for b.Loop() {
					best = best.least(measurePlan(b, size[0], size[1], replicas))
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(best.joins.Milliseconds()), "ms/plan")
				b.ReportMetric(float64(best.order.Milliseconds()), "ms/order")
				best.print(w, above)
				above = best
			})
		}
	}
}

// least takes the shorter times of two rounds. The first round has none before it.
func (p planned) least(r planned) planned {
	if p.moves == 0 {
		return r
	}
	r.fresh, r.joins, r.leaves = min(p.fresh, r.fresh), min(p.joins, r.joins), min(p.leaves, r.leaves)
	r.returns, r.order = min(p.returns, r.returns), min(p.order, r.order)
	return r
}

func (p planned) print(w *tabwriter.Writer, above planned) {
	growth := func(now, before time.Duration) string {
		if above.nodes != p.nodes {
			return ""
		}
		return fmt.Sprintf("%.1f", float64(now)/float64(before)*float64(above.vbuckets)/float64(p.vbuckets))
	}
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
	fmt.Fprintf(w, "%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%.2f\t\n", p.nodes, p.replicas, p.vbuckets,
		ms(p.fresh), growth(p.fresh, above.fresh), ms(p.joins), growth(p.joins, above.joins), ms(p.leaves), ms(p.returns),
		p.moves, ms(p.order), growth(p.order, above.order), p.makespan)
}

// What is measured is what it says: every vbucket of a fresh map moves, once.
func TestPlanCostMeasuresWholeRebalances(t *testing.T) {
	p := measurePlan(t, 256, 8, 1)
	assert.InDelta(t, 256, p.moves, 10, "hardly a chain is the same in two fresh maps")
	assert.GreaterOrEqual(t, p.makespan, 1.0)
}
