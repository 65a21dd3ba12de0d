package dcp

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// site is a manager machine with everything around it: callers of several epochs, links that start, come up, crash, give up
// and stop, and an engine that has the streams. Its own books say what must hold.
type site struct {
	t   *rapid.T
	m   *managerMachine
	now time.Time

	links   map[linkKey]*siteLink
	streams map[uint16]linkKey
	// outcomes are what goroutines of the process will tell.
	outcomes []func(err error)

	ids     callID
	waiting map[callID]bool
	owners  map[uint16]siteOwner
	// preparing are those of the calls that wait for an epoch; failed are the takeovers that may be under way at the engine,
	// with the incarnation that was told of them. prepared says that the last epoch asked for has been prepared.
	preparing map[callID]bool
	failed    map[siteTakeover]uint64
	prepared  bool
}

type siteTakeover struct {
	vb  uint16
	key linkKey
}

type siteOwner struct {
	name  string
	epoch uint64
}

type siteLink struct {
	phase       linkPhase // starting, connecting, up or stopping
	incarnation uint64
	calls       []callLink
	dead        bool
}

const staleProducer = "of a stale request"

var siteProducers = []string{"n1", "n2", "n3"}

func newSite(t *rapid.T) *site {
	limits := Limits{Calls: 6, Links: 4, Backlog: 4, Suspects: 2}
	s := &site{
		t: t, m: newManagerMachine("orders", "n9", 2, limits), now: time.Unix(1000, 0),
		links: map[linkKey]*siteLink{}, streams: map[uint16]linkKey{},
		waiting: map[callID]bool{}, owners: map[uint16]siteOwner{},
		preparing: map[callID]bool{}, failed: map[siteTakeover]uint64{},
	}
	s.m.jitter = func(d time.Duration) time.Duration { return d / 3 }
	return s
}

// event lets something happen to the machine that is no request: what is wanted stays, or becomes what it was before the
// request that is under way, or what the next one asks for.
func (s *site) event(f func()) {
	may := map[uint16][]string{}
	for vb, r := range s.m.replicas {
		may[vb] = []string{r.desired}
		if r.work != nil {
			may[vb] = append(may[vb], r.work.previous)
		}
		if r.next != nil && r.next.kind == workSet {
			may[vb] = append(may[vb], r.next.producer)
		} else if r.next != nil {
			may[vb] = append(may[vb], "")
		}
	}
	s.happen(f)
	desired := s.m.status().Desired
	for vb := range uint16(5) {
		if may[vb] == nil {
			may[vb] = []string{""}
		}
		require.Contains(s.t, may[vb], desired[vb], "vb %d is wanted though nobody asked for it", vb)
	}
}

// happen performs what the machine decides and looks at the books.
func (s *site) happen(f func()) {
	f()
	for effects := s.m.take(); len(effects) > 0; effects = s.m.take() {
		for _, e := range effects {
			s.perform(e)
		}
	}
	for _, producer := range s.m.status().Desired {
		require.NotEqual(s.t, staleProducer, producer)
	}
	s.check()
}

func (s *site) perform(e managerEffect) {
	switch e := e.(type) {
	case startLink:
		require.NotContains(s.t, s.links, e.key, "started twice")
		require.NotEqual(s.t, staleProducer, e.key.producer)
		s.links[e.key] = &siteLink{phase: linkStarting}
	case stopLink:
		s.running(e.key).phase = linkStopping
	case callLink:
		l := s.running(e.key)
		l.calls = append(l.calls, e)
		s.sent(e)
	case cancelLink:
		if l := s.running(e.key); l.phase == linkConnecting {
			s.fail(l, ErrSuperseded, 0)
		}
	case resetLink:
		s.running(e.key)
		s.outcomes = append(s.outcomes, func(error) {
			if l := s.links[e.key]; l != nil && l.phase == linkUp {
				s.crash(e.key, l, ErrFenced, nil)
			}
		})
	case fenceTakeover:
		s.byName(e.key, e.byName)
		s.outcomes = append(s.outcomes, func(err error) {
			if err == nil {
				s.fenced(e.key, e.after)
			}
			s.m.takeoverFenced(e.key, e.after, err)
		})
	case fenceLink:
		s.byName(e.key, e.byName)
		s.outcomes = append(s.outcomes, func(err error) { s.m.fenced(e.call, err) })
	case nukeLeftovers:
		s.outcomes = append(s.outcomes, s.m.nuked)
	case nukeStrangers:
		s.outcomes = append(s.outcomes, func(err error) { s.m.strangersNuked(len(e.ours)%2, err, s.now) })
	case answerManager:
		require.True(s.t, s.waiting[e.call], "call %d is answered twice", e.call)
		delete(s.waiting, e.call)
		if s.preparing[e.call] && e.err == nil {
			require.Empty(s.t, s.failed, "an epoch is prepared before these takeovers are fenced")
			s.prepared = true
		}
	case publishManager:
	}
}

func (s *site) running(key linkKey) *siteLink {
	l := s.links[key]
	require.NotNil(s.t, l, "no such link")
	require.True(s.t, l.phase == linkConnecting || l.phase == linkUp, "the link is %v", l.phase)
	return l
}

func (s *site) byName(key linkKey, byName bool) {
	l := s.links[key]
	require.Equal(s.t, l == nil || l.phase == linkStopping, byName)
}

// sent looks at what the manager asks an engine for by itself.
func (s *site) sent(call callLink) {
	for _, w := range s.m.sent[call.id].works {
		if !w.own {
			continue
		}
		owner, owned := s.owners[w.replica.vb]
		require.False(s.t, owned, "vb %d is restored though %q is at work on it", w.replica.vb, owner.name)
		require.Empty(s.t, s.m.prepares, "begun while an epoch is being prepared")
		if w.replica.failures > 0 {
			require.Len(s.t, call.changes, 1, "a suspect is not alone")
			require.Len(s.t, s.links[call.key].calls, 1, "a suspect is not alone")
		}
	}
}

func (s *site) check() {
	require.Empty(s.t, s.m.batches)
	require.LessOrEqual(s.t, len(s.m.calls)+len(s.m.fences), s.m.limits.Calls)
	require.LessOrEqual(s.t, len(s.m.prepares), s.m.limits.Calls)
	require.LessOrEqual(s.t, len(s.m.links), s.m.limits.Links)
	backlog := map[linkKey]int{}
	for _, b := range s.m.sent {
		backlog[b.key] += len(b.changes)
	}
	reasons := s.m.reasons()
	if s.m.known != nil {
		require.Equal(s.t, reasons, s.m.known)
	}
	for vb, r := range s.m.lost {
		require.Same(s.t, s.m.replicas[vb], r)
		require.False(s.t, r.has)
	}
	for key, l := range s.m.links {
		there := s.links[key]
		require.Equal(s.t, l.phase == linkDown, there == nil, "link %v is %v", key, l.phase)
		require.Equal(s.t, backlog[key], l.backlog)
		require.LessOrEqual(s.t, l.backlog, s.m.limits.Backlog)
		if l.runs() && !reasons[key] && l.backlog == 0 && !l.idleSince.IsZero() {
			require.Less(s.t, s.now.Sub(l.idleSince), idleLimit+time.Minute, "a link without reason")
		}
	}
	for key := range s.links {
		require.Contains(s.t, s.m.links, key, "a forgotten link")
	}
	for vb, r := range s.m.replicas {
		if l := s.links[r.on]; r.has && (l == nil || !l.dead) {
			require.Equal(s.t, r.on, s.streams[vb], "a ghost stream of vb %d", vb)
		}
		if r.work == nil {
			require.Nil(s.t, r.next)
		}
		require.False(s.t, r.desired == "" && !r.has && r.work == nil, "vb %d is remembered for nothing", vb)
	}
	for vb, on := range s.streams {
		r := s.m.replicas[vb]
		require.True(s.t, r != nil && (r.has && r.on == on || r.work != nil), "the stream of vb %d is forgotten", vb)
	}
}

// request is one of a caller, of the current epoch or another one.
func (s *site) request() {
	s.ids++
	id := s.ids
	s.waiting[id] = true
	epoch := s.m.epoch
	producer := rapid.SampledFrom(siteProducers)
	stale := rapid.IntRange(0, 7).Draw(s.t, "stale") == 0
	if stale {
		epoch += rapid.SampledFrom([]uint64{1, 1 << 40}).Draw(s.t, "epoch")
		producer = rapid.Just(staleProducer)
	}
	stale = stale || !s.prepared
	owner := rapid.SampledFrom([]string{"", "move", "janitor"}).Draw(s.t, "owner")
	vb := rapid.Uint16Range(0, 4)
	kind := rapid.IntRange(0, 6).Draw(s.t, "kind")
	s.happen(func() {
		switch kind {
		case 0, 1:
			changes := rapid.MapOfN(vb, rapid.OneOf(producer, rapid.Just("")), 0, 4).Draw(s.t, "changes")
			s.own(id, owner, slices.Collect(maps.Keys(changes)), func() { s.m.apply(id, epoch, owner, changes, s.now) })
		case 2:
			v := vb.Draw(s.t, "vb")
			from := producer.Draw(s.t, "producer")
			s.own(id, owner, []uint16{v}, func() { s.m.takeover(id, epoch, owner, v, from, s.now) })
		case 3:
			wanted := rapid.MapOfN(vb, producer, 0, 3).Draw(s.t, "wanted")
			s.own(id, "", slices.Collect(maps.Keys(wanted)), func() { s.m.want(id, epoch, wanted, s.now) })
		case 4:
			wanted := rapid.MapOfN(vb, producer, 0, 3).Draw(s.t, "wanted")
			s.own(id, owner, slices.Collect(maps.Keys(s.m.replicas)), func() { s.m.retain(id, epoch, owner, wanted, s.now) })
		case 5:
			before := len(s.m.out)
			s.m.release(id, epoch, owner)
			if s.accepted(id, before) {
				maps.DeleteFunc(s.owners, func(_ uint16, o siteOwner) bool { return o.name == owner })
			}
		case 6:
			s.m.fence(id, vb.Draw(s.t, "vb"), rapid.SampledFrom(siteProducers).Draw(s.t, "producer"))
		}
	})
	if stale && kind != 6 {
		require.False(s.t, s.waiting[id], "a stale request is refused at once")
	}
}

// own notes who is at work, if the request is accepted.
func (s *site) own(id callID, owner string, vbs []uint16, f func()) {
	before := len(s.m.out)
	// The owner counts from the moment of the request, whatever it leads to.
	old := maps.Clone(s.owners)
	for _, vb := range vbs {
		delete(s.owners, vb)
		if owner != "" {
			s.owners[vb] = siteOwner{name: owner, epoch: s.m.epoch}
		}
	}
	f()
	if !s.accepted(id, before) {
		s.owners = old
	}
	maps.DeleteFunc(s.owners, func(vb uint16, _ siteOwner) bool { return s.m.replicas[vb] == nil })
}

// accepted reports whether a request has not been refused by what the machine has said since before.
func (s *site) accepted(id callID, before int) bool {
	return !slices.ContainsFunc(s.m.out[before:], func(e managerEffect) bool {
		var apply *ApplyError
		a, ok := e.(answerManager)
		return ok && a.call == id && a.err != nil && !errors.As(a.err, &apply)
	})
}

func (s *site) prepare(raise uint64) {
	s.ids++
	s.prepared = false
	s.waiting[s.ids], s.preparing[s.ids] = true, true
	epoch := s.m.epoch + raise
	maps.DeleteFunc(s.owners, func(_ uint16, o siteOwner) bool { return o.epoch < epoch })
	s.event(func() { s.m.prepare(s.ids, epoch, s.now) })
}

func (s *site) refresh() {
	s.ids++
	s.waiting[s.ids] = true
	s.event(func() { s.m.refresh(s.ids) })
}

func (s *site) pass(by time.Duration) {
	s.now = s.now.Add(by)
	s.event(func() { s.m.tick(s.now) })
}

// with does something with a link in one of some phases, and nothing if there is none.
func (s *site) with(do func(linkKey, *siteLink), phases ...linkPhase) {
	var keys []linkKey
	for _, key := range slices.SortedFunc(maps.Keys(s.links), compareKeys) {
		if slices.Contains(phases, s.links[key].phase) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return
	}
	key := rapid.SampledFrom(keys).Draw(s.t, "link")
	do(key, s.links[key])
}

func (s *site) start() {
	s.with(func(key linkKey, l *siteLink) {
		s.event(func() {
			l.phase = linkConnecting
			s.m.linkStarted(key)
		})
	}, linkStarting)
}

func (s *site) up() {
	s.with(func(key linkKey, l *siteLink) {
		s.event(func() {
			l.phase = linkUp
			l.incarnation++
			s.fenced(key, l.incarnation-1)
			s.m.linkIsUp(key, l.incarnation, s.now)
		})
	}, linkConnecting)
}

// hasty is a link whose news are faster than its start.
func (s *site) hasty() {
	s.with(func(key linkKey, l *siteLink) {
		s.news(key, l)
	}, linkStarting)
}

func (s *site) news(key linkKey, l *siteLink) {
	s.outcomes = append(s.outcomes, func(error) {
		if s.links[key] == l {
			s.m.linkStarted(key)
		}
	})
	s.event(func() {
		l.phase = linkUp
		l.incarnation++
		s.fenced(key, l.incarnation-1)
		s.m.linkIsUp(key, l.incarnation, s.now)
	})
}

// fail answers all calls of a link as a whole.
func (s *site) fail(l *siteLink, err error, incarnation uint64) {
	calls := l.calls
	l.calls = nil
	for _, call := range calls {
		for _, change := range call.changes {
			if change.Kind == opTakeover && incarnation > 0 {
				s.failed[siteTakeover{change.VB, call.key}] = incarnation
			}
		}
		s.m.linkAnswered(call.id, nil, err, incarnation, s.now)
	}
}

// fenced says that the link's name has been opened again after that incarnation.
func (s *site) fenced(key linkKey, after uint64) {
	maps.DeleteFunc(s.failed, func(t siteTakeover, incarnation uint64) bool { return t.key == key && incarnation <= after })
}

// gone is the end of a link. The next one of its name counts from 1 again.
func (s *site) gone(key linkKey) {
	delete(s.links, key)
	for t := range s.failed {
		if t.key == key {
			s.failed[t] = 0
		}
	}
}

func (s *site) drop(key linkKey) {
	maps.DeleteFunc(s.streams, func(_ uint16, on linkKey) bool { return on == key })
}

func (s *site) crash(key linkKey, l *siteLink, reason error, named []uint16) {
	l.phase = linkConnecting
	s.drop(key)
	s.fail(l, reason, l.incarnation)
	s.m.linkCrashed(key, l.incarnation, reason, named, s.now)
}

func (s *site) crashes() {
	s.with(func(key linkKey, l *siteLink) {
		named := slices.Compact(slices.Sorted(slices.Values(rapid.SliceOfN(rapid.Uint16Range(0, 4), 0, 3).Draw(s.t, "named"))))
		reason := rapid.SampledFrom([]error{ErrSocketClosed, &UnexpectedStreamEnd{}}).Draw(s.t, "reason")
		s.event(func() { s.crash(key, l, reason, named) })
	}, linkUp)
}

func (s *site) givesUp() {
	s.with(func(key linkKey, l *siteLink) {
		s.drop(key)
		// Its replicator goes first. The manager has not heard of it yet when it gets that one's answers.
		l.dead = true
		s.event(func() { s.fail(l, errGaveUp, l.incarnation) })
		s.event(func() {
			s.gone(key)
			s.m.linkGone(key, errGaveUp, s.now)
			s.fail(l, errGaveUp, 1)
		})
	}, linkStarting, linkConnecting, linkUp)
}

var errGaveUp = errors.New("gave up")

func (s *site) stops() {
	s.with(func(key linkKey, l *siteLink) {
		s.event(func() {
			s.fail(l, ErrShut, l.incarnation)
			s.gone(key)
			s.drop(key)
			s.m.linkStopped(key, nil, s.now)
		})
	}, linkStopping)
}

func (s *site) late() {
	s.with(func(_ linkKey, l *siteLink) {
		s.event(func() { s.fail(l, &NotConnectedError{Err: ErrDeadline}, 0) })
	}, linkConnecting)
}

func (s *site) answers(outcome func(vb uint16) error) {
	s.with(func(key linkKey, l *siteLink) {
		if len(l.calls) > 0 {
			s.answer(key, l, outcome)
		}
	}, linkUp)
}

// answer lets the engines do what the oldest call of a link asks for.
func (s *site) answer(key linkKey, l *siteLink, outcome func(vb uint16) error) {
	call := l.calls[0]
	l.calls = l.calls[1:]
	errs := map[uint16]error{}
	for _, change := range call.changes {
		if errs[change.VB] != nil {
			continue
		}
		on, there := s.streams[change.VB]
		err := outcome(change.VB)
		switch {
		case change.Kind == opClose && (!there || on != key):
			// closed already
		case change.Kind == opClose && err == nil:
			delete(s.streams, change.VB)
		case change.Kind == opClose:
			gone := errors.Is(err, mcbp.StatusKeyExists) // whatever the one says, the other one has closed it
			if gone {
				delete(s.streams, change.VB)
			}
			errs[change.VB] = &StreamStatusError{Op: mcbp.OpDCPCloseStream, VB: change.VB, Status: mcbp.StatusBusy, Gone: gone}
		case there && on != key:
			require.Fail(s.t, "two streams", "vb %d on %v and %v", change.VB, on, key)
		case change.Kind == opAdd && there:
			// it lives
		case err != nil:
			errs[change.VB] = err
		case change.Kind == opAdd:
			s.streams[change.VB] = key
		}
	}
	s.event(func() { s.m.linkAnswered(call.id, errs, nil, l.incarnation, s.now) })
}

func (s *site) ended() {
	s.with(func(key linkKey, l *siteLink) {
		if len(l.calls) > 0 {
			return // an end during a call is in its answer
		}
		vb := rapid.Uint16Range(0, 4).Draw(s.t, "vb")
		s.event(func() {
			if s.streams[vb] == key {
				delete(s.streams, vb)
				s.m.streamEnded(key, vb, s.now)
			}
		})
	}, linkUp)
}

func (s *site) outcome(err error) {
	if len(s.outcomes) == 0 {
		return
	}
	f := s.outcomes[0]
	s.outcomes = s.outcomes[1:]
	s.event(func() { f(err) })
}

// settle lets everything come to a good end.
func (s *site) settle() {
	for range 60 {
		for _, key := range slices.SortedFunc(maps.Keys(s.links), compareKeys) {
			l := s.links[key]
			s.event(func() {
				switch l.phase {
				case linkStarting:
					l.phase = linkConnecting
					s.m.linkStarted(key)
				case linkConnecting:
					l.phase = linkUp
					l.incarnation++
					s.fenced(key, l.incarnation-1)
					s.m.linkIsUp(key, l.incarnation, s.now)
				case linkStopping:
					s.fail(l, ErrShut, l.incarnation)
					s.gone(key)
					s.drop(key)
					s.m.linkStopped(key, nil, s.now)
				case linkUp, linkDown:
				}
			})
			for l.phase == linkUp && len(l.calls) > 0 {
				s.answer(key, l, func(uint16) error { return nil })
			}
		}
		for len(s.outcomes) > 0 {
			f := s.outcomes[0]
			s.outcomes = s.outcomes[1:]
			s.event(func() { f(nil) })
		}
		s.pass(5 * time.Second)
	}
}

// end is the end of a story: everything that was asked is answered, what was lost is back, and a shut leaves nothing.
func (s *site) end() {
	s.settle()
	if !s.prepared {
		s.prepare(0)
		s.settle()
	}
	require.Empty(s.t, s.waiting, "calls without an answer")
	s.m.limits.Links, s.m.limits.Backlog = 100, 100
	for _, owner := range []string{"move", "janitor"} {
		s.ids++
		s.waiting[s.ids] = true
		maps.DeleteFunc(s.owners, func(_ uint16, o siteOwner) bool { return o.name == owner })
		s.event(func() { s.m.release(s.ids, s.m.epoch, owner) })
	}
	s.settle()
	for vb, r := range s.m.replicas {
		require.False(s.t, r.desired != "" && s.m.lost[vb] != nil, "the stream of vb %d is not back", vb)
	}
	s.ids++
	s.waiting[s.ids] = true
	s.happen(func() { s.m.apply(s.ids, s.m.epoch, "", map[uint16]string{0: "n1", 1: "n2", 2: "n3"}, s.now) })
	s.ids++
	s.waiting[s.ids] = true
	s.event(func() { s.m.shut(s.ids, s.now) })
	for _, key := range slices.SortedFunc(maps.Keys(s.links), compareKeys) {
		if l := s.links[key]; l.phase == linkStarting && rapid.Bool().Draw(s.t, "hasty") {
			s.news(key, l)
		}
	}
	s.settle()
	require.Empty(s.t, s.waiting)
	require.Empty(s.t, s.m.links)
	require.Empty(s.t, s.links)
	require.Empty(s.t, s.m.sent)
	require.Empty(s.t, s.streams)
}

func TestRandomStoriesOfAManager(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSite(t)
		s.prepare(1)
		s.outcome(nil)
		t.Repeat(map[string]func(*rapid.T){
			"request": func(*rapid.T) { s.request() },
			"ask":     func(*rapid.T) { s.request() },
			"prepare": func(t *rapid.T) { s.prepare(rapid.Uint64Range(0, 1).Draw(t, "raise")) },
			"refresh": func(*rapid.T) { s.refresh() },
			"pass": func(t *rapid.T) {
				s.pass(rapid.SampledFrom([]time.Duration{0, time.Second, 10 * time.Second, time.Minute}).Draw(t, "by"))
			},
			"start":   func(*rapid.T) { s.start() },
			"up":      func(*rapid.T) { s.up() },
			"hasty":   func(*rapid.T) { s.hasty() },
			"crash":   func(*rapid.T) { s.crashes() },
			"give up": func(*rapid.T) { s.givesUp() },
			"stop":    func(*rapid.T) { s.stops() },
			"late":    func(*rapid.T) { s.late() },
			"answer": func(t *rapid.T) {
				s.answers(func(vb uint16) error {
					status := rapid.SampledFrom([]mcbp.Status{0, 0, 0, mcbp.StatusNotMyVBucket, mcbp.StatusKeyExists}).Draw(t, "status")
					if status == mcbp.StatusSuccess {
						return nil
					}
					return &StreamStatusError{Op: mcbp.OpDCPAddStream, VB: vb, Status: status}
				})
			},
			"end": func(*rapid.T) { s.ended() },
			"outcome": func(t *rapid.T) {
				s.outcome(rapid.SampledFrom([]error{nil, nil, errGaveUp}).Draw(t, "err"))
			},
		})
		s.end()
	})
}
