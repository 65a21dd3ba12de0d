package supervisor

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	trees = flag.Int("trees", 300, "how many random trees TestMetamorphic tells stories of")
	seed  = flag.Uint64("seed", 1, "the seed of the first tree; each of the others has that of the one before plus one")
)

// TestMetamorphic tells random stories of random trees to real supervisors and to their machines alone; what can be seen
// of them must be the same in every detail: each start, event, death, answer, and listing, and in between who did something
// when. Half of the stories are plain ones, in which supervisors that are written the simple way must have come to the same
// state, the same answers and the same events, after each thing that happened.
//
// A story that fails is printed with its seed. To see it again: go test ./supervisor -run TestMetamorphic -seed N -trees 1
func TestMetamorphic(t *testing.T) {
	seen := map[string]int{}
	const perHouse = 50
	for first := 0; first < *trees && !t.Failed(); first += perHouse {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse()
			defer func() { require.NoError(t, h.sys.Close(context.Background())) }()
			for i := range min(perHouse, *trees-first) {
				newTelling(t, h, *seed+uint64(first+i), seen).tell()
			}
		})
	}
	for _, what := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%8d %s", seen[what], what)
	}
}

// farAway is after the end of all stories.
var farAway = epoch.AddDate(100, 0, 0)

// stage is where a story is told.
type stage interface {
	do(o op)
	// ready returns how many processes have something to do, run lets one of them do it.
	ready() int
	run(i int)
	time() *stepClock
	fire(t *stepTimer)
	planned() *plans
	// take returns what has happened since it was called last, and how things are. It is called at rest.
	take() []string
}

// telling is one telling.
type telling struct {
	t      *testing.T
	seed   uint64
	teller *teller
	real   *realWorld
	model  *modelWorld
	naive  *naiveWorld // nil unless plain
	turns  [2]*rand.Rand
	ops    []op
	seen   map[string]int
}

func newTelling(t *testing.T, h *house, seed uint64, seen map[string]int) *telling {
	s := &telling{t: t, seed: seed, real: newRealWorld(h), model: newModelWorld(), seen: seen}
	plain := seed%2 == 0
	s.teller = newTeller(seed, plain)
	s.teller.children = s.real.childrenOf
	if plain {
		s.naive = newNaiveWorld()
	}
	for i := range s.turns {
		s.turns[i] = rand.New(rand.NewPCG(seed, 2))
	}
	return s
}

func (s *telling) tell() {
	defer func() { require.NoErrorf(s.t, s.real.end(), "seed %d", s.seed) }()
	root, plan := s.teller.tree()
	for _, o := range plan {
		s.tellOne(o)
	}
	s.tellOne(s.teller.call(op{kind: opBoot, node: root}))
	s.rest()
	for _, sup := range s.cast().sups {
		if s.teller.nodes[pathOf(sup)].dynamic() && s.teller.chance(80) {
			s.tellAll(s.teller.populate(sup))
			s.rest()
		}
	}
	for n := 5 + s.teller.rng.IntN(25); n > 0 && s.rest(); n-- {
		if s.naive != nil {
			s.plainly()
		} else {
			s.atRandom()
		}
	}
	s.rest()
	c := s.cast()
	if len(c.sups) > 0 && s.teller.chance(70) {
		s.tellOne(s.teller.call(op{kind: opStop, target: c.sups[0], reason: s.teller.signal()}))
		s.rest()
		s.tellOne(op{kind: opSettle})
	}
}

// rest lets everybody come to rest, compares, and reports whether the story can go on.
func (s *telling) rest() bool {
	if s.naive != nil {
		return s.tellOne(op{kind: opSettle}) && s.real.root.Alive()
	}
	return s.tellOne(op{kind: opRest}) && len(s.cast().sups) > 0
}

// atRandom lets a few things happen, one while others are not over yet.
func (s *telling) atRandom() {
	t := s.teller
	for range 1 + t.rng.IntN(4) {
		if c := s.cast(); len(c.sups) > 0 {
			s.tellAll(t.next(c))
		}
		if t.chance(50) {
			s.tellOne(op{kind: opTurns, turns: 1 + t.rng.IntN(6)})
		}
	}
	if t.chance(40) {
		s.tellOne(op{kind: opRest})
		d := among(t, time.Millisecond, 200*time.Millisecond, 500*time.Millisecond, time.Second, 3*time.Second, 10*time.Second)
		s.tellOne(op{kind: opAdvance, d: d})
	}
}

// plainly lets one thing happen, or several to one supervisor.
func (s *telling) plainly() {
	t := s.teller
	c := s.naiveCast()
	if t.chance(15) {
		s.tellOne(op{kind: opAdvance, d: among(t, time.Millisecond, time.Second, 6*time.Second)})
	}
	if t.chance(60) {
		s.tellAll(t.next(c))
		return
	}
	sup := among(t, c.sups...)
	s.tellAll(t.commotion(sup, s.naive.childrenOf(sup)))
	for t.chance(40) {
		// What is under way there goes on meanwhile.
		s.tellOne(op{kind: opAdvance, d: among(t, 100*time.Millisecond, 260*time.Millisecond, time.Second)})
		if s.naive.alive[sup] == nil {
			return
		}
		living := s.naive.childrenOf(sup)
		if child := among(t, append(living, "")...); child != "" && s.naive.alive[child].sup == nil && t.chance(50) {
			s.tellOne(op{kind: opDie, target: child, reason: t.reason()})
		} else {
			s.tellAll(t.commotion(sup, living))
		}
	}
	for s.rest() && s.naive.alive[sup] != nil && t.chance(50) {
		s.tellOne(t.question(sup))
	}
}

// cast returns the living processes, the oldest first.
func (s *telling) cast() (c cast) {
	for _, p := range s.real.unseen {
		switch {
		case !p.pid.Alive():
		case p.node.sup != nil:
			c.sups = append(c.sups, p.label)
		default:
			c.workers = append(c.workers, p.label)
		}
	}
	return c
}

// naiveCast returns those of the tree.
func (s *telling) naiveCast() (c cast) {
	for _, label := range slices.Sorted(maps.Keys(s.naive.alive)) {
		if s.naive.alive[label].sup != nil {
			c.sups = append(c.sups, label)
		} else {
			c.workers = append(c.workers, label)
		}
	}
	return c
}

func (s *telling) tellAll(ops []op) {
	for _, o := range ops {
		s.tellOne(o)
	}
}

// tellOne lets o happen in all worlds. At a rest it compares them.
func (s *telling) tellOne(o op) bool {
	if s.naive != nil {
		o = s.ahead(o)
	}
	s.ops = append(s.ops, o)
	s.seen["op "+o.kind.String()]++
	got := s.in(s.real, s.turns[0], o)
	if !s.agree("the machine alone", s.in(s.model, s.turns[1], o), "real", got) {
		return false
	}
	for _, line := range got {
		s.count(line)
	}
	return s.naive == nil || s.naively(o, got)
}

// ahead lets naiveWorld take its time before the others do, since it cannot stand still in the middle of something. It
// returns what the others are to do.
func (s *telling) ahead(o op) op {
	switch o.kind {
	case opAdvance:
		if s.naive.settle(s.naive.now.Add(o.d)) {
			return o
		}
		o = op{kind: opSettle}
		fallthrough
	case opSettle:
		s.naive.settle(farAway)
	}
	return o
}

// naively lets o happen in naiveWorld, and compares it with what was got in the real one.
func (s *telling) naively(o op, got []string) bool {
	switch o.kind {
	case opPlan, opUsual:
		s.naive.plans.change(o)
		return true
	case opSettle, opAdvance:
	default:
		s.naive.do(o)
		return true
	}
	now, late := s.real.clock.Now(), s.naive.now
	if !late.After(now) {
		s.naive.now = now // it does not know who else has lost his supervisor and takes his time
	}
	want, got := s.naive.take(), s.naive.plainly(got)
	if late.After(now) {
		want = append(want, "all that took until "+late.String())
		got = append(got, "all that took until "+now.String())
	}
	return s.agree("the simple one", want, "real", got)
}

// in lets o happen in w, and returns what can be seen then, if o leads to a rest.
func (s *telling) in(w stage, turns *rand.Rand, o op) []string {
	switch o.kind {
	case opPlan, opUsual:
		w.planned().change(o)
		return nil
	case opTurns:
		for n := o.turns; n > 0 && s.run(w, turns); n-- {
		}
		return nil
	case opRest:
		s.settle(w, turns)
	case opAdvance, opSettle:
		end := w.time().Now().Add(o.d)
		s.settle(w, turns)
		for t := w.time().due(); t != nil && (o.kind == opSettle || !t.at.After(end)); t = w.time().due() {
			w.fire(t)
			s.settle(w, turns)
		}
		if o.kind == opAdvance {
			w.time().set(end)
		}
	default:
		w.do(o)
		return nil
	}
	return w.take()
}

func (s *telling) run(w stage, turns *rand.Rand) bool {
	n := w.ready()
	if n == 0 {
		return false
	}
	w.run(turns.IntN(n))
	return true
}

// settle lets everybody do what there is to do now.
func (s *telling) settle(w stage, turns *rand.Rand) {
	for n := 0; s.run(w, turns); n++ {
		if n > 100_000 {
			s.fail("it does not come to rest")
		}
	}
}

// agree compares what two worlds have seen.
func (s *telling) agree(whose string, want []string, others string, got []string) bool {
	if slices.Equal(want, got) {
		return true
	}
	i := 0
	for i < len(want) && i < len(got) && want[i] == got[i] {
		i++
	}
	context := strings.Join(want[max(0, i-25):i], "\n")
	s.fail(fmt.Sprintf("%s\n--- %s:\n%s\n--- %s:\n%s", context,
		whose, strings.Join(want[i:min(i+12, len(want))], "\n"), others, strings.Join(got[i:min(i+12, len(got))], "\n")))
	return false
}

// fail prints the story.
func (s *telling) fail(how string) {
	s.t.Helper()
	var b strings.Builder
	for _, o := range s.ops {
		fmt.Fprintf(&b, "%v\n", o)
	}
	s.t.Fatalf("seed %d\n%s\n%s", s.seed, b.String(), how)
}

// count notes what a story has brought about.
func (s *telling) count(line string) {
	f := strings.Fields(line)
	switch {
	case f[0] == "event":
		s.seen["event "+f[3]]++
	case f[0] == "start":
		s.seen["start "+f[2]]++
	case f[0] == "turn", f[0] == "dead", f[0] == "counts":
		s.seen[f[0]]++
	case f[0] == "answer":
		s.seen["answer "+answerKind(strings.Join(f[4:], " "))]++
	case line[0] == ' ':
		s.seen["listed "+f[3]]++
	}
}

// answerKind is an answer without its names.
func answerKind(answer string) string {
	for _, kind := range []string{
		"pid=", "is taken", "start=", "failed to start child", "is already started", "gave up", "start function", "no start", "significant", "panic",
	} {
		if strings.Contains(answer, kind) {
			return kind
		}
	}
	return answer
}
