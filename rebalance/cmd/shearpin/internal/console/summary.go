package console

import (
	"fmt"
	"strings"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/demo"
)

// Summary writes what a run came to: each rebalance with the causes of its failure, one below the other, what the checks
// found, and the verdict last, where the eye is.
func (c *Console) Summary(r *demo.Result) {
	var b strings.Builder
	b.WriteString("\n")
	for i, run := range r.Rebalances {
		fmt.Fprintf(&b, "Rebalance %d   %s: %d of %d moves in %.2f s\n", i+1, run.Outcome, run.Moves, run.MovesPlanned, run.Seconds)
		for _, cause := range Because(run.Cause) {
			fmt.Fprintf(&b, "              %s\n", cause)
		}
	}
	if f := r.Fault; f != nil {
		fmt.Fprintf(&b, "Fault         %s on vb %d, %s→%s", f.Kind, f.VB, f.Producer, f.Consumer)
		if f.AbortMS != nil {
			fmt.Fprintf(&b, "; the rebalance was reported failed %.2f ms later", float64(*f.AbortMS))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "Writes        %d acknowledged, %d lost\n", r.AckedWrites, r.LostWrites)
	fmt.Fprintf(&b, "Replicas      %d differ from their active\n", r.MismatchedReplicas)
	fmt.Fprintf(&b, "Supervision   %s of consumer connections, %s\n",
		count(r.ConnectionRestarts, "restart"), count(r.JanitorRuns, "janitor run"))
	if r.Error != nil {
		fmt.Fprintf(&b, "Error         %s\n", *r.Error)
	}
	for _, failure := range r.Failures {
		fmt.Fprintf(&b, "Not as it must be: %s\n", failure)
	}
	fmt.Fprintf(&b, "Result        %s, in %.1f s\n", r.Status, r.Seconds)
	c.aside(func() { fmt.Fprint(c.out, b.String()) })
}

// Because has a line for each cause, outermost first, each below the one that it explains.
func Because(causes []string) []string {
	lines := make([]string, len(causes))
	for depth, cause := range causes {
		if depth > 0 {
			cause = strings.Repeat("  ", depth-1) + "└ because " + cause
		}
		lines[depth] = cause
	}
	return lines
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
