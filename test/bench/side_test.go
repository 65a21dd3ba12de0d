package bench

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// BenchmarkSide measures the worlds side by side: see the package documentation.
func BenchmarkSide(b *testing.B) {
	var rows []row
	for _, work := range workloads {
		b.Run(work.name, func(b *testing.B) {
			measured := make([]row, len(work.figures))
			for i, f := range work.figures {
				measured[i].figure = f
			}
			for b.Loop() {
				for range work.rounds {
					round(b, work, measured)
				}
			}
			b.ReportMetric(0, "ns/op") // of a round, which says nothing
			for _, r := range measured {
				b.ReportMetric(r.ratio(raw), key(r.name)+"/raw")
			}
			rows = append(rows, measured...)
		})
	}
	// A benchmark with parts has no log of its own.
	fmt.Fprintf(os.Stdout, "\n%s\n", table(rows))
}

// round lets each world do the work once. Who begins changes.
func round(b *testing.B, work workload, measured []row) {
	b.Helper()
	begin := len(measured[0].rounds[ours])
	for i := range contenders {
		c := (begin + i) % len(contenders)
		w := contenders[c].open()
		runtime.GC()
		for j, v := range work.run(b, w, work.n) {
			measured[j].rounds[c] = append(measured[j].rounds[c], v)
		}
		w.close()
	}
}

// BenchmarkAlone measures one world by itself, for profiles.
func BenchmarkAlone(b *testing.B) {
	for _, c := range contenders {
		for _, work := range workloads {
			b.Run(c.name+"/"+work.name, func(b *testing.B) {
				figures := make([][]float64, len(work.figures))
				for b.Loop() {
					w := c.open()
					for i, v := range work.run(b, w, work.n) {
						figures[i] = append(figures[i], v)
					}
					w.close()
				}
				for i, f := range work.figures {
					b.ReportMetric(median(figures[i]), key(f.name)+"-"+f.unit)
				}
			})
		}
	}
}

// key is a figure's name as the unit of a metric.
func key(name string) string { return strings.NewReplacer(",", "", " + ", "+", " ", "_").Replace(name) }

// row is a figure of all worlds in all rounds.
type row struct {
	figure
	rounds [len(contenders)][]float64
}

// ratio is that of our median to another world's.
func (r row) ratio(other int) float64 { return over(median(r.rounds[ours]), median(r.rounds[other])) }

// byRounds are the ratios of the single rounds, in order of size.
func (r row) byRounds(other int) []float64 {
	var ratios []float64
	for i, v := range r.rounds[ours] {
		ratios = append(ratios, over(v, r.rounds[other][i]))
	}
	slices.Sort(ratios)
	return ratios
}

// over divides; nothing to compare with gives zero.
func over(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// verdict says what was wanted and whether it was reached.
func (r row) verdict() string {
	var wanted string
	reached := true
	switch t := r.target; t.what {
	case nothing:
		return ""
	case ratioAtLeast:
		wanted, reached = fmt.Sprintf("ours/raw >= %g", t.limit), r.ratio(raw) >= t.limit
	case ratioAtMost:
		wanted, reached = fmt.Sprintf("ours/raw <= %g", t.limit), r.ratio(raw) <= t.limit
	case atMost:
		wanted, reached = fmt.Sprintf("ours <= %g %s", t.limit, r.unit), median(r.rounds[ours]) <= t.limit
	}
	if reached {
		return wanted + "  met"
	}
	return wanted + "  MISSED"
}

// table prints the rows.
func table(rows []row) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tunit\tours\traw\tplain\tours/raw\tby rounds\tours/plain\ttarget")
	for _, r := range rows {
		single := r.byRounds(raw)
		fmt.Fprintf(w, "%s\t%s\t%.3f\t%.3f\t%.3f\t%.2f\t%.2f (%.2f-%.2f)\t%.2f\t%s\n", r.name, r.unit,
			median(r.rounds[ours]), median(r.rounds[raw]), median(r.rounds[plain]), r.ratio(raw),
			median(single), single[0], single[len(single)-1], r.ratio(plain), r.verdict())
	}
	must(w.Flush())
	return text.String()
}
