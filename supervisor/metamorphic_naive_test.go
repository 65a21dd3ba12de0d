package supervisor

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// naiveWorld tells a story to supervisors that are written down as OTP's documents and cases have them
// (otp-supervisor-cases.md, "Semantics", quoted by number), with functions that return when all is done. They know nothing
// of the machine: no jobs, no actions, nothing kept for later but the mailbox. It only understands plain stories, in which
// one supervisor at a time has something to do.
type naiveWorld struct {
	now   time.Time
	plans *plans
	root  *naiveProc
	alive map[string]*naiveProc
	left  map[string]bool // supervisors that have lost theirs; what they still do is not told here
	lost  map[string]bool // calls to those who have lost theirs
	vague map[string]bool // children that are down since a time that depends on when their deaths were noted
	early map[string]bool // processes that were dead when they were to be stopped
	// together are those that were stopped all at once.
	together map[string]bool
	at       []naiveTimer // what comes later
	trace    []string
	answers  []callResult
}

type naiveProc struct {
	w       *naiveWorld
	serial  int
	label   string
	node    *node
	b       behaviour
	parent  *naiveSup
	sup     *naiveSup
	dead    bool
	reason  error
	cut     bool // its link to the supervisor
	waiting []op // calls of Stop
}

type naiveSup struct {
	w        *naiveWorld
	p        *naiveProc
	since    time.Time
	kids     []*naiveKid // in the order of their start
	mailbox  []any
	restarts []time.Time
}

type naiveKid struct {
	n           *node
	state       string
	since       time.Time
	p           *naiveProc // nil unless it runs, or is believed to
	incarnation int
	restarts    int
	last        error
	why         error // it is restarting
	attempt     int
	due         time.Time // the restart
	row         int       // of restarts
	former      *naiveProc
}

// naiveTimer is a message that comes later.
type naiveTimer struct {
	at  time.Time
	to  *naiveSup
	msg any
}

// What is in the mailbox of a supervisor.
type (
	naiveExit  struct{ p *naiveProc }
	naiveRetry struct {
		k       *naiveKid
		attempt int
		counted bool
	}
	naiveStop struct{ reason error }
	naiveCall struct{ o op }
)

func newNaiveWorld() *naiveWorld {
	return &naiveWorld{now: epoch, plans: newPlans(), alive: map[string]*naiveProc{}, left: map[string]bool{}, early: map[string]bool{}, vague: map[string]bool{}, lost: map[string]bool{}, together: map[string]bool{}}
}

func (w *naiveWorld) answer(call int, p *naiveProc, err error) {
	label := "-"
	if p != nil {
		label = p.label
	}
	w.answers = append(w.answers, callResult{call, answerText(call, w.now, label, err)})
}

func (w *naiveWorld) do(o op) {
	p := w.alive[o.target]
	if p == nil && o.target != "" {
		if o.call > 0 {
			w.answer(o.call, nil, actors.NoProcess)
		}
		return
	}
	switch o.kind {
	case opBoot:
		p, err := w.start(nil, o.node)
		if err == nil {
			w.root = p
		}
		w.answer(o.call, w.root, err)
	case opDie:
		reason := o.reason
		if errors.Is(reason, errPanics) {
			reason = &actors.PanicError{Value: panicText}
		}
		p.die(reason)
	case opKill:
		p.die(actors.Killed)
	case opExit:
		switch {
		case p == w.root:
			p.sup.mailbox = append(p.sup.mailbox, naiveStop{o.reason})
		case p.sup == nil && !p.b.trap && !errors.Is(o.reason, actors.Normal):
			p.die(o.reason)
		}
	case opStop:
		p.waiting = append(p.waiting, o)
		if p.sup != nil {
			p.sup.mailbox = append(p.sup.mailbox, naiveStop{o.reason})
		} else {
			p.told(o.reason, Infinity)
		}
	case opUnlink:
		p.cut = true
	case opStart, opStartWith, opFaulty, opTerm, opTermPID, opRestart, opDelete, opWhich, opWhichPID, opSpec, opSpecPID:
		p.sup.mailbox = append(p.sup.mailbox, naiveCall{o})
	}
}

// settle lets everybody do what there is to do until the given time; false means that they are busy beyond it.
func (w *naiveWorld) settle(until time.Time) bool {
	for w.root != nil && !w.now.After(until) {
		w.ring()
		if s := w.root.sup.busy(); s != nil {
			msg := s.mailbox[0]
			s.mailbox = s.mailbox[1:]
			s.handle(msg)
			continue
		}
		if len(w.at) == 0 || w.at[0].at.After(until) {
			break
		}
		w.now = w.at[0].at
	}
	return !w.now.After(until)
}

// ring delivers the messages whose time has come.
func (w *naiveWorld) ring() {
	slices.SortStableFunc(w.at, func(a, b naiveTimer) int { return a.at.Compare(b.at) })
	for len(w.at) > 0 && !w.at[0].at.After(w.now) {
		t := w.at[0]
		w.at = w.at[1:]
		t.to.mailbox = append(t.to.mailbox, t.msg)
	}
	w.at = slices.DeleteFunc(w.at, func(t naiveTimer) bool { return t.to.p.dead })
}

func (s *naiveSup) busy() *naiveSup {
	if s.p.dead {
		return nil
	}
	if len(s.mailbox) > 0 {
		return s
	}
	for _, k := range s.kids {
		if k.p != nil && k.p.sup != nil {
			if b := k.p.sup.busy(); b != nil {
				return b
			}
		}
	}
	return nil
}

// start runs a start function. A process that comes with an error is killed.
func (w *naiveWorld) start(parent *naiveSup, n *node) (*naiveProc, error) {
	p, err := w.startProcess(parent, n)
	if err == nil && p.b.start == funcBoth {
		p.cut = true
		p.die(actors.Killed)
		return nil, errFunc
	}
	return p, err
}

// startProcess starts a process and returns when its Init has.
func (w *naiveWorld) startProcess(parent *naiveSup, n *node) (*naiveProc, error) {
	serial, label, b := w.plans.next(n)
	switch b.start {
	case funcFails:
		return nil, errFunc
	case funcIgnores:
		return nil, actors.ErrIgnore
	case funcPanics:
		return nil, &actors.PanicError{Value: funcPanicText}
	case funcNil:
		return nil, errNoPID
	case funcTaken:
		return nil, &actors.AlreadyStartedError{Name: n.path}
	case funcOwn:
		return nil, errOwnPID
	case funcOther:
		return nil, parent.takeOther()
	}
	p := &naiveProc{w: w, serial: serial, label: label, node: n, b: b, parent: parent}
	if n.sup != nil {
		if err := naiveOutcome(b); err != nil {
			return nil, err
		}
		p.sup = &naiveSup{w: w, p: p, since: w.now}
		if err := p.sup.boot(); err != nil {
			return nil, err
		}
		w.alive[label] = p
		return p, nil
	}
	if b.initDelay > 0 {
		if b.initLimit > 0 && b.initLimit < b.initDelay {
			w.now = w.now.Add(b.initLimit)
			return nil, actors.ErrInitTimeout
		}
		w.now = w.now.Add(b.initDelay)
	}
	if err := naiveOutcome(b); err != nil {
		return nil, err
	}
	w.alive[label] = p
	return p, nil
}

func naiveOutcome(b behaviour) error {
	switch b.start {
	case initFails:
		return errInit
	case initIgnores:
		return actors.ErrIgnore
	case initPanics:
		return &actors.PanicError{Value: initPanicText}
	}
	return nil
}

// die is the end of a process. Its supervisor gets a signal, and its children get one: whatever those do then, nobody
// hears of it any more.
func (p *naiveProc) die(reason error) {
	p.dead, p.reason = true, reason
	delete(p.w.alive, p.label)
	for _, o := range p.waiting {
		if errors.Is(reason, o.reason) {
			p.w.answer(o.call, nil, nil)
		} else {
			p.w.answer(o.call, nil, reason)
		}
	}
	if p.parent != nil && !p.cut && !p.parent.p.dead {
		p.parent.mailbox = append(p.parent.mailbox, naiveExit{p})
	}
	if p.sup != nil {
		for _, msg := range p.sup.mailbox {
			if call, ok := msg.(naiveCall); ok {
				p.w.answer(call.o.call, nil, reason)
			}
		}
		p.sup.forget()
	}
}

// forget leaves the children of a killed supervisor to themselves.
func (s *naiveSup) forget() {
	for _, k := range s.kids {
		if k.p != nil {
			delete(s.w.alive, k.p.label)
			for _, o := range k.p.waiting {
				s.w.lost[strconv.Itoa(o.call)] = true
			}
			if k.p.sup != nil {
				s.w.left[k.p.label] = true
				k.p.sup.forget()
			}
		}
	}
}

// told is an order to end, and the wait for it: 4.
func (p *naiveProc) told(reason error, how Shutdown) {
	w := p.w
	if how == 0 {
		how = Shutdown(5 * time.Second)
		if p.sup != nil {
			how = Infinity
		}
	}
	switch {
	case p.dead:
	case how == BrutalKill:
		p.die(actors.Killed)
	case p.sup != nil:
		p.sup.end(reason)
	case p.b.stop == stopOther:
		p.die(errOther)
	case p.b.stop == stopNever && how == Infinity:
	case p.b.stop == stopNever,
		(p.b.stop == stopLate || p.b.stop == stopStuck) && how != Infinity && p.b.stopDelay > time.Duration(how):
		w.now = w.now.Add(time.Duration(how))
		p.die(actors.Killed)
	case p.b.stop == stopLate || p.b.stop == stopStuck:
		w.now = w.now.Add(p.b.stopDelay)
		p.die(reason)
	default:
		p.die(reason)
	}
}

func (s *naiveSup) event(kind EventKind, k *naiveKid, reason error) {
	pid := "-"
	if (kind == ChildStarted || kind == ChildExited) && k.p != nil {
		pid = k.p.label
	}
	s.w.trace = append(s.w.trace, eventText(s.p.label, Event{
		At: s.w.now, Kind: kind, ID: k.n.child.ID, Incarnation: k.incarnation, Reason: reason,
	}, pid))
}

func (k *naiveKid) enter(state string, now time.Time) {
	if k.state != state {
		k.state, k.since = state, now
	}
}

// boot starts the children: 6.
func (s *naiveSup) boot() error {
	if s.p.node.dynamic() {
		return nil
	}
	for _, n := range s.p.node.children {
		s.kids = append(s.kids, &naiveKid{n: n, state: "stopped", since: s.w.now})
	}
	for _, k := range slices.Clone(s.kids) {
		if err := s.start(k, false); err != nil {
			s.terminate(s.kids)
			return actors.ShutdownWith(&StartError{Supervisor: s.p.node.path, ID: k.n.child.ID, Err: err})
		}
	}
	return nil
}

// start starts one child. A start that was ignored is a success without a process.
func (s *naiveSup) start(k *naiveKid, again bool) error {
	p, err := s.w.start(s, k.n)
	switch {
	case errors.Is(err, actors.ErrIgnore):
		s.event(ChildIgnored, k, nil)
		s.rest(k)
		return nil
	case err != nil:
		s.event(ChildStartFailed, k, err)
		return err
	}
	k.p = p
	delete(s.w.vague, s.key(k))
	k.incarnation++
	if again {
		k.restarts++
	}
	k.enter("running", s.w.now)
	s.event(ChildStarted, k, nil)
	return nil
}

// rest is the state of a child that is not restarted. Of temporary and dynamic ones, nothing is kept: 10.
func (s *naiveSup) rest(k *naiveKid) {
	k.enter("stopped", s.w.now)
	if k.n.child.Restart == Temporary || s.p.node.dynamic() {
		s.drop(k)
	}
}

// key names a child as listings do.
func (s *naiveSup) key(k *naiveKid) string {
	i, _ := k.info(s)
	return fmt.Sprintf("%s%q", s.p.label, i.ID)
}

// takeOther is a start that returns the oldest child. It is linked again, if that was needed, and the start has failed.
func (s *naiveSup) takeOther() error {
	var oldest *naiveProc
	for _, k := range s.kids {
		if k.p != nil && !k.p.dead && (oldest == nil || k.p.serial < oldest.serial) {
			oldest = k.p
		}
	}
	if oldest == nil {
		return errNoPID
	}
	oldest.cut = false
	return errSamePID
}

func (s *naiveSup) drop(k *naiveKid) {
	s.kids = slices.DeleteFunc(s.kids, func(other *naiveKid) bool { return k == other })
}

// terminate stops children, the youngest first: 4. Temporary ones are gone then.
func (s *naiveSup) terminate(kids []*naiveKid) {
	for _, k := range slices.Backward(slices.Clone(kids)) {
		if k.p != nil {
			if k.p.dead {
				s.w.early[k.p.label] = true
				s.w.vague[s.key(k)] = true
			}
			k.p.cut = true
			k.enter("stopping", s.w.now)
			k.p.told(actors.Shutdown, k.n.child.Shutdown)
			s.ended(k)
		}
		s.rest(k)
	}
}

// ended notes the end of a child's process, and takes its signal out of the mailbox.
func (s *naiveSup) ended(k *naiveKid) {
	p := k.p
	s.mailbox = slices.DeleteFunc(s.mailbox, func(msg any) bool { return msg == naiveExit{p} })
	k.last = p.reason
	k.enter("stopped", s.w.now)
	s.event(ChildExited, k, p.reason)
	k.p, k.former = nil, p
}

// end is the end of the supervisor. Dynamic children are stopped at the same time: 4.
func (s *naiveSup) end(reason error) {
	if s.p.node.dynamic() {
		begin, last := s.w.now, s.w.now
		for _, k := range slices.Clone(s.kids) {
			s.w.now = begin
			if k.p != nil && !k.p.dead {
				s.w.together[k.p.label] = true
			}
			s.terminate([]*naiveKid{k})
			if s.w.now.After(last) {
				last = s.w.now
			}
		}
		s.w.now = last
	} else {
		s.terminate(s.kids)
	}
	s.p.die(reason)
}

func (s *naiveSup) handle(msg any) {
	switch msg := msg.(type) {
	case naiveExit:
		for _, k := range s.kids {
			if k.p == msg.p {
				s.exited(k)
				return
			}
		}
		// 8: of a stranger, or of one who has been replaced.
	case naiveRetry:
		switch k := msg.k; {
		case k.state != "restarting" || k.attempt != msg.attempt:
			// Something else has been done about it.
		case msg.counted || s.allowed(k, k.why):
			s.restart(k)
		}
	case naiveStop:
		s.end(msg.reason)
	case naiveCall:
		s.call(msg.o)
	}
}

// exited is the death of a child.
func (s *naiveSup) exited(k *naiveKid) {
	reason := k.p.reason
	lived := s.w.now.Sub(k.since)
	s.ended(k)
	orderly := errors.Is(reason, actors.Normal) || errors.Is(reason, actors.Shutdown)
	switch k.n.child.Restart {
	case Permanent:
		s.died(k, reason, lived)
		return
	case Transient:
		if !orderly {
			s.died(k, reason, lived)
			return
		}
	}
	s.rest(k)
	// 9
	if !k.n.child.Significant {
		return
	}
	others := slices.ContainsFunc(s.kids, func(o *naiveKid) bool { return o.n.child.Significant && o.state != "stopped" })
	if s.p.node.sup.AutoShutdown == AnySignificant || !others {
		s.event(AutoShutdownBegun, k, reason)
		s.end(actors.Shutdown)
	}
}

// died is the death of a child that is to be restarted, at once or, with a back-off, later.
func (s *naiveSup) died(k *naiveKid, reason error, lived time.Duration) {
	backoff := s.p.node.sup.Backoff
	if lived >= max(backoff.Min, backoff.Max) {
		k.row = 0
	}
	switch {
	case !s.allowed(k, reason):
	case backoff.Min > 0:
		s.again(k, reason, true) // the delay begins with the death
		s.terminate(slices.DeleteFunc(s.group(k), func(o *naiveKid) bool { return o == k }))
	default:
		s.restart(k)
	}
}

// again puts a restart off, with a back-off or, as OTP does, by a message to itself: 2.
func (s *naiveSup) again(k *naiveKid, why error, counted bool) {
	backoff := s.p.node.sup.Backoff
	wait := backoff.Min
	for i := 0; i < k.row && wait < backoff.Max; i++ {
		wait = min(2*wait, backoff.Max)
	}
	k.row++
	k.attempt++
	k.why, k.due = why, s.w.now.Add(wait)
	k.enter("restarting", s.w.now)
	retry := naiveRetry{k, k.attempt, counted}
	if wait > 0 {
		s.w.at = append(s.w.at, naiveTimer{k.due, s, retry})
	} else {
		s.w.ring()
		s.mailbox = append(s.mailbox, retry)
	}
}

// recent counts the restarts within the period.
func (s *naiveSup) recent() (n, intensity int, period time.Duration) {
	flags := *s.p.node.sup
	intensity, period = flags.Intensity, flags.Period
	switch intensity {
	case 0:
		intensity = 1
	case Never:
		intensity = 0
	}
	if period == 0 {
		period = 5 * time.Second
	}
	for _, at := range s.restarts {
		if !at.Before(s.w.now.Add(-period)) {
			n++
		}
	}
	return n, intensity, period
}

// allowed counts a restart, and ends the supervisor if it is one too many: 1.
func (s *naiveSup) allowed(k *naiveKid, reason error) bool {
	s.restarts = append(s.restarts, s.w.now)
	if n, intensity, _ := s.recent(); n > intensity {
		s.event(GaveUp, k, reason)
		s.rest(k)
		s.end(actors.ShutdownWith(&GaveUpError{Supervisor: s.p.node.path, ID: k.n.child.ID, Err: reason}))
		return false
	}
	s.event(ChildRestarting, k, reason)
	return true
}

// group is who goes with a child, and the child itself.
func (s *naiveSup) group(k *naiveKid) []*naiveKid {
	switch s.p.node.sup.Strategy {
	case OneForAll:
		return slices.Clone(s.kids)
	case RestForOne:
		return slices.Clone(s.kids[slices.Index(s.kids, k):])
	default:
		return []*naiveKid{k}
	}
}

// restart does a restart that has been counted: 7.
func (s *naiveSup) restart(k *naiveKid) {
	group := s.group(k)
	if strategy := s.p.node.sup.Strategy; strategy == OneForAll || strategy == RestForOne {
		k.enter("stopped", s.w.now)
		s.terminate(group)
	}
	for _, member := range group {
		if member.n.child.Restart == Temporary {
			continue
		}
		if err := s.start(member, true); err != nil {
			s.again(member, err, false)
			if s.p.node.sup.Backoff.Min > 0 {
				s.terminate(slices.DeleteFunc(s.group(member), func(o *naiveKid) bool { return o == member }))
			}
			return
		}
	}
}

func (s *naiveSup) call(o op) {
	switch o.kind {
	case opStart, opFaulty:
		s.add(o)
		return
	case opStartWith:
		s.addWith(o)
		return
	}
	k, err := s.find(o)
	if err != nil {
		s.w.answer(o.call, nil, err)
		return
	}
	switch o.kind {
	case opTerm, opTermPID:
		if k != nil {
			s.terminate([]*naiveKid{k})
		}
		s.w.answer(o.call, nil, nil)
		return
	case opWhich, opWhichPID:
		info, label := k.info(s)
		s.w.answers = append(s.w.answers, callResult{o.call, answerText(o.call, s.w.now, infoText(info, label), nil)})
		return
	case opSpec, opSpecPID:
		s.w.answers = append(s.w.answers, callResult{o.call, answerText(o.call, s.w.now, specText(k.spec(s)), nil)})
		return
	}
	switch k.state {
	case "running":
		s.w.answer(o.call, nil, ErrRunning)
	case "restarting":
		s.w.answer(o.call, nil, ErrRestarting)
	default:
		if o.kind == opDelete {
			s.drop(k)
			s.w.answer(o.call, nil, nil)
			return
		}
		s.w.answer(o.call, k.p, s.failure(k, s.start(k, false)))
	}
}

// find returns the child that a request is about; none and no error for one that is dead and forgotten.
func (s *naiveSup) find(o op) (*naiveKid, error) {
	byPID := o.kind == opTermPID || o.kind == opWhichPID || o.kind == opSpecPID
	switch {
	case byPID && !s.p.node.dynamic():
		return nil, ErrNotFound
	case !byPID && s.p.node.dynamic():
		return nil, ErrSimpleOneForOne
	}
	for _, k := range s.kids {
		if !byPID && k.n.child.ID == o.id || byPID && k.p != nil && k.p.label == o.child ||
			byPID && k.state == "restarting" && k.former.label == o.child {
			return k, nil
		}
	}
	if o.kind == opTermPID && s.w.alive[o.child] == nil {
		return nil, nil
	}
	return nil, ErrNotFound
}

// addWith is StartChildWith.
func (s *naiveSup) addWith(o op) {
	if !s.p.node.dynamic() {
		s.w.answer(o.call, nil, ErrNotSimpleOneForOne)
		return
	}
	k := &naiveKid{n: s.p.node.children[0].as(o.id), state: "stopped", since: s.w.now}
	s.kids = append(s.kids, k)
	err := s.start(k, false)
	if err != nil {
		s.drop(k)
	}
	s.w.answer(o.call, k.p, err)
}

// add is StartChild.
func (s *naiveSup) add(o op) {
	if s.p.node.dynamic() {
		s.w.answer(o.call, nil, ErrSimpleOneForOne)
		return
	}
	spec := o.node.child
	if o.kind == opStart {
		spec.Start = func(*actors.Context) (*actors.PID, error) { return nil, nil }
	}
	if _, err := spec.validate(&Spec{Name: s.p.node.path, AutoShutdown: s.p.node.sup.AutoShutdown}); err != nil {
		s.w.answer(o.call, nil, err)
		return
	}
	for _, k := range s.kids {
		if k.n.child.ID == spec.ID {
			if k.p != nil {
				s.w.answer(o.call, nil, &AlreadyStartedError{ID: spec.ID})
			} else {
				s.w.answer(o.call, nil, ErrAlreadyPresent)
			}
			return
		}
	}
	k := &naiveKid{n: o.node, state: "stopped", since: s.w.now}
	s.kids = append(s.kids, k)
	err := s.start(k, false)
	if err != nil {
		s.drop(k)
	}
	s.w.answer(o.call, k.p, s.failure(k, err))
}

// failure is the answer to one who asked for a start: bare if a stranger has the name (already_started_outside_supervisor).
func (s *naiveSup) failure(k *naiveKid, err error) error {
	if _, taken := any(err).(*actors.AlreadyStartedError); taken || err == nil {
		return err
	}
	return &StartError{Supervisor: s.p.node.path, ID: k.n.child.ID, Err: err}
}

var sinces = regexp.MustCompile(" since=[^ ]*")

// plainly returns a trace without what this world does not have, and the events of each supervisor by themselves. When the
// death of a child is noted that had died before it was to be stopped, depends on whether the supervisor had read of it, and
// which of several children that stop together is noted first, on who comes first; that matters to nobody.
func (w *naiveWorld) plainly(trace []string) (plain []string) {
	events := map[string][]string{}
	var exits, counts []string
	for _, line := range trace {
		f := strings.Fields(line)
		switch f[0] {
		case "start", "turn", "dead":
			continue
		case "counts":
			if !w.left[strings.TrimSuffix(f[2], ":")] {
				counts = append(counts, line)
			}
			continue
		case "event":
		case "answer":
			if !w.lost[f[1]] {
				plain = append(plain, sinces.ReplaceAllString(line, ""))
			}
			continue
		default:
			if len(f) > 1 && w.vague[f[0]+f[1]] {
				line = sinces.ReplaceAllString(line, "")
			}
			plain = append(plain, line)
			continue
		}
		pid := strings.TrimPrefix(f[5], "pid=")
		switch exited := f[3] == ChildExited.String(); {
		case exited && w.left[f[1]]:
		case exited && w.early[pid]:
			exits = append(exits, strings.Join(slices.Delete(f, 2, 3), " "))
		case exited && w.together[pid]:
			exits = append(exits, line)
		default:
			events[f[1]] = append(events[f[1]], line)
		}
	}
	slices.Sort(exits)
	slices.Sort(counts)
	for _, sup := range slices.Sorted(maps.Keys(events)) {
		exits = append(exits, events[sup]...)
	}
	return slices.Concat(exits, plain, counts)
}

// take returns what happened since the last take, who was answered, and the tree.
func (w *naiveWorld) take() []string {
	slices.SortFunc(w.answers, func(a, b callResult) int { return a.call - b.call })
	for _, a := range w.answers {
		w.trace = append(w.trace, a.text)
	}
	w.answers = nil
	if w.root == nil || w.root.dead {
		w.trace = append(w.trace, fmt.Sprintf("no tree: %v", actors.NoProcess))
	} else {
		w.trace = append(w.trace, fmt.Sprintf("tree of %s since %v%s", w.root.node.path, w.root.sup.since.Sub(epoch), w.root.sup.text()))
		w.root.sup.list(1)
	}
	t := w.plainly(w.trace)
	w.trace = nil
	return t
}

func (s *naiveSup) list(depth int) {
	n := Counts{Specs: len(s.kids)}
	if s.p.node.dynamic() {
		n.Specs = 1
	}
	for _, k := range s.kids {
		if k.p != nil {
			n.Active++
		}
		if k.n.sup != nil {
			n.Supervisors++
		} else {
			n.Workers++
		}
	}
	s.w.trace = append(s.w.trace, countsText(s.p.label, n, nil))
	for _, k := range s.kids {
		info, label := k.info(s)
		line := listText(depth, s.p.label, info, label)
		if k.p == nil || k.p.sup == nil {
			s.w.trace = append(s.w.trace, line)
			continue
		}
		s.w.trace = append(s.w.trace, line+k.p.sup.text())
		k.p.sup.list(depth + 1)
	}
}

// text is what a supervisor says of itself.
func (s *naiveSup) text() string {
	n, intensity, period := s.recent()
	return supText(SupervisorInfo{
		Strategy: s.p.node.sup.Strategy, AutoShutdown: s.p.node.sup.AutoShutdown, Restarts: n, Intensity: intensity, Period: period,
	})
}

// spec is what a supervisor keeps of a child's spec, and, of a template, always all of it.
func (k *naiveKid) spec(s *naiveSup) ChildSpec {
	spec := k.n.child
	switch {
	case spec.Shutdown != 0:
	case k.n.sup != nil:
		spec.Shutdown = Infinity
	default:
		spec.Shutdown = After(5 * time.Second)
	}
	start := func(*actors.Context) (*actors.PID, error) { return nil, nil }
	switch {
	case s.p.node.dynamic():
		spec.StartWith = func(c *actors.Context, _ any) (*actors.PID, error) { return start(c) }
	case spec.Restart != Temporary:
		spec.Start = start
	}
	return spec
}

// info is what a supervisor says of a child, and the name of its process.
func (k *naiveKid) info(s *naiveSup) (i ChildInfo, label string) {
	i = ChildInfo{
		ID: k.n.child.ID, Type: k.n.child.Type, Restart: k.n.child.Restart, State: k.state, Since: k.since,
		Incarnation: k.incarnation, Restarts: k.restarts, LastExit: k.last,
	}
	if s.p.node.dynamic() {
		i.ID = ""
	}
	if k.state == "restarting" {
		i.RetryAt = k.due
	}
	if k.p == nil {
		return i, "-"
	}
	return i, k.p.label
}

// childrenOf returns the living processes that a supervisor has.
func (w *naiveWorld) childrenOf(sup string) (labels []string) {
	for _, k := range w.alive[sup].sup.kids {
		if k.p != nil && !k.p.dead {
			labels = append(labels, k.p.label)
		}
	}
	return labels
}
