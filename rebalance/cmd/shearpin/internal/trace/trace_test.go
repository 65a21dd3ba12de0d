package trace_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// written lets a test look at what has reached the destination while the trace goes on.
type written struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	fail   error
	closed bool
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return 0, w.fail
	}
	return w.buf.Write(p)
}

func (w *written) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	return nil
}

func (w *written) lines(t *testing.T) []map[string]any {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []map[string]any
	for line := range strings.Lines(w.buf.String()) {
		var m map[string]any
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		require.NoError(t, d.Decode(&m), "line %q", line)
		out = append(out, m)
	}
	return out
}

func TestLineHoldsStampPartEventAndAttributes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w written
		tr := trace.New(&w, time.Now())
		log := slog.New(tr.Handler()).With("part", "node")
		actortest.Elapse(1500 * time.Nanosecond)
		log.Info("fault_injected", "vb", 17, "add_opaque", mcbp.Opaque{0xff, 0, 0x11, 0xff}, "code", mcbp.EndStateChanged,
			"err", errors.New("broken"), "link", slog.GroupValue(slog.String("producer", "n0")))
		require.NoError(t, tr.Close())
		assert.True(t, w.closed)

		assert.Equal(t, []map[string]any{{
			"t_ns":       json.Number("1500"),
			"level":      "INFO",
			"event":      "fault_injected",
			"part":       "node",
			"vb":         json.Number("17"),
			"add_opaque": "ff0011ff",
			"code":       "state changed",
			"err":        "broken",
			"link":       map[string]any{"producer": "n0"},
		}}, w.lines(t))
	})
}

func TestStampStartsTheLine(t *testing.T) {
	var w written
	tr := trace.New(&w, time.Now())
	slog.New(tr.Handler()).Debug("step")
	require.NoError(t, tr.Close())
	assert.Regexp(t, `^\{"t_ns":\d+,"level":"DEBUG","event":"step"\}\n$`, w.buf.String())
}

func TestAttributesThatLookLikeTheEncodersOwnKeysStay(t *testing.T) {
	var w written
	tr := trace.New(&w, time.Now())
	slog.New(tr.Handler()).WithGroup("g").Info("event", "time", "noon", "msg", "hello")
	require.NoError(t, tr.Close())
	assert.Equal(t, map[string]any{"time": "noon", "msg": "hello"}, w.lines(t)[0]["g"])
}

func TestBufferedLinesReachTheFileWithoutClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w written
		tr := trace.New(&w, time.Now())
		slog.New(tr.Handler()).Info("first")
		assert.Empty(t, w.lines(t), "a line costs no system call")
		actortest.Elapse(time.Second)
		assert.Len(t, w.lines(t), 1)
		require.NoError(t, tr.Close())
	})
}

func TestManyGoroutinesWriteWholeLines(t *testing.T) {
	var w written
	tr := trace.New(&w, time.Now())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			log := slog.New(tr.Handler())
			for i := range 500 {
				log.Info("tick", "i", i, "pad", strings.Repeat("x", i%200))
			}
		})
	}
	wg.Wait()
	require.NoError(t, tr.Close())
	assert.Len(t, w.lines(t), 4_000)
}

func TestFirstWriteErrorIsKeptAndDoesNotDisturb(t *testing.T) {
	w := written{fail: errors.New("disk full")}
	tr := trace.New(&w, time.Now())
	log := slog.New(tr.Handler())
	for range 10_000 {
		log.Info("filler", "pad", strings.Repeat("x", 100))
	}
	assert.ErrorIs(t, tr.Close(), w.fail)
	log.Info("after the end")
	assert.ErrorIs(t, tr.Close(), w.fail, "closing twice is harmless")
	assert.True(t, w.closed)
}
