package console

import (
	"fmt"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/shearpin/shearpin/rebalance"
)

// Moves shows how far a rebalance is: a bar on a terminal, elsewhere a line when something else begins and now and then.
type Moves struct {
	console *Console
	bar     *progressbar.ProgressBar
	// shown is what the last line was about, next the percentage that is worth the next line.
	shown string
	next  int
}

// perMille is how finely a bar is drawn.
const perMille = 1000

// Moves starts to show one. It ends with [Moves.End].
func (c *Console) Moves() *Moves {
	m := &Moves{console: c, next: linesEvery}
	if !c.terminal {
		return m
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m.bar = progressbar.NewOptions(perMille,
		progressbar.OptionSetWriter(c.out),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(50*time.Millisecond),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetRenderBlankState(true),
	)
	c.bar = m.bar
	return m
}

// Show says how far it is.
func (m *Moves) Show(p rebalance.Progress) {
	if m.bar != nil {
		m.console.mu.Lock()
		defer m.console.mu.Unlock()
		m.bar.Describe(describe(p))
		// The bar would vanish on its last unit, before End says so.
		_ = m.bar.Set(min(int(p.Fraction*perMille), perMille-1))
		return
	}
	about := fmt.Sprint(p.State, p.Stage, p.Bucket, p.Stuck != nil)
	percent := int(p.Fraction * 100)
	if about == m.shown && percent < m.next {
		return
	}
	m.shown, m.next = about, percent-percent%linesEvery+linesEvery
	m.console.Step(fmt.Sprintf("%3d %%  %s", percent, describe(p)))
}

// End takes the bar away.
func (m *Moves) End() {
	if m.bar == nil {
		return
	}
	m.console.mu.Lock()
	defer m.console.mu.Unlock()
	_ = m.bar.Clear()
	m.console.bar = nil
}

// describe says how far a rebalance is in a few words.
func describe(p rebalance.Progress) string {
	var b strings.Builder
	if p.Bucket == "" {
		b.WriteString("starting")
	} else {
		b.WriteString(p.Bucket)
		if p.Buckets > 1 {
			fmt.Fprintf(&b, " (%d of %d)", p.BucketNumber, p.Buckets)
		}
	}
	if p.Stage != "" {
		fmt.Fprintf(&b, ", %s", p.Stage)
	}
	if p.MovesPlanned > 0 {
		fmt.Fprintf(&b, ", %d of %d moves", p.MovesDone, p.MovesPlanned)
	}
	if p.Items.Known != rebalance.Uncounted && p.Items.Total > 0 {
		fmt.Fprintf(&b, ", %d of %d documents", p.Items.Done, p.Items.Total)
	}
	if p.RemainingKnown && p.Remaining >= time.Second {
		fmt.Fprintf(&b, ", about %v left", p.Remaining.Round(time.Second))
	}
	if p.State != "" && p.State != rebalance.Rebalancing {
		fmt.Fprintf(&b, ", %s", p.State)
	}
	if s := p.Stuck; s != nil {
		fmt.Fprintf(&b, ", nothing has advanced since %s", s.Since.Format(time.TimeOnly))
		if len(s.Moves) > 0 {
			fmt.Fprintf(&b, " (vb %d at %s waits for %s)", s.Moves[0].VB, s.Moves[0].Step, s.Moves[0].WaitingFor)
		}
	}
	return b.String()
}

// Report writes what a rebalance came to, with the causes of its failure one below the other.
func (c *Console) Report(r *rebalance.Report) {
	var b strings.Builder
	fmt.Fprintf(&b, "Rebalance %s %s: %d of %d moves in %.2f s\n", r.ID, r.Outcome, r.Moves, r.MovesPlanned, float64(r.Took))
	for _, cause := range Because(r.Cause) {
		fmt.Fprintf(&b, "  %s\n", cause)
	}
	c.aside(func() { fmt.Fprint(c.out, b.String()) })
}
