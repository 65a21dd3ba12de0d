// Package console shows a run to people: a progress bar on a terminal, plain lines elsewhere, and a summary that an
// engineer understands at night.
package console

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/demo"
)

// Console writes to one destination. It is a [demo.Reporter].
type Console struct {
	mu  sync.Mutex
	out io.Writer
	// terminal says that out can redraw a line.
	terminal bool
	bar      *progressbar.ProgressBar
}

// New writes to out; terminal says whether that is one.
func New(out io.Writer, terminal bool) *Console { return &Console{out: out, terminal: terminal} }

// Step writes one line.
func (c *Console) Step(text string) {
	c.aside(func() { fmt.Fprintln(c.out, text) })
}

// Beside wraps another destination that may be the same screen, such as the one of the log: what is written there does
// not tear the progress bar.
func (c *Console) Beside(w io.Writer) io.Writer { return &beside{c, w} }

type beside struct {
	console *Console
	w       io.Writer
}

func (b *beside) Write(p []byte) (n int, err error) {
	b.console.aside(func() { n, err = b.w.Write(p) })
	return n, err
}

// aside takes the bar away while write runs.
func (c *Console) aside(write func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bar == nil {
		write()
		return
	}
	// A screen that cannot be drawn on is no reason to stop what is shown on it; the same holds for the calls below.
	_ = c.bar.Clear()
	write()
	_ = c.bar.RenderBlank()
}

// Begin starts a task.
func (c *Console) Begin(text string, total int) demo.Task {
	if !c.terminal || total <= 0 {
		c.Step(fmt.Sprintf("%s: 0 of %d", text, total))
		return &lines{console: c, text: text, total: total, next: linesEvery}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bar = progressbar.NewOptions(total,
		progressbar.OptionSetWriter(c.out),
		progressbar.OptionSetDescription(fmt.Sprintf("%-24s", text)),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(50*time.Millisecond),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetRenderBlankState(true),
	)
	return &barTask{console: c, bar: c.bar, text: text, total: total, began: time.Now()}
}

// barTask is a task on a terminal.
type barTask struct {
	console *Console
	bar     *progressbar.ProgressBar
	text    string
	total   int
	began   time.Time
	done    int
}

func (t *barTask) Set(done int) {
	t.console.mu.Lock()
	defer t.console.mu.Unlock()
	t.done = min(done, t.total)
	// The bar would vanish on its last unit, before End says so.
	if t.done < t.total {
		_ = t.bar.Set(t.done)
	}
}

func (t *barTask) End() {
	t.console.mu.Lock()
	defer t.console.mu.Unlock()
	_ = t.bar.Clear()
	t.console.bar = nil
	fmt.Fprintf(t.console.out, "%s: %d of %d in %.1f s\n", t.text, t.done, t.total, time.Since(t.began).Seconds())
}

// linesEvery is how much of a task, in percent, is worth a new line.
const linesEvery = 20

// lines is a task where nothing can be redrawn.
type lines struct {
	console     *Console
	text        string
	total, done int
	// next is the percentage that is worth the next line.
	next int
}

func (t *lines) Set(done int) {
	t.done = min(done, t.total)
	percent := 100
	if t.total > 0 {
		percent = t.done * 100 / t.total
	}
	if percent >= t.next && percent < 100 {
		t.console.Step(fmt.Sprintf("%s: %d %% (%d of %d)", t.text, percent, t.done, t.total))
		t.next = percent - percent%linesEvery + linesEvery
	}
}

func (t *lines) End() {
	t.console.Step(fmt.Sprintf("%s: %d of %d", t.text, t.done, t.total))
}
