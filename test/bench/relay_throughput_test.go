package bench

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"
)

// moved is one run of a mover.
type moved struct {
	cpuPerKiB float64 // nanoseconds
	frames    float64 // millions per second
	allocs    float64 // per frame
}

// values are the sizes of documents, with the CPU per byte that is wanted of the relay, over io.Copy's.
var values = []struct {
	size  int
	limit float64
}{
	{64, 1.6},
	{256, 1.6},
	{1 << 10, 1.6},
	{16 << 10, 1.6},
	{256 << 10, 1.3},
	{1 << 20, 1.15},
}

// volume is how many bytes a mover moves in a round, about: enough that the kernel has found the sizes of its buffers early.
const volume = 1 << 30

// move has one mover move blocks of documents.
func move(t testing.TB, m mover, value, blocks int, check bool) moved {
	t.Helper()
	var producerAddr string
	var sent, got uint32
	var bytes int64
	var took time.Duration
	producer := cast(t, "producer", value, blocks, check)
	producer.hear(&producerAddr)
	addr, usage := m.start(t, producerAddr)
	consumer := cast(t, "consumer", addr, check)
	consumer.hear(&bytes, &took, &got)
	used := usage()
	producer.hear(&sent)
	producer.done()
	consumer.done()
	b, frames := block(value)
	require.EqualValues(t, blocks*len(b), bytes)
	require.Equal(t, sent, got)
	n := float64(blocks * frames)
	return moved{
		cpuPerKiB: float64(used.cpu) / float64(bytes) * 1024,
		frames:    n / float64(took.Microseconds()+1),
		allocs:    float64(used.mallocs) / n,
	}
}

// Every mover delivers every byte.
func TestEveryMoverDoesTheWork(t *testing.T) {
	for _, m := range ourMovers {
		for _, value := range []int{64, 256 << 10} {
			t.Run(fmt.Sprintf("%s/%d", m.name, value), func(t *testing.T) { move(t, m, value, 3, true) })
		}
	}
}

// BenchmarkRelay measures the movers side by side: see the package documentation.
func BenchmarkRelay(b *testing.B) {
	contenders := movers()
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "value\tmover\tCPU ns/KiB\tover io.Copy\tby rounds\tM frames/s\tover io.Copy\tallocs/frame\ttarget")
	for _, v := range values {
		b.Run(fmt.Sprint(v.size), func(b *testing.B) {
			rounds := make([][]moved, len(contenders))
			blk, _ := block(v.size)
			for b.Loop() {
				begin := len(rounds[ourRelay])
				for i := range contenders {
					c := (begin + i) % len(contenders)
					rounds[c] = append(rounds[c], move(b, contenders[c], v.size, volume/len(blk), false))
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(over(cpuOf(rounds[ourRelay]), cpuOf(rounds[ioCopy])), "cpu/io.Copy")
			for c, m := range contenders {
				fmt.Fprintln(w, throughputRow(v.size, v.limit, m.name, rounds[c], rounds[ioCopy], c == ourRelay))
			}
		})
	}
	must(w.Flush())
	fmt.Fprintf(os.Stdout, "\n%s\n", text.String())
}

func cpuOf(rounds []moved) float64 {
	return medianOf(rounds, func(m moved) float64 { return m.cpuPerKiB })
}

func framesOf(rounds []moved) float64 {
	return medianOf(rounds, func(m moved) float64 { return m.frames })
}

func medianOf(rounds []moved, figure func(moved) float64) float64 {
	var all []float64
	for _, m := range rounds {
		all = append(all, figure(m))
	}
	return median(all)
}

func throughputRow(value int, limit float64, name string, rounds, base []moved, ours bool) string {
	var single []float64
	for i, m := range rounds {
		single = append(single, over(m.cpuPerKiB, base[i].cpuPerKiB))
	}
	slices.Sort(single)
	ratio := over(cpuOf(rounds), cpuOf(base))
	verdict := ""
	if ours {
		verdict = fmt.Sprintf("<= %g  met", limit)
		if ratio > limit {
			verdict = fmt.Sprintf("<= %g  MISSED", limit)
		}
	}
	return fmt.Sprintf("%d\t%s\t%.1f\t%.2f\t%.2f (%.2f-%.2f)\t%.3f\t%.2f\t%.5f\t%s", value, name, cpuOf(rounds), ratio,
		median(single), single[0], single[len(single)-1], framesOf(rounds), over(framesOf(rounds), framesOf(base)),
		medianOf(rounds, func(m moved) float64 { return m.allocs }), verdict)
}
