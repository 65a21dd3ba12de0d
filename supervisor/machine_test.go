package supervisor

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
)

// TestMachine runs the stories in testdata/machine. A story makes a machine, tells it what happens, and shows what it wants done.
// Starts succeed at once unless the story says otherwise; everything else the story has to report itself:
//
//	new      strategy=… intensity=… period=… auto=… backoff=min,max, one child per line:
//	         id restart=… shutdown=… type=… significant
//	boot     the first start
//	fail     starts of these children fail from now on; ignore: are ignored; succeed: succeed
//	exit     pid reason: an exit signal from a child
//	down     pid reason: a child that was to stop is dead
//	timeout  pid: its time to stop is over; alarm: that of all dynamic children is
//	retry    what the machine has sent to itself has come round
//	call     start, terminate, restart or delete, with an id or a child as above; startwith, with an argument;
//	         end, with a pid that is a dynamic child's, or alive or dead for a stranger's
//	stop     reason: the supervisor is told to end
//	advance  the clock
//	list     the children
//
// The n-th process of child x is called xn.
func TestMachine(t *testing.T) {
	datadriven.Walk(t, "testdata/machine", func(t *testing.T, path string) {
		s := &story{now: time.Unix(0, 0).UTC()}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return s.command(t, d)
		})
	})
}

type story struct {
	m       *machine
	now     time.Time
	outcome map[string]error // of starts, by id
	pids    map[string]*actors.PID
	names   map[*actors.PID]string
	starts  map[string]int
	dead    map[string]bool
	retries []event
	out     strings.Builder
}

func (s *story) command(t *testing.T, d *datadriven.TestData) string {
	s.out.Reset()
	arg := func(i int) string { return d.CmdArgs[i].Key }
	switch d.Cmd {
	case "new":
		return s.new(t, d)
	case "fail", "ignore", "succeed":
		for _, a := range d.CmdArgs {
			s.outcome[a.Key] = map[string]error{"fail": errors.New("no " + a.Key), "ignore": actors.ErrIgnore}[d.Cmd]
		}
		return ""
	case "advance":
		by, err := time.ParseDuration(arg(0))
		require.NoError(t, err)
		s.now = s.now.Add(by)
		return ""
	case "list":
		return s.list()
	case "boot":
		s.feed(event{kind: evBoot})
	case "exit":
		s.dead[arg(0)] = true
		s.feed(event{kind: evExit, pid: s.pid(t, arg(0)), err: reason(arg(1))})
	case "down":
		s.dead[arg(0)] = true
		s.feed(event{kind: evDown, pid: s.pid(t, arg(0)), err: reason(arg(1))})
	case "timeout":
		s.feed(event{kind: evTimeout, pid: s.pid(t, arg(0))})
	case "alarm":
		s.feed(event{kind: evTimeout})
	case "retry":
		require.NotEmpty(t, s.retries)
		ev := s.retries[0]
		s.retries = s.retries[1:]
		s.feed(ev)
	case "stop":
		s.feed(event{kind: evStop, err: reason(arg(0))})
	case "call":
		s.feed(s.call(t, d))
	default:
		t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	}
	return s.out.String()
}

func (s *story) call(t *testing.T, d *datadriven.TestData) event {
	ev := event{caller: d.Pos, kind: map[string]eventKind{
		"start": evStart, "startwith": evStartWith, "terminate": evTerminate, "end": evTerminate, "restart": evRestart,
		"delete": evDelete,
	}[d.CmdArgs[0].Key]}
	what := d.CmdArgs[1].Key
	switch d.CmdArgs[0].Key {
	case "end":
		ev.key = key{byPID: true, pid: s.pids[what]}
		if ev.key.pid == nil {
			ev.key.pid = new(actors.PID)
			s.names[ev.key.pid] = what
			s.dead[what] = what == "dead"
		}
	case "startwith":
		ev.arg = what
	default:
		ev.key.id = what
		spec := childSpec(t, d.CmdArgs[1:])
		ev.spec = &spec
	}
	return ev
}

func (s *story) new(t *testing.T, d *datadriven.TestData) string {
	*s = story{
		now: s.now, outcome: map[string]error{}, pids: map[string]*actors.PID{},
		names: map[*actors.PID]string{}, starts: map[string]int{}, dead: map[string]bool{},
	}
	spec := Spec{Name: "sup"}
	for _, a := range d.CmdArgs {
		v := a.Vals[0]
		switch a.Key {
		case "strategy":
			spec.Strategy = parse(t, v, OneForOne, OneForAll, RestForOne, SimpleOneForOne)
		case "auto":
			spec.AutoShutdown = parse(t, v, AutoShutdownNever, AnySignificant, AllSignificant)
		case "intensity":
			_, err := fmt.Sscan(v, &spec.Intensity)
			require.NoError(t, err)
		case "backoff":
			for i, d := range []*time.Duration{&spec.Backoff.Min, &spec.Backoff.Max} {
				if i < len(a.Vals) {
					var err error
					*d, err = time.ParseDuration(a.Vals[i])
					require.NoError(t, err)
				}
			}
		case "period":
			var err error
			spec.Period, err = time.ParseDuration(v)
			require.NoError(t, err)
		}
	}
	for line := range strings.Lines(d.Input) {
		_, args, err := datadriven.ParseLine("child " + line)
		require.NoError(t, err)
		child := childSpec(t, args)
		if spec.Strategy == SimpleOneForOne {
			child.Start, child.StartWith = nil, func(*actors.Context, any) (*actors.PID, error) { return nil, nil }
		}
		spec.Children = append(spec.Children, child)
	}
	spec, err := spec.validate()
	if err != nil {
		return err.Error()
	}
	s.m = newMachine(spec)
	return ""
}

func childSpec(t *testing.T, args []datadriven.CmdArg) ChildSpec {
	c := ChildSpec{ID: args[0].Key, Start: func(*actors.Context) (*actors.PID, error) { return nil, nil }}
	for _, a := range args[1:] {
		switch a.Key {
		case "restart":
			c.Restart = parse(t, a.Vals[0], Permanent, Transient, Temporary)
		case "type":
			c.Type = parse(t, a.Vals[0], TypeWorker, TypeSupervisor)
		case "significant":
			c.Significant = true
		case "shutdown":
			switch a.Vals[0] {
			case "brutal":
				c.Shutdown = BrutalKill
			case "infinity":
				c.Shutdown = Infinity
			default:
				d, err := time.ParseDuration(a.Vals[0])
				require.NoError(t, err)
				c.Shutdown = After(d)
			}
		}
	}
	return c
}

func parse[T fmt.Stringer](t *testing.T, text string, values ...T) T {
	for _, v := range values {
		if v.String() == text {
			return v
		}
	}
	require.Fail(t, "unknown value", text)
	panic("not reached")
}

func (s *story) pid(t *testing.T, name string) *actors.PID {
	require.Contains(t, s.pids, name)
	return s.pids[name]
}

func reason(text string) error {
	for _, known := range []error{actors.Normal, actors.Shutdown, actors.Killed, actors.NoProcess} {
		if text == known.Error() {
			return known
		}
	}
	return errors.New(text)
}

// feed plays the process: it answers starts at once.
func (s *story) feed(ev event) {
	for events := []event{ev}; len(events) > 0; events = events[1:] {
		for _, a := range s.m.step(&events[0], s.now) {
			if next := s.show(a); next != nil {
				events = append(events, *next)
			}
		}
	}
}

func (s *story) show(a action) *event {
	printf := func(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }
	switch a.kind {
	case doStart:
		id := a.child.spec.ID
		if err := s.outcome[id]; err != nil {
			printf("start %s: %v", id, err)
			return &event{kind: evFailed, child: a.child, err: err}
		}
		s.starts[id]++
		name, pid := fmt.Sprintf("%s%d", id, s.starts[id]), new(actors.PID)
		s.pids[name], s.names[pid] = pid, name
		printf("start %s: %s", id, name)
		return &event{kind: evStarted, child: a.child, pid: pid}
	case doStop:
		printf("stop %s %s", s.names[a.pid], map[Shutdown]string{BrutalKill: "brutally", Infinity: "patiently"}[a.how]+after(a.how))
	case doKill:
		printf("kill %s", s.names[a.pid])
	case doRetry:
		when := "later"
		if a.after > 0 {
			when = "in " + a.after.String()
		}
		printf("retry %s %s", s.idOf(a.child), when)
		s.retries = append(s.retries, event{kind: evRetry, child: a.child, attempt: a.attempt})
	case doAlarm:
		printf("alarm in %v", a.after)
	case doDisown:
		if s.dead[s.names[a.pid]] {
			printf("reply ok")
		} else {
			printf("reply: %v", ErrNotFound)
		}
	case doReply:
		switch {
		case a.err != nil:
			printf("reply: %v", a.err)
		case a.pid != nil:
			printf("reply %s", s.names[a.pid])
		default:
			printf("reply ok")
		}
	case doPublish:
		e := a.event
		printf("  %v %s/%d%s", e.Kind, e.ID, e.Incarnation, because(e.Reason))
	case doExit:
		printf("exit: %v", a.err)
	}
	return nil
}

// idOf names a child: a dynamic one by the process that it was.
func (s *story) idOf(c *child) string {
	if s.m.dynamic() {
		return s.names[c.former]
	}
	return c.spec.ID
}

func after(how Shutdown) string {
	if how > 0 {
		return "within " + time.Duration(how).String()
	}
	return ""
}

func because(reason error) string {
	if reason == nil {
		return ""
	}
	return ": " + reason.Error()
}

func (s *story) list() string {
	var b strings.Builder
	for k := range s.m.kids.from(s.m.kids.first) {
		c := s.m.info(k)
		fmt.Fprintf(&b, "%s %s %s incarnation=%d restarts=%d since=%s%s\n", or(c.ID, "-"), or(s.names[c.PID], "-"), c.State,
			c.Incarnation, c.Restarts, c.Since.Format("15:04:05"), because(c.LastExit))
	}
	n := s.m.count()
	fmt.Fprintf(&b, "specs=%d active=%d supervisors=%d workers=%d", n.Specs, n.Active, n.Supervisors, n.Workers)
	return b.String()
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
