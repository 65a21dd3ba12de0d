package supervisor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// teller makes up a story: a tree, and then one thing after the other, each fitting what has become of the tree by then.
type teller struct {
	rng   *rand.Rand
	plain bool // nothing that could happen in two orders: for naiveWorld
	calls int
	added int
	ids   map[string][]string // of the children that a supervisor, by its path, has or had
	nodes map[string]*node
	// children names the processes that are or were children of a process, the youngest last.
	children func(label string) []string
}

func newTeller(seed uint64, plain bool) *teller {
	return &teller{
		rng: rand.New(rand.NewPCG(seed, 1)), plain: plain, ids: map[string][]string{}, nodes: map[string]*node{},
	}
}

func (t *teller) chance(percent int) bool { return t.rng.IntN(100) < percent }

// among picks one of several; repeat those that shall come more often.
func among[T any](t *teller, of ...T) T { return of[t.rng.IntN(len(of))] }

const maxDepth = 3

// tree makes up a tree, and what its first starts lead to.
func (t *teller) tree() (root *node, plan []op) {
	root = &node{path: "r", child: ChildSpec{ID: "r"}}
	t.nodes[root.path] = root
	t.fill(root, 1, &plan)
	return root, plan
}

// fill makes a supervisor of n.
func (t *teller) fill(n *node, depth int, plan *[]op) {
	n.child.Type = TypeSupervisor
	n.sup = &Spec{
		Strategy:     among(t, OneForOne, OneForAll, RestForOne, SimpleOneForOne),
		Intensity:    among(t, Never, 0, 2, 2, 3, 5),
		Period:       among(t, 0, time.Second, 10*time.Second),
		AutoShutdown: among(t, AutoShutdownNever, AutoShutdownNever, AnySignificant, AllSignificant),
	}
	if t.chance(30) {
		n.sup.Backoff = Backoff{Min: among(t, 250*time.Millisecond, 900*time.Millisecond), Max: among(t, 0, 1600*time.Millisecond)}
	}
	if depth == 1 { // the stories would be short
		n.sup.Strategy = among(t, OneForOne, OneForOne, OneForAll, RestForOne)
		n.sup.Intensity = among(t, 0, 3, 5, 10)
		n.sup.AutoShutdown = among(t, AutoShutdownNever, AutoShutdownNever, AutoShutdownNever, AnySignificant, AllSignificant)
	}
	if n.dynamic() {
		n.sup.AutoShutdown = AutoShutdownNever
		n.children = []*node{t.child(n, "w", depth+1, plan)}
		return
	}
	for i := range 1 + t.rng.IntN(4) {
		n.children = append(n.children, t.child(n, fmt.Sprintf("%c", 'a'+i), depth+1, plan))
	}
}

// rules makes up what a supervisor knows of a child.
func (t *teller) rules(parent *node, id string) *node {
	n := &node{path: parent.path + "/" + id}
	n.child = ChildSpec{
		ID:       id,
		Restart:  among(t, Permanent, Permanent, Transient, Temporary),
		Shutdown: among(t, 0, 0, BrutalKill, After(time.Second), After(3*time.Second), Infinity),
	}
	if parent.sup.AutoShutdown != AutoShutdownNever {
		n.child.Restart = among(t, Permanent, Transient, Transient, Temporary)
		n.child.Significant = n.child.Restart != Permanent && t.chance(70)
	}
	return n
}

// child makes up a child of a supervisor.
func (t *teller) child(parent *node, id string, depth int, plan *[]op) *node {
	n := t.rules(parent, id)
	if depth <= maxDepth && t.chance(35) {
		t.fill(n, depth, plan)
		n.child.Shutdown = among(t, 0, 0, 0, Infinity, BrutalKill)
		if !t.plain && t.chance(20) {
			n.child.Shutdown = After(1500 * time.Millisecond)
		}
		return t.know(parent, n)
	}
	n.named = !t.plain && t.chance(30)
	usual := behaviour{trap: t.chance(50)}
	if usual.trap || !t.plain {
		t.slow(n, &usual)
	}
	*plan = append(*plan, op{kind: opUsual, path: n.path, plan: []behaviour{usual}})
	if t.chance(8) {
		*plan = append(*plan, op{kind: opPlan, path: n.path, plan: []behaviour{t.start(n)}})
	}
	return t.know(parent, n)
}

// slow makes up how a worker stops.
func (t *teller) slow(n *node, b *behaviour) {
	if !b.trap || t.chance(60) {
		return
	}
	b.stop = among(t, stopLate, stopLate, stopStuck, stopOther, stopNever)
	b.stopDelay = among(t, 300*time.Millisecond, 700*time.Millisecond, 2*time.Second, 4*time.Second)
	if t.plain && b.stop == stopNever && (n.child.Shutdown == Infinity || n.child.Shutdown == BrutalKill) {
		b.stop = stopLate // or nobody would ever come to rest
	}
}

// start makes up a start that is not as usual.
func (t *teller) start(n *node) behaviour {
	b := behaviour{start: among(t,
		initFails, initFails, initFails, initIgnores, initIgnores, initPanics, funcFails, funcFails, funcIgnores, funcPanics, funcNil, funcTaken, funcBoth, funcOwn, funcOther, startOK, startOK)}
	if b.start == startOK || t.chance(20) {
		b.trap = t.chance(50)
		b.initDelay = among(t, 400*time.Millisecond, 1100*time.Millisecond)
		b.initLimit = among(t, 0, 0, time.Second)
		t.slow(n, &b)
	}
	if b.start == startOK && !t.plain && t.chance(40) {
		b.initDelay = 0
		b.instant = t.reason()
	}
	return b
}

func (t *teller) know(parent, n *node) *node {
	t.ids[parent.path] = append(t.ids[parent.path], n.child.ID)
	t.nodes[n.path] = n
	return n
}

// reason makes up a reason to die of. A worker that panics does so in its own way.
func (t *teller) reason() error {
	return among(t, errBoomed, errBoomed, errBoomed, actors.Normal, actors.Normal, actors.Shutdown, errDetailed, errPanics, actors.Killed)
}

// signal makes up the reason of an exit signal.
func (t *teller) signal() error {
	return among(t, errBoomed, errBoomed, actors.Normal, actors.Shutdown, errDetailed)
}

func (t *teller) call(o op) op {
	t.calls++
	o.call = t.calls
	return o
}

// cast is those to whom something can happen. There is always a supervisor.
type cast struct{ workers, sups []string }

// next makes up what happens to one of those who live.
func (t *teller) next(c cast) []op {
	if len(c.workers) > 0 {
		worker := among(t, c.workers...)
		switch p := t.rng.IntN(100); {
		case p < 24:
			return []op{{kind: opDie, target: worker, reason: t.reason()}}
		case p < 30:
			return []op{{kind: opKill, target: worker}}
		case p < 33:
			return []op{{kind: opExit, target: worker, reason: t.signal()}}
		case p < 36:
			return []op{t.call(op{kind: opStop, target: worker, reason: t.signal()})}
		case p < 38:
			return []op{{kind: opUnlink, target: worker}}
		case p < 40:
			return []op{{kind: opSignal, target: worker, reason: t.signal()}}
		case p < 52:
			return t.plans(pathOf(worker))
		}
	}
	sup := among(t, c.sups...)
	if p := t.rng.IntN(100); p < 25 && (sup != c.sups[0] || t.chance(10)) {
		switch {
		case p < 10:
			return []op{{kind: opKill, target: sup}}
		case p < 14:
			return []op{{kind: opExit, target: sup, reason: t.signal()}}
		case p < 20:
			return []op{t.call(op{kind: opStop, target: sup, reason: t.signal()})}
		default:
			return t.plans(pathOf(sup))
		}
	}
	return t.admin(sup)
}

// plans makes up what the next starts of a child lead to.
func (t *teller) plans(path string) []op {
	n := t.nodes[path]
	if n.sup == nil && t.chance(30) {
		usual := behaviour{trap: t.chance(50)}
		t.slow(n, &usual)
		return []op{{kind: opUsual, path: path, plan: []behaviour{usual}}}
	}
	o := op{kind: opPlan, path: path}
	for range 1 + t.rng.IntN(4) {
		o.plan = append(o.plan, t.start(n))
	}
	return []op{o}
}

// admin makes up a call of the child administration.
func (t *teller) admin(sup string) []op {
	path := pathOf(sup)
	id := "nobody"
	if ids := t.ids[path]; len(ids) > 0 && !t.chance(5) {
		id = among(t, ids...)
	}
	dynamic := t.nodes[path].dynamic()
	if t.chance(8) {
		dynamic = !dynamic // it is refused
	}
	p := t.rng.IntN(100)
	if dynamic {
		switch child := t.familiar(sup); {
		case p < 60 || child == "":
			return t.dynamic(sup, id)
		case p < 80:
			return []op{t.call(op{kind: opTermPID, target: sup, child: child})}
		default:
			return []op{t.call(op{kind: among(t, opWhichPID, opWhichPID, opSpecPID), target: sup, child: child})}
		}
	}
	switch {
	case p < 30:
		return t.addition(sup, id)
	case p < 55:
		return []op{t.call(op{kind: opTerm, target: sup, id: id})}
	case p < 80:
		return []op{t.call(op{kind: opRestart, target: sup, id: id})}
	case p < 93:
		return []op{t.call(op{kind: opDelete, target: sup, id: id})}
	default:
		return []op{t.call(op{kind: among(t, opWhich, opSpec), target: sup, id: id})}
	}
}

// question asks a supervisor about a child.
func (t *teller) question(sup string) op {
	if t.nodes[pathOf(sup)].dynamic() {
		return t.call(op{kind: among(t, opWhichPID, opWhichPID, opSpecPID), target: sup, child: t.familiar(sup)})
	}
	return t.call(op{kind: among(t, opWhich, opSpec), target: sup, id: among(t, t.ids[pathOf(sup)]...)})
}

// familiar names a process that is or was a child of a supervisor, or a stranger.
func (t *teller) familiar(sup string) string {
	if children := t.children(sup); len(children) > 0 && !t.chance(5) {
		return children[len(children)-1-t.rng.IntN(min(len(children), 6))]
	}
	return sup
}

// dynamic makes up a StartChildWith: of a new child, or with an argument that there was.
func (t *teller) dynamic(sup, arg string) (ops []op) {
	parent := t.nodes[pathOf(sup)]
	if t.chance(70) {
		t.added++
		arg = fmt.Sprintf("d%d", t.added)
	}
	if parent.dynamic() && t.nodes[parent.path+"/"+arg] == nil {
		n := parent.children[0].as(arg)
		t.know(parent, n)
		t.settle(n)
		if n.sup == nil {
			usual := behaviour{trap: t.chance(50)}
			t.slow(n, &usual)
			ops = []op{{kind: opUsual, path: n.path, plan: []behaviour{usual}}}
		}
		if t.chance(20) {
			ops = append(ops, op{kind: opPlan, path: n.path, plan: []behaviour{t.start(n)}})
		}
	}
	return append(ops, t.call(op{kind: opStartWith, target: sup, id: arg}))
}

// populate makes up the first children of a supervisor that has none.
func (t *teller) populate(sup string) (ops []op) {
	for range 1 + t.rng.IntN(4) {
		ops = append(ops, t.dynamic(sup, "first")...)
	}
	return ops
}

// settle knows those below a copy of a template.
func (t *teller) settle(n *node) {
	for _, c := range n.children {
		t.know(n, c)
		t.settle(c)
	}
}

// addition makes up a StartChild: of a new child, or under an id that is or was there.
func (t *teller) addition(sup, id string) (ops []op) {
	path := pathOf(sup)
	if t.chance(5) {
		faulty := ChildSpec{ID: id, Restart: Permanent, Significant: t.chance(50)}
		return []op{t.call(op{kind: opFaulty, target: sup, node: &node{path: path + "/?", child: faulty}})}
	}
	if t.chance(60) {
		t.added++
		id = fmt.Sprintf("x%d", t.added)
	}
	parent := t.nodes[path]
	n := t.rules(parent, id)
	known := t.nodes[n.path]
	switch {
	case parent.dynamic(): // it is refused
	case known != nil:
		// The rules may be others, but under one path there is always the same sort of process.
		n.sup, n.children, n.child.Type = known.sup, known.children, known.child.Type
		n.child.Shutdown, n.named = known.child.Shutdown, known.named
	default:
		n = t.child(parent, id, strings.Count(path, "/")+2, &ops)
	}
	return append(ops, t.call(op{kind: opStart, target: sup, node: n}))
}

// commotion makes up several things that reach one supervisor at the same moment, in this order. living are its children.
func (t *teller) commotion(sup string, living []string) (ops []op) {
	if t.plain {
		// Reading is answered at once, and what is read depends on how far the supervisor has come.
		defer func() {
			ops = slices.DeleteFunc(ops, func(o op) bool {
				return slices.Contains([]opKind{opWhich, opWhichPID, opSpec, opSpecPID}, o.kind)
			})
		}()
	}
	for range 2 + t.rng.IntN(3) {
		if len(living) == 0 || t.chance(40) {
			ops = append(ops, t.admin(sup)...)
			continue
		}
		i := t.rng.IntN(len(living))
		child := living[i]
		living = append(living[:i:i], living[i+1:]...)
		if t.chance(40) {
			o := op{kind: opPlan, path: pathOf(child)}
			for range 1 + t.rng.IntN(3) {
				o.plan = append(o.plan, behaviour{start: among(t, initFails, funcFails, initIgnores, initPanics, startOK)})
			}
			ops = append(ops, o)
		}
		o := op{kind: opKill, target: child}
		if t.chance(30) {
			o = op{kind: opExit, target: child, reason: t.signal()} // not all of them care
		}
		ops = append(ops, o)
		for range t.rng.IntN(3) {
			ops = append(ops, t.about(sup, child)...)
		}
	}
	return ops
}

// about makes up a call about a child that has just been killed.
func (t *teller) about(sup, child string) []op {
	id := t.nodes[pathOf(child)].child.ID
	if t.nodes[pathOf(sup)].dynamic() {
		return []op{t.call(op{kind: among(t, opTermPID, opWhichPID), target: sup, child: child})}
	}
	switch kind := among(t, opTerm, opRestart, opRestart, opDelete, opWhich, opStart); kind {
	case opStart:
		return t.addition(sup, id)
	default:
		return []op{t.call(op{kind: kind, target: sup, id: id})}
	}
}

// pathOf is the path of the child that a process is an incarnation of.
func pathOf(label string) string {
	path, _, _ := strings.Cut(label, "#")
	return path
}
