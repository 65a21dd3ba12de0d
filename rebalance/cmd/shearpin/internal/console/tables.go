package console

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// table writes rows whose cells are separated by tabs, aligned.
func (c *Console) table(write func(w io.Writer)) {
	c.aside(func() {
		w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
		write(w)
		_ = w.Flush()
	})
}

// Status shows what a manager is doing and how its buckets are.
func (c *Console) Status(s rebalance.Status) {
	c.table(func(w io.Writer) {
		fmt.Fprintf(w, "State\t%s\n", s.State)
		if p := s.Progress; p != nil {
			fmt.Fprintf(w, "Rebalance\t%s: %.0f %%, %s\n", s.Run, p.Fraction*100, describe(*p))
			for _, m := range p.InFlight {
				fmt.Fprintf(w, "  moves\t%s vb %d %s→%s: %s, waits for %s\n", m.Bucket, m.VB, nobody(m.From), m.To, m.Step, m.WaitingFor)
			}
		}
		if r := s.LastReport; r != nil {
			fmt.Fprintf(w, "Last rebalance\t%s %s at %s: %d of %d moves\n", r.ID, r.Outcome, stamp(r.Ended), r.Moves, r.MovesPlanned)
			for _, cause := range Because(r.Cause) {
				fmt.Fprintf(w, "\t%s\n", cause)
			}
		}
	})
	c.Members(s.Members)
	c.Buckets(s.Buckets)
}

// Members shows the nodes that a cluster knows.
func (c *Console) Members(members []rebalance.Member) {
	c.table(func(w io.Writer) {
		fmt.Fprint(w, "NODE\tADDRESS\tGROUP\tMEMBERSHIP\n")
		for _, m := range members {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", m.Name, m.Addr, nobody(m.Group), m.Membership)
		}
	})
}

// Buckets shows buckets, and what is not as it should be with them.
func (c *Console) Buckets(buckets []rebalance.BucketStatus) {
	c.table(func(w io.Writer) {
		fmt.Fprint(w, "BUCKET\tVBUCKETS\tREPLICAS\tWITHOUT ACTIVE\tTOO FEW REPLICAS\tTO MOVE\tACTIVE+REPLICA BY NODE\n")
		for _, b := range buckets {
			var copies []string
			for _, node := range slices.Sorted(maps.Keys(b.Map.Nodes)) {
				copies = append(copies, fmt.Sprintf("%s %d+%d", node, b.Map.Nodes[node].Active, b.Map.Nodes[node].Replica))
			}
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%s\n", b.Name, b.VBuckets, b.Replicas, b.Map.Lost, b.Map.Short, b.Map.Moving, strings.Join(copies, ", "))
		}
	})
	for _, b := range buckets {
		c.problems(b)
	}
}

// shownHeld bounds how many vbuckets are listed that the janitor left alone.
const shownHeld = 10

func (c *Console) problems(b rebalance.BucketStatus) {
	for _, problem := range b.Problems {
		c.Step(fmt.Sprintf("%s: %s", b.Name, problem))
	}
	for i, held := range b.Held {
		if i == shownHeld {
			c.Step(fmt.Sprintf("%s: … %d vbuckets in all are left alone", b.Name, len(b.Held)))
			break
		}
		c.Step(fmt.Sprintf("%s: vb %d is left alone (%s): %s", b.Name, held.VB, held.Kind, held.Reason))
	}
	if len(b.Kept) > 0 {
		c.Step(fmt.Sprintf("%s: %d vbuckets have copies with data that their active lacks; they are kept", b.Name, len(b.Kept)))
	}
}

// Map shows the chain of each vbucket.
func (c *Console) Map(m vbmap.Map) {
	c.table(func(w io.Writer) {
		for vb, chain := range m {
			cells := make([]string, len(chain))
			for i, node := range chain {
				cells[i] = nobody(node)
			}
			fmt.Fprintf(w, "%d\t%s\n", vb, strings.Join(cells, "\t"))
		}
	})
}

// Plan shows what a rebalance would do.
func (c *Console) Plan(p *rebalance.Plan) {
	for _, b := range p.Buckets {
		items := "an unknown number of"
		if b.Items != nil {
			items = fmt.Sprint(*b.Items)
		}
		c.Step(fmt.Sprintf("%s: %d of %d vbuckets move; the copies that are built have %s documents", b.Name, len(b.Moves), len(b.Target), items))
		c.table(func(w io.Writer) {
			fmt.Fprint(w, "NODE\tACTIVE\tREPLICA\tBUILT\tDROPPED\n")
			for _, node := range slices.Sorted(maps.Keys(b.ByNode)) {
				n := b.ByNode[node]
				fmt.Fprintf(w, "%s\t%d → %d\t%d → %d\t%d\t%d\n", node, n.ActivesBefore, n.ActivesAfter, n.ReplicasBefore, n.ReplicasAfter, n.Built, n.Dropped)
			}
		})
	}
}

// Janitor shows what a run of the janitor came to.
func (c *Console) Janitor(j control.Janitor) {
	for _, b := range j.Buckets {
		c.Step(fmt.Sprintf("%s: %d chains, %d states, %d streams changed, %d copies deleted", b.Name, b.Chains, b.States, b.Streams, b.Deletions))
		for _, problem := range j.Problems[b.Name] {
			c.Step("  " + problem)
		}
	}
}

// Failover shows what a failover came to.
func (c *Console) Failover(f control.Failover) {
	for _, b := range f.Buckets {
		c.Step(fmt.Sprintf("%s: %d vbuckets have another active, %d a replica less, %d are lost", b.Name, len(b.Promoted), b.Shortened, len(b.Lost)))
		for _, problem := range f.Problems[b.Name] {
			c.Step("  " + problem)
		}
	}
	for _, cause := range Because(f.Cause) {
		c.Step(cause)
	}
}

// Event shows one event on a line.
func (c *Console) Event(e rebalance.LoggedEvent) {
	text, err := json.Marshal(e)
	var fields map[string]any
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err != nil {
		c.Step(fmt.Sprintf("event %d: %v", e.Seq, err))
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%6d %s %s", e.Seq, e.At.Format("15:04:05.000000"), e.Type)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if name != "seq" && name != "ts" && name != "type" {
			fmt.Fprintf(&b, " %s=%v", name, fields[name])
		}
	}
	c.Step(b.String())
}

// Throttle shows how rebalances are slowed down.
func (c *Console) Throttle(t rebalance.Throttle) {
	limit := func(n int64, none string) string {
		if n == 0 {
			return none
		}
		return fmt.Sprint(n)
	}
	c.table(func(w io.Writer) {
		fmt.Fprintf(w, "Moves per node\t%s\n", limit(int64(t.MovesPerNode), "as the limits say"))
		fmt.Fprintf(w, "Bytes per second\t%s\n", limit(t.BytesPerSecond, "no limit"))
	})
}

// Reports shows a line for each rebalance, the newest first.
func (c *Console) Reports(reports []rebalance.Report) {
	c.table(func(w io.Writer) {
		fmt.Fprint(w, "REBALANCE\tENDED\tOUTCOME\tMOVES\tTOOK\tWHY\n")
		for _, r := range reports {
			why := ""
			if len(r.Cause) > 0 {
				why = r.Cause[len(r.Cause)-1]
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d of %d\t%.2f s\t%s\n", r.ID, stamp(r.Ended), r.Outcome, r.Moves, r.MovesPlanned, float64(r.Took), why)
		}
	})
}

// WholeReport shows one rebalance, bucket by bucket.
func (c *Console) WholeReport(r rebalance.Report) {
	c.Report(&r)
	for _, b := range r.Buckets {
		c.Step(fmt.Sprintf("%s: %d of %d moves in %.2f s", b.Name, b.Moves, b.MovesPlanned, float64(b.Took)))
		c.table(func(w io.Writer) {
			fmt.Fprint(w, "STEP\tCOUNT\tAVERAGE\tLONGEST\n")
			for _, step := range slices.Sorted(maps.Keys(b.Steps)) {
				s := b.Steps[step]
				fmt.Fprintf(w, "%s\t%d\t%.3f s\t%.3f s\n", step, s.Count, float64(s.Average), float64(s.Longest))
			}
		})
		for _, leftover := range b.Leftovers {
			c.Step("  left: " + leftover)
		}
	}
}

// Tree shows processes, each below its supervisor.
func (c *Console) Tree(root control.Process) {
	c.table(func(w io.Writer) {
		fmt.Fprint(w, "PROCESS\tSTATE\tSINCE\tRESTARTS\tMAILBOX\tLAST EXIT\n")
		process(w, root, "")
	})
}

func process(w io.Writer, p control.Process, indent string) {
	name := p.ID
	if name == "" {
		name = p.Kind + " " + p.PID
	}
	last := p.LastExit
	if p.Error != "" {
		last = p.Error
	}
	fmt.Fprintf(w, "%s%s\t%s\t%s\t%d\t%d\t%s\n", indent, name, p.State, stamp(p.Since), p.Restarts, p.Mailbox, last)
	for _, child := range p.Children {
		process(w, child, indent+"  ")
	}
}

// nobody stands for a name that there is none of.
func nobody(name string) string {
	if name == "" {
		return "-"
	}
	return name
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.DateTime)
}
