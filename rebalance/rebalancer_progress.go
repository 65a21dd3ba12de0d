package rebalance

import (
	"context"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// How a rebalance keeps its account. The moves tell how far they are, and never wait for anybody who listens; a node is
// asked beside the mailbox. Nothing here has a say in what the moves do: if no news comes, the account is old and the
// rebalance goes on.

// The news of moves.
type (
	// moveBegan and moveOver are the mover's.
	moveBegan struct {
		vb uint16
		at time.Time
	}
	moveOver struct {
		vb  uint16
		err error
		at  time.Time
	}
	// moveStepped is a move's own when it comes to its next step, moveWaits every so often while it is at one.
	moveStepped struct {
		vb      uint16
		step    Step
		waiting string
		at      time.Time
	}
	moveWaits struct {
		vb      uint16
		waiting string
		left    []copyNeed
	}
)

// The news of time and of nodes.
type (
	progressTick struct{}
	showDue      struct{}
	itemsCounted struct {
		bucket string
		needs  []copyNeed
	}
	seqnosRead struct {
		bucket string
		found  map[uint16]seqnoAnswer
	}
)

const (
	// tickPause lies between two looks at the time; moves tell as often what they wait for.
	tickPause = time.Second
	// showPause is the least time between two views of the moves under way.
	showPause = 100 * time.Millisecond
	// stuckChecks is how often the nodes are asked within the time that makes a rebalance stuck.
	stuckChecks = 3
)

// bookkeeping is the rebalancer's part in it.
type bookkeeping struct {
	machine *progressMachine
	// shown is when the moves were shown last; due says that they will be.
	shown time.Time
	due   bool
	// asked is when the nodes were last asked for seqnos; asking says that they have not answered.
	asked  time.Time
	asking bool
}

func newBookkeeping(stuckAfter time.Duration, now time.Time) bookkeeping {
	return bookkeeping{machine: newProgressMachine(stuckAfter, now), asked: now}
}

// listen takes news for the account. It reports whether msg was such.
func (r *rebalancer) listen(c *actors.Context, msg any) bool {
	now := c.Clock().Now()
	machine := r.books.machine
	switch m := msg.(type) {
	case moveBegan:
		machine.began(m.vb, m.at)
	case moveStepped:
		machine.stepped(m.vb, m.step, m.waiting, m.at)
	case moveWaits:
		machine.told(m.vb, m.waiting, m.left, now)
	case moveOver:
		machine.ended(m.vb, m.err, m.at)
	case itemsCounted:
		if m.bucket == machine.bucket {
			machine.counted(m.needs)
		}
	case seqnosRead:
		r.books.asking = false
		if m.bucket == machine.bucket {
			machine.seqnos(m.found, now)
		}
	case progressTick:
		r.tick(c, now)
		return true
	case showDue:
		r.books.due = false
		r.show(c)
		return true
	default:
		return false
	}
	r.showSoon(c, now)
	return true
}

// showSoon shows the moves under way, now or when it is time.
func (r *rebalancer) showSoon(c *actors.Context, now time.Time) {
	if r.books.due {
		return
	}
	if wait := showPause - now.Sub(r.books.shown); wait > 0 {
		r.books.due = true
		c.SendAfter(wait, showDue{})
		return
	}
	r.show(c)
}

// show puts up all that is known.
func (r *rebalancer) show(c *actors.Context) {
	now := c.Clock().Now()
	r.books.shown = now
	r.board.show(r.books.machine.view(now))
}

// tick looks at the time: whether the rebalance is stuck, and whether the nodes should be asked.
func (r *rebalancer) tick(c *actors.Context, now time.Time) {
	c.SendAfter(tickPause, progressTick{})
	r.books.machine.carry(r.env.carriers.total() - r.carriedBefore)
	if r.books.machine.tick(now) {
		r.tellStuck(now)
	}
	r.show(c)
	if r.mover != nil && !r.books.asking && now.Sub(r.books.asked) >= r.env.config.Limits.Stuck/stuckChecks {
		r.books.asking, r.books.asked = true, now
		bucket, wanted := r.books.machine.bucket, r.books.machine.building()
		c.Go(func(ctx context.Context) any { return seqnosRead{bucket, r.env.furthestBehind(ctx, bucket, wanted)} })
	}
}

// tellStuck tells that the rebalance has become stuck, or has ceased to be.
func (r *rebalancer) tellStuck(now time.Time) {
	view := r.books.machine.view(now)
	if view.Stuck == nil {
		r.log.Info("rebalance_unstuck", "bucket", view.Bucket)
		r.env.events.Publish(RebalanceUnstuck{ID: r.report.ID, Bucket: view.Bucket, At: now})
		return
	}
	r.log.Warn("rebalance_stuck", "bucket", view.Bucket, "since", view.Stuck.Since, "waiting", view.Stuck.String())
	r.env.events.Publish(RebalanceStuck{ID: r.report.ID, Stuck: *view.Stuck, At: now})
}

// count asks the servers how many documents the new copies need. Nobody waits for it.
func (r *rebalancer) count(c *actors.Context, work *bucketWork) {
	plans := work.plans // the work goes on meanwhile
	c.Go(func(ctx context.Context) any {
		doc, err := r.env.buckets.Get(ctx, work.name)
		if err != nil {
			return itemsCounted{bucket: work.name}
		}
		// Servers that do not answer leave their copies uncounted.
		answers, _ := r.env.queryAgents(ctx, work.name, doc.Servers)
		return itemsCounted{work.name, copyNeeds(plans, answers)}
	})
}

// copyNeeds is how many documents each copy lacks that is to be built, where both ends told. A copy that a node has already
// is taken for a part of the active.
func copyNeeds(plans []movePlan, answers map[string]queryAnswer) []copyNeed {
	var needs []copyNeed
	for _, plan := range plans {
		from, told := answers[plan.From]
		active, has := from.Copies[plan.VB]
		if !told || !has {
			continue
		}
		for _, node := range plan.Build {
			to, told := answers[node]
			if !told {
				continue
			}
			items := to.Copies[plan.VB].Items
			needs = append(needs, copyNeed{VB: plan.VB, Node: node, Items: active.Items - min(items, active.Items)})
		}
	}
	return needs
}

// furthestBehind asks every node for the seqnos of the copies that it is being given, and gives for each vbucket those of
// the copy that has least. Vbuckets of a node that does not answer are left out: silence is no advance.
func (e *environment) furthestBehind(ctx context.Context, bucket string, wanted map[string][]uint16) map[uint16]seqnoAnswer {
	told, _ := onNodes(sortedKeys(wanted), "seqnos", func(node string) (map[uint16]seqnoAnswer, error) {
		return within(ctx, e.config.Limits.Query, func(ctx context.Context) (map[uint16]seqnoAnswer, error) {
			found := map[uint16]seqnoAnswer{}
			for _, vb := range wanted[node] {
				value, err := e.ask(ctx, e.config.Limits.Query, bucket, node, readSeqno{VB: vb})
				if ctx.Err() != nil {
					return nil, err
				}
				answer, _ := value.(seqnoAnswer) // a copy that is not there yet has nothing
				found[vb] = answer
			}
			return found, nil
		})
	})
	least := map[uint16]seqnoAnswer{}
	silent := map[uint16]bool{}
	for node, vbs := range wanted {
		for _, vb := range vbs {
			answer, answered := told[node][vb]
			if !answered {
				silent[vb] = true
				continue
			}
			if known, ok := least[vb]; ok {
				answer = seqnoAnswer{High: min(answer.High, known.High), Persisted: min(answer.Persisted, known.Persisted)}
			}
			least[vb] = answer
		}
	}
	for vb := range silent {
		delete(least, vb)
	}
	return least
}
