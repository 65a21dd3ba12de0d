package supervisor

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// A story is a tree and what happens to it. It is told to several worlds, which must agree about everything that can be
// seen: real supervisors with real processes (metamorphic_real_test.go), the machines alone in a world without processes
// (metamorphic_model_test.go), and, where a story leaves no room for two orders of events, a plain supervisor that was
// written from OTP's cases (metamorphic_naive_test.go).

// node describes a child of a tree, and everything below it.
type node struct {
	path     string    // ids from the root, joined by slashes
	child    ChildSpec // without Start
	named    bool      // registered under its path
	sup      *Spec     // of a supervisor: without Children
	children []*node
}

// spec gives a node's ChildSpec the start function of a world.
func (n *node) spec(start startFor) ChildSpec {
	c := n.child
	c.Start = start(n)
	return c
}

// template is spec for the children of a SimpleOneForOne supervisor. They are told apart by what they are started with.
func (n *node) template(start startFor) ChildSpec {
	c := n.child
	c.StartWith = func(c *actors.Context, arg any) (*actors.PID, error) { return start(n.as(arg.(string)))(c) }
	return c
}

// as is a dynamic child of which n is the template.
func (n *node) as(arg string) *node {
	return n.move(n.path, strings.TrimSuffix(n.path, n.child.ID)+arg)
}

// move copies n and what is below it to another path.
func (n *node) move(from, to string) *node {
	moved := *n
	moved.path = to + strings.TrimPrefix(n.path, from)
	moved.children = nil
	for _, c := range n.children {
		moved.children = append(moved.children, c.move(from, to))
	}
	return &moved
}

func (n *node) dynamic() bool { return n.sup != nil && n.sup.Strategy == SimpleOneForOne }

// supSpec is spec for the supervisor that a node is.
func (n *node) supSpec(start startFor) Spec {
	s := *n.sup
	s.Name = n.path
	for _, c := range n.children {
		if n.dynamic() {
			s.Children = append(s.Children, c.template(start))
		} else {
			s.Children = append(s.Children, c.spec(start))
		}
	}
	return s
}

type startFor func(n *node) func(c *actors.Context) (*actors.PID, error)

// startKind is how a start goes.
type startKind uint8

const (
	startOK     startKind = iota
	initFails             // Init returns an error
	initIgnores           // Init returns ErrIgnore
	initPanics
	funcFails   // the start function returns an error
	funcIgnores // the start function returns ErrIgnore
	funcPanics
	funcNil   // the start function returns nothing
	funcTaken // the start function finds a stranger under the name
	funcBoth  // the start function returns a process and an error
	funcOwn   // the start function returns the supervisor
	funcOther // the start function returns another child, if there is one
)

func (k startKind) String() string {
	return name(k, "ok", "init_fails", "init_ignores", "init_panics", "func_fails", "func_ignores", "func_panics", "func_nil",
		"func_taken", "func_both", "func_own", "func_other")
}

// stopKind is what a worker does when it is told to end.
type stopKind uint8

const (
	stopComply stopKind = iota
	stopLate            // after a while, in which it handles messages
	stopStuck           // after a while in its callback
	stopNever
	stopOther // with another reason
)

func (k stopKind) String() string { return name(k, "comply", "late", "stuck", "never", "other") }

// behaviour is what one start of a child leads to. Those after startKind are for workers.
type behaviour struct {
	start     startKind
	initDelay time.Duration
	initLimit time.Duration // of the start; 0 is the default
	trap      bool
	stop      stopKind
	stopDelay time.Duration
	instant   error // it dies of this right after its start
}

func (b behaviour) String() string {
	s := b.start.String()
	if b.initDelay > 0 {
		s += fmt.Sprintf(" init=%v/%v", b.initDelay, b.initLimit)
	}
	if b.trap {
		s += " trap"
	}
	if b.stop != stopComply {
		s += fmt.Sprintf(" %v=%v", b.stop, b.stopDelay)
	}
	if b.instant != nil {
		s += fmt.Sprintf(" dies=%v", b.instant)
	}
	return s
}

// plans says what the starts to come of each path lead to.
type plans struct {
	usual  map[string]behaviour
	queued map[string][]behaviour
	starts map[string]int
	serial int
}

func newPlans() *plans {
	return &plans{usual: map[string]behaviour{}, queued: map[string][]behaviour{}, starts: map[string]int{}}
}

// next is one start: its place among all starts, the name of what it starts, and what it leads to.
func (p *plans) next(n *node) (serial int, label string, b behaviour) {
	p.serial++
	p.starts[n.path]++
	b = p.usual[n.path]
	if q := p.queued[n.path]; len(q) > 0 {
		b, p.queued[n.path] = q[0], q[1:]
	}
	if n.sup != nil {
		b = behaviour{start: b.start}
	}
	return p.serial, fmt.Sprintf("%s#%d", n.path, p.starts[n.path]), b
}

// change is opPlan or opUsual.
func (p *plans) change(o op) {
	if o.kind == opUsual {
		p.usual[o.path] = o.plan[0]
	} else {
		p.queued[o.path] = append(p.queued[o.path], o.plan...)
	}
}

// Reasons of deaths and of failed starts. A panic has a text, because its value is made by whoever panics.
var (
	errBoomed     = errors.New("boom")
	errOther      = errors.New("other")
	errInit       = errors.New("init failed")
	errFunc       = errors.New("start function failed")
	errPanics     = errors.New("(panics)")
	errDetailed   = actors.ShutdownWith(errors.New("done"))
	errStartAlone = errors.New("nobody is there to start for")
)

const (
	panicText     = "kaboom"
	initPanicText = "no init"
	funcPanicText = "no start"
)

type opKind uint8

const (
	opBoot      opKind = iota
	opDie              // target ends by itself, of reason
	opExit             // an exit signal from nobody, of reason
	opKill             // target is killed
	opStop             // target is stopped from outside, with reason
	opUnlink           // target cuts the link to its supervisor
	opSignal           // target sends its supervisor an exit signal
	opStart            // StartChild at target
	opStartWith        // StartChildWith at target, of id
	opTerm             // TerminateChild of id
	opTermPID          // TerminateChild of child
	opWhich            // WhichChild of id
	opWhichPID         // WhichChild of child
	opSpec             // GetChildSpec of id
	opSpecPID          // GetChildSpec of child
	opRestart          // RestartChild
	opDelete           // DeleteChild
	opPlan             // the next starts of path
	opUsual            // all later starts of path
	opFaulty           // StartChild with a faulty spec
	opTurns            // a number of callbacks run
	opRest             // all callbacks run
	opAdvance          // time goes on
	opSettle           // time goes on until nothing is to come
)

func (k opKind) String() string {
	return name(k, "boot", "die", "exit", "kill", "stop", "unlink", "signal", "StartChild", "StartChildWith", "TerminateChild",
		"TerminateChild(pid)", "WhichChild", "WhichChild(pid)", "GetChildSpec", "GetChildSpec(pid)", "RestartChild", "DeleteChild", "plan", "usual", "StartChild(faulty)", "turns", "rest", "advance", "settle")
}

// op is one thing that happens.
type op struct {
	kind   opKind
	target string // label of a process
	id     string
	child  string // label of a process
	reason error
	node   *node
	path   string
	plan   []behaviour
	turns  int
	d      time.Duration
	call   int // number of the call whose answer is awaited; 0 if none is
}

func (o op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v %s", o.kind, o.target)
	if o.call > 0 {
		fmt.Fprintf(&b, " call=%d", o.call)
	}
	if o.id != "" {
		fmt.Fprintf(&b, " id=%s", o.id)
	}
	if o.child != "" {
		fmt.Fprintf(&b, " child=%s", o.child)
	}
	if o.reason != nil {
		fmt.Fprintf(&b, " reason=%v", o.reason)
	}
	if o.path != "" {
		fmt.Fprintf(&b, " %s %v", o.path, o.plan)
	}
	if o.turns > 0 {
		fmt.Fprintf(&b, " %d", o.turns)
	}
	if o.d > 0 {
		fmt.Fprintf(&b, " %v", o.d)
	}
	if o.node != nil {
		fmt.Fprintf(&b, "\n%s", o.node.tree("    "))
	}
	return b.String()
}

// tree describes a node for a reader.
func (n *node) tree(indent string) string {
	s := fmt.Sprintf("%s%s %v shutdown=%v", indent, n.path, n.child.Restart, shutdownText(n.child.Shutdown))
	if n.child.Significant {
		s += " significant"
	}
	if n.named {
		s += " named"
	}
	if n.sup != nil {
		s += fmt.Sprintf(" %v intensity=%d/%v auto=%v backoff=%v", n.sup.Strategy, n.sup.Intensity, n.sup.Period,
			n.sup.AutoShutdown, n.sup.Backoff)
	}
	for _, c := range n.children {
		s += "\n" + c.tree(indent+"  ")
	}
	return s
}

func shutdownText(s Shutdown) string {
	switch s {
	case 0:
		return "default"
	case BrutalKill:
		return "brutal_kill"
	case Infinity:
		return "infinity"
	}
	return time.Duration(s).String()
}

// text is a reason as it stands in a trace.
func text(err error) string {
	switch {
	case err == nil:
		return "-"
	case errors.As(err, new(*actors.UnansweredError)):
		return actors.Normal.Error() // the models do not tell it from the end that it is about
	}
	return err.Error()
}

// infoText is a listed child as it stands in a trace.
func infoText(i ChildInfo, pid string) string {
	s := fmt.Sprintf("%q %v/%v %s pid=%s incarnation=%d restarts=%d since=%v last=%s",
		i.ID, i.Type, i.Restart, i.State, pid, i.Incarnation, i.Restarts, i.Since.Sub(epoch), text(i.LastExit))
	if !i.RetryAt.IsZero() {
		s += fmt.Sprintf(" retry=%v", i.RetryAt.Sub(epoch))
	}
	return s
}

// listText is a line of a listing of the children of a supervisor.
func listText(depth int, sup string, i ChildInfo, pid string) string {
	return fmt.Sprintf("%s%s %s", strings.Repeat("  ", depth), sup, infoText(i, pid))
}

// supText is what a supervisor says of itself.
func supText(i SupervisorInfo) string {
	return fmt.Sprintf(" %v %v restarts=%d of %d in %v", i.Strategy, i.AutoShutdown, i.Restarts, i.Intensity, i.Period)
}

// specText is a ChildSpec as it stands in a trace.
func specText(c ChildSpec) string {
	return fmt.Sprintf("%s %v %v %v significant=%t start=%t with=%t",
		c.ID, c.Type, c.Restart, shutdownText(c.Shutdown), c.Significant, c.Start != nil, c.StartWith != nil)
}

func eventText(sup string, e Event, pid string) string {
	return fmt.Sprintf("event %s %v %v id=%s pid=%s incarnation=%d reason=%s", sup, e.At.Sub(epoch), e.Kind, e.ID, pid, e.Incarnation, text(e.Reason))
}

func answerText(call int, at time.Time, value string, err error) string {
	return fmt.Sprintf("answer %d %v %s %s", call, at.Sub(epoch), value, text(err))
}

func countsText(sup string, n Counts, err error) string {
	return fmt.Sprintf("counts of %s: %v %v", sup, n, err)
}

// epoch is when stories begin.
var epoch = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

// stepClock is an actors.Clock whose timers fire one by one, when a world says so.
type stepClock struct {
	mu     sync.Mutex
	now    time.Time
	timers []*stepTimer
}

type stepTimer struct {
	clock *stepClock
	at    time.Time
	f     func()
}

func newStepClock() *stepClock { return &stepClock{now: epoch} }

// Now implements actors.Clock.
func (c *stepClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// AfterFunc implements actors.Clock.
func (c *stepClock) AfterFunc(d time.Duration, f func()) actors.Stopper {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &stepTimer{c, c.now.Add(d), f}
	c.timers = append(c.timers, t)
	return t
}

// Stop implements actors.Stopper.
func (t *stepTimer) Stop() bool {
	if t == nil {
		return false
	}
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	return t.clock.remove(t)
}

func (c *stepClock) remove(t *stepTimer) bool {
	for i := range c.timers {
		if c.timers[i] == t {
			c.timers = append(c.timers[:i], c.timers[i+1:]...)
			return true
		}
	}
	return false
}

// due returns the next timer, the oldest of those that are due at the same time; nil if there is none.
func (c *stepClock) due() *stepTimer {
	c.mu.Lock()
	defer c.mu.Unlock()
	var first *stepTimer
	for _, t := range c.timers {
		if first == nil || t.at.Before(first.at) {
			first = t
		}
	}
	return first
}

// fire moves the clock to the time of t and fires it.
func (c *stepClock) fire(t *stepTimer) {
	c.mu.Lock()
	c.now = t.at
	c.remove(t)
	c.mu.Unlock()
	t.f()
}

// set moves the clock on.
func (c *stepClock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}
