package supervisor

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/actors"
)

// world is everything outside of the machine, reduced to what it can do: processes that run or are dead, news that are on
// their way, and callers that wait.
type world struct {
	t        *rapid.T
	m        *machine
	now      time.Time
	spec     Spec
	running  map[*actors.PID]string // id of the child
	order    []*actors.PID          // living processes in the order of their start
	news     []event                // of deaths, in the order in which they will be heard
	pids     []*actors.PID          // all there have been
	stopping map[*actors.PID]bool
	alarm    bool // is set
	retries  []event
	waiting  map[int]bool
	calls    int
	exited   bool
	restarts []time.Time
}

// TestRandomStories lets anything happen in any order, and checks what must hold at every step:
// one process per child, one stop at a time, each caller answered once, no start and no restart after the decision to
// end, no more restarts than allowed, and the end only when nobody is left.
func TestRandomStories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.feed(event{kind: evBoot})
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			w.step()
			if w.exited {
				return
			}
		}
		w.settle()
		w.checkSettled()
		w.feed(event{kind: evStop, err: actors.Shutdown})
		w.settle()
		require.True(t, w.exited, "it ends when it is told to")
	})
}

func newWorld(t *rapid.T) *world {
	spec := Spec{
		Name:      "sup",
		Strategy:  rapid.SampledFrom([]Strategy{OneForOne, OneForAll, RestForOne, SimpleOneForOne}).Draw(t, "strategy"),
		Intensity: rapid.SampledFrom([]int{Never, 1, 3, 1000}).Draw(t, "intensity"),
		Backoff:   rapid.SampledFrom([]Backoff{{}, {Min: time.Second, Max: 4 * time.Second}}).Draw(t, "backoff"),
	}
	if spec.Strategy == SimpleOneForOne {
		template := drawChild(t, "x", AutoShutdownNever)
		template.Start, template.StartWith = nil, func(*actors.Context, any) (*actors.PID, error) { return nil, nil }
		spec.Children = []ChildSpec{template}
	} else {
		spec.AutoShutdown = rapid.SampledFrom([]AutoShutdown{AutoShutdownNever, AnySignificant, AllSignificant}).Draw(t, "auto")
		for _, id := range []string{"a", "b", "c", "d"}[:rapid.IntRange(0, 4).Draw(t, "children")] {
			spec.Children = append(spec.Children, drawChild(t, id, spec.AutoShutdown))
		}
	}
	spec, err := spec.validate()
	require.NoError(t, err)
	return &world{
		t: t, m: newMachine(spec), spec: spec, now: time.Unix(0, 0),
		running: map[*actors.PID]string{}, waiting: map[int]bool{}, stopping: map[*actors.PID]bool{},
	}
}

func drawChild(t *rapid.T, id string, auto AutoShutdown) ChildSpec {
	c := ChildSpec{
		ID: id, Start: noStart,
		Restart:  rapid.SampledFrom([]Restart{Permanent, Transient, Temporary}).Draw(t, "restart"),
		Shutdown: rapid.SampledFrom([]Shutdown{0, BrutalKill, Infinity}).Draw(t, "shutdown"),
	}
	c.Significant = auto != AutoShutdownNever && c.Restart != Permanent && rapid.Bool().Draw(t, "significant")
	return c
}

// step lets one thing happen.
func (w *world) step() {
	switch rapid.IntRange(0, 9).Draw(w.t, "what") {
	case 0, 1, 2:
		if len(w.order) > 0 {
			pid := rapid.SampledFrom(w.order).Draw(w.t, "who")
			w.die(pid, rapid.SampledFrom([]error{actors.Normal, actors.Shutdown, errors.New("boom"), actors.Killed}).Draw(w.t, "reason"))
		}
	case 3, 4:
		w.hear()
	case 5:
		if len(w.retries) > 0 {
			ev := w.retries[0]
			w.retries = w.retries[1:]
			w.feed(ev)
		}
	case 6:
		if pid := w.slow(); pid != nil && !w.alarm {
			w.feed(event{kind: evTimeout, pid: pid})
		} else if w.alarm {
			w.alarm = false
			w.feed(event{kind: evTimeout})
		}
	case 7:
		w.now = w.now.Add(rapid.SampledFrom([]time.Duration{time.Millisecond, 3 * time.Second}).Draw(w.t, "pause"))
	default:
		w.request()
	}
}

// slow returns a process that was told to stop and has not, or nil.
func (w *world) slow() *actors.PID {
	for _, pid := range w.order {
		if w.stopping[pid] {
			return pid
		}
	}
	return nil
}

// request lets somebody ask for something.
func (w *world) request() {
	w.calls++
	w.waiting[w.calls] = true
	if w.m.dynamic() {
		ev := event{kind: evStartWith, arg: w.calls, caller: w.calls}
		if len(w.pids) > 0 && rapid.Bool().Draw(w.t, "terminate") {
			pid := rapid.SampledFrom(w.pids).Draw(w.t, "whom")
			ev = event{kind: evTerminate, key: keyOf(pid), caller: w.calls}
		}
		w.feed(ev)
		return
	}
	id := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(w.t, "id")
	spec := drawChild(w.t, id, w.spec.AutoShutdown)
	w.feed(event{
		kind:   rapid.SampledFrom([]eventKind{evStart, evTerminate, evRestart, evDelete}).Draw(w.t, "request"),
		key:    keyOf(id),
		caller: w.calls,
		spec:   &spec,
	})
}

// die ends a process. The supervisor will hear of it, and twice if it was waiting for it.
func (w *world) die(pid *actors.PID, reason error) {
	delete(w.running, pid)
	for i, p := range w.order {
		if p == pid {
			w.order = append(w.order[:i:i], w.order[i+1:]...)
		}
	}
	if w.stopping[pid] {
		w.news = append(w.news, event{kind: evDown, pid: pid, err: reason})
	}
	w.news = append(w.news, event{kind: evExit, pid: pid, err: reason})
}

func (w *world) hear() {
	if len(w.news) > 0 {
		ev := w.news[0]
		w.news = w.news[1:]
		delete(w.stopping, ev.pid)
		w.feed(ev)
	}
}

func (w *world) feed(ev event) {
	for events := []event{ev}; len(events) > 0; events = events[1:] {
		actions := w.m.step(&events[0], w.now)
		for i, a := range actions {
			require.False(w.t, w.exited, "nothing happens after the end")
			if next := w.perform(a); next != nil {
				require.Equal(w.t, len(actions)-1, i, "a start is the last action of its step")
				events = append(events, *next)
			}
		}
	}
}

func (w *world) perform(a action) *event {
	switch a.kind {
	case doStart:
		require.False(w.t, w.m.ending, "no start after the decision to end")
		for _, id := range w.running {
			if id == a.child.spec.ID && !w.m.dynamic() {
				// It may be running only if the supervisor has yet to hear of an unwanted life, which there is not.
				w.t.Fatalf("second process of %s", id)
			}
		}
		switch rapid.IntRange(0, 9).Draw(w.t, "outcome") {
		case 0:
			return &event{kind: evFailed, child: a.child, err: errors.New("no")}
		case 1:
			return &event{kind: evFailed, child: a.child, err: actors.ErrIgnore}
		}
		pid := new(actors.PID)
		w.running[pid] = a.child.spec.ID
		w.pids = append(w.pids, pid)
		w.order = append(w.order, pid)
		return &event{kind: evStarted, child: a.child, pid: pid}
	case doStop:
		if !w.m.dynamic() {
			require.Empty(w.t, w.stopping, "one stop at a time")
		}
		w.stopping[a.pid] = true
		switch _, alive := w.running[a.pid]; {
		case !alive:
			// The monitor finds it dead; its exit is on its way already.
			w.news = append(w.news, event{kind: evDown, pid: a.pid, err: errors.New("boom")})
		case a.how == BrutalKill:
			w.die(a.pid, actors.Killed)
		}
	case doKill:
		if _, alive := w.running[a.pid]; alive {
			w.die(a.pid, actors.Killed)
		}
	case doAlarm:
		w.alarm = true
	case doRetry:
		w.retries = append(w.retries, event{kind: evRetry, child: a.child, attempt: a.attempt})
	case doReply, doDisown:
		require.True(w.t, w.waiting[a.caller.(int)], "each caller is answered once")
		delete(w.waiting, a.caller.(int))
	case doPublish:
		if a.event.Kind == ChildRestarting {
			w.checkIntensity()
		}
	case doExit:
		require.Empty(w.t, w.running, "it is the last to go")
		require.True(w.t, w.m.ending)
		w.exited = true
	}
	return nil
}

// checkIntensity keeps its own account of restarts, the simple way.
func (w *world) checkIntensity() {
	w.restarts = append(w.restarts, w.now)
	n := 0
	for _, at := range w.restarts {
		if w.now.Sub(at) <= w.spec.Period {
			n++
		}
	}
	require.LessOrEqual(w.t, n, w.spec.Intensity)
}

// settle lets everything that is on its way arrive, and everybody who was told to stop do so.
func (w *world) settle() {
	for limit := 10_000; !w.exited; limit-- {
		require.Positive(w.t, limit, "it comes to rest")
		switch {
		case len(w.news) > 0:
			w.hear()
		case w.slow() != nil:
			w.die(w.slow(), actors.Shutdown)
		case len(w.retries) > 0:
			ev := w.retries[0]
			w.retries = w.retries[1:]
			w.now = w.now.Add(time.Minute)
			w.feed(ev)
		default:
			return
		}
	}
}

// checkSettled compares what the machine believes with what is.
func (w *world) checkSettled() {
	if w.exited {
		return
	}
	require.Empty(w.t, w.waiting, "all callers have been answered")
	believed := map[*actors.PID]string{}
	for k := range w.m.kids.from(w.m.kids.first) {
		c := w.m.info(k)
		require.NotEqual(w.t, "stopping", c.State)
		require.NotEqual(w.t, "restarting", c.State)
		require.Equal(w.t, c.State == "running", c.PID != nil)
		if c.PID != nil {
			believed[c.PID] = k.spec.ID
		}
	}
	require.Len(w.t, believed, len(w.running))
	for pid, id := range w.running {
		require.Equal(w.t, id, believed[pid])
	}
	require.Len(w.t, w.m.kids.byPID, len(believed))
	require.Empty(w.t, w.m.kids.byFormer)
	require.LessOrEqual(w.t, len(w.m.window.times), w.spec.Intensity)
}
