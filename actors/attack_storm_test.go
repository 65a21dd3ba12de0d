package actors_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

var storms = flag.Uint64("storms", 3, "how many storms TestStorm lets blow")

// Hundreds of processes link, unlink, monitor, demonitor, signal, request, arm timers, start others and die in every way,
// while goroutines kill, stop and call them. Afterwards every diary is consistent, those who lived through it have heard
// of everything, every call has had its own outcome, and nothing is left.
func TestStorm(t *testing.T) {
	for seed := range *storms {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			actortest.NoLeaks(t)
			s := &storm{t: t, sys: actors.NewSystem(actors.Options{}), confirmed: map[[2]*actors.PID]int{}, life: 1000}
			s.rage(seed)
			s.check()
			require.NoError(t, s.sys.Close(t.Context()))
		})
	}
}

const (
	stormSlots    = 48
	stormSurvivor = 6 // they do no harm to others, and nobody may harm them
)

type storm struct {
	t         *testing.T
	sys       *actors.System
	slots     [stormSlots]atomic.Pointer[actors.PID]
	survivors []*stormer
	life      int64 // how many processes are still to be started
	left      atomic.Int64
	atRest    int // Proto.Actor's own processes in its registry

	mu        sync.Mutex
	all       []*stormer
	confirmed map[[2]*actors.PID]int // from, to: so many numbered messages were sent for certain
	kept      []keptCall
}

// keptCall is a call that somebody will answer, perhaps too late, with what it asked for.
type keptCall struct {
	from actors.From
	msg  any
}

func (s *storm) enter(p *stormer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, p)
}

func (s *storm) keep(from actors.From, msg any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, keptCall{from, msg})
}

func (s *storm) answerOne(rng *rand.Rand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) > 0 {
		k := s.kept[rng.IntN(len(s.kept))]
		k.from.Reply(k.msg)
	}
}

// rage lets the storm blow until all processes have been started, and then kills those who may be killed.
func (s *storm) rage(seed uint64) {
	s.left.Store(s.life)
	_, _, s.atRest = s.sys.Tables()
	for i := range stormSurvivor {
		p := &stormer{storm: s, seed: seed<<32 + uint64(i), survivor: true}
		_, err := s.sys.Start(s.t.Context(), p)
		require.NoError(s.t, err)
		s.survivors = append(s.survivors, p)
	}
	var wg, attackers sync.WaitGroup
	over := make(chan struct{})
	for i := range 2 {
		wg.Go(func() { s.repopulate(rand.New(rand.NewPCG(seed, uint64(100+i)))) })
	}
	for i, attack := range []func(*rand.Rand){s.kill, s.kill, s.call, s.call, s.answerOne, s.poke} {
		rng := rand.New(rand.NewPCG(seed, uint64(200+i)))
		attackers.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
					attack(rng)
					runtime.Gosched()
				}
			}
		})
	}
	wg.Wait()
	close(over)
	attackers.Wait()
	for _, pid := range s.sys.Processes() {
		if !s.survives(pid) {
			pid.Kill()
		}
	}
}

func (s *storm) survives(pid *actors.PID) bool {
	for _, p := range s.survivors {
		if p.pid == pid {
			return true
		}
	}
	return false
}

// repopulate starts processes in the places of those that have died.
func (s *storm) repopulate(rng *rand.Rand) {
	for s.left.Load() > 0 {
		if i := rng.IntN(stormSlots); !s.slots[i].Load().Alive() {
			p := &stormer{storm: s, seed: rng.Uint64(), slot: i}
			_, err := s.sys.Start(context.Background(), p, actors.WithName(fmt.Sprint("slot ", i)))
			p.checkStart(err)
		}
		runtime.Gosched()
	}
}

func (s *storm) kill(rng *rand.Rand) {
	pid := s.slots[rng.IntN(stormSlots)].Load()
	switch rng.IntN(60) {
	case 0:
		pid.Kill()
		assert.False(s.t, pid.Alive())
	case 1:
		pid.Exit(errBoom)
	case 2:
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Microsecond)
		defer cancel()
		if pid.Stop(ctx, errBoom) == nil {
			assert.ErrorIs(s.t, pid.Reason(), errBoom)
		}
	}
}

// poke gives processes something to do.
func (s *storm) poke(rng *rand.Rand) {
	s.slots[rng.IntN(stormSlots)].Load().Send(step{})
	s.survivors[rng.IntN(stormSurvivor)].pid.Send(step{})
}

var stormCalls atomic.Int64

// call makes a call; its outcome is its own, or the truth about the callee.
func (s *storm) call(rng *rand.Rand) {
	pid := s.slots[rng.IntN(stormSlots)].Load()
	if rng.IntN(4) == 0 {
		pid = s.survivors[rng.IntN(stormSurvivor)].pid
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rng.IntN(200))*time.Microsecond)
	defer cancel()
	own := stormCalls.Add(1)
	v, err := pid.Call(ctx, own)
	var gaveUp *actors.WaitError
	switch {
	case err == nil:
		assert.Equal(s.t, own, v, "the answer to another call")
	case errors.As(err, &gaveUp):
		assert.ErrorIs(s.t, ctx.Err(), context.DeadlineExceeded)
	default:
		assert.False(s.t, pid.Alive(), "%v", err)
		assert.True(s.t, errors.Is(err, actors.NoProcess) || errors.Is(err, pid.Reason()), "%v, not %v", err, pid.Reason())
	}
}

// check waits for the calm and reads the diaries.
func (s *storm) check() {
	for i := range s.slots {
		s.slots[i].Load().Kill()
	}
	actortest.Eventually(s.t, func() bool {
		names, enrolled, registered := s.sys.Tables()
		return names == 0 && enrolled == stormSurvivor && registered == enrolled+s.atRest && s.sys.Lingering() == 0
	})
	for _, p := range s.survivors {
		actortest.Eventually(s.t, func() bool { return s.open(p) == 0 && p.pid.Relations() == [3]int{} })
		s.open(p) // for what the steps before the first one have sent to itself
	}
	w := world{reason: (*actors.PID).Reason}
	downs, dead := 0, 0
	for _, p := range s.all {
		w.confirmed = func(from *actors.PID) int { return s.confirmed[[2]*actors.PID{from, p.pid}] }
		diary := p.diary
		if !p.survivor {
			diary = slices.DeleteFunc(slices.Clone(diary), linkBusiness)
		}
		assert.Empty(s.t, checkDiary(diary, p.survivor, w), "diary of %v, which died of %v", p.pid, p.pid.Reason())
		for _, entry := range p.diary {
			if _, ok := entry.(actors.Down); ok {
				downs++
			}
		}
		if !p.pid.Alive() {
			dead++
			assert.Equal(s.t, [3]int{}, p.pid.Relations())
		}
	}
	require.GreaterOrEqual(s.t, dead, int(s.life))
	require.Positive(s.t, downs)
}

// open returns how many requests and timers of a survivor are still open when it has handled what was sent before.
func (s *storm) open(p *stormer) int {
	n, err := actors.Call[int](s.t.Context(), p.pid, settleStorm{})
	require.NoError(s.t, err)
	return n
}

// linkBusiness reports whether an entry is about links. Those who are not survivors are linked to and signalled by others
// too, which is not in their diaries.
func linkBusiness(entry any) bool {
	switch e := entry.(type) {
	case linked, unlinked:
		return true
	case actors.Exit:
		return !errors.As(e.Reason, new(*numberedSignal))
	}
	return false
}

type (
	step        struct{}
	settleStorm struct{}
)

// stormer is a process of the storm. Its fields belong to its callbacks until it is dead or the storm is over.
type stormer struct {
	actors.Base
	storm    *storm
	seed     uint64
	slot     int
	survivor bool

	pid   *actors.PID
	rng   *rand.Rand
	diary []any
	refs  []actors.Ref
	sent  map[*actors.PID]int
	next  int // tag of a request or number of a timer
	open  int // requests and timers without an outcome
}

func (p *stormer) note(entry any) {
	p.diary = append(p.diary, entry)
	switch entry.(type) {
	case requested, armed:
		p.open++
	case actors.Response, disarmed, fired:
		p.open--
	}
}

// checkStart looks at how a start of p ended.
func (p *stormer) checkStart(err error) {
	var taken *actors.AlreadyStartedError
	if errors.As(err, &taken) {
		assert.NotNil(p.storm.t, taken.PID)
	}
	if err != nil {
		assert.False(p.storm.t, p.pid.Alive(), "a start that failed with %v", err)
	}
}

func (p *stormer) Init(c *actors.Context) error {
	p.pid, p.rng, p.sent = c.Self(), rand.New(rand.NewPCG(p.seed, 0)), map[*actors.PID]int{}
	p.storm.enter(p)
	if p.survivor {
		c.TrapExits()
		return nil
	}
	if p.rng.IntN(2) == 0 {
		c.TrapExits()
	}
	p.storm.left.Add(-1)
	p.storm.slots[p.slot].Store(p.pid)
	if p.rng.IntN(8) == 0 {
		return p.end(c)
	}
	return nil
}

func (p *stormer) HandleCall(_ *actors.Context, from actors.From, msg any) error {
	if _, ok := msg.(settleStorm); ok {
		from.Reply(p.open)
		return nil
	}
	switch p.rng.IntN(6) {
	case 0: // never
	case 1:
		p.storm.keep(from, msg)
	case 2:
		go from.Reply(msg)
		go from.Reply(msg)
	case 3:
		p.storm.keep(from, msg)
		from.Reply(msg)
	default:
		from.Reply(msg)
	}
	return nil
}

func (p *stormer) HandleInfo(c *actors.Context, msg any) error {
	switch msg.(type) {
	case step:
		for range 1 + p.rng.IntN(4) {
			if err := p.act(c); err != nil {
				return err
			}
		}
		return nil
	case helped:
		return nil
	default:
		p.note(msg)
	}
	if _, ok := msg.(actors.Exit); ok && !p.survivor && p.rng.IntN(4) == 0 {
		return errBoom
	}
	return nil
}

func (p *stormer) Terminate(c *actors.Context, _ error) {
	if p.rng.IntN(4) == 0 {
		_ = p.end(c)
	}
}

// helped is the result of a function of Go.
type helped struct{}

// peer picks somebody, dead or alive.
func (p *stormer) peer() *actors.PID { return p.storm.slots[p.rng.IntN(stormSlots)].Load() }

// act does one thing that a survivor may do too, or another one.
func (p *stormer) act(c *actors.Context) error {
	peer := p.peer()
	if peer == nil || peer == p.pid {
		return nil
	}
	deeds := 9
	if !p.survivor {
		deeds = 14
	}
	switch p.rng.IntN(deeds) {
	case 0:
		p.note(linked{peer})
		c.Link(peer)
	case 1:
		c.Unlink(peer)
		p.note(unlinked{peer})
	case 2, 3:
		ref := c.Monitor(peer)
		p.note(monitored{ref})
		p.refs = append(p.refs, ref)
	case 4:
		if len(p.refs) > 0 {
			ref := p.refs[p.rng.IntN(len(p.refs))]
			c.Demonitor(ref)
			p.note(demonitored{ref})
		}
	case 5, 6:
		to := peer
		if !p.survivor && p.rng.IntN(2) == 0 {
			to = p.storm.survivors[p.rng.IntN(stormSurvivor)].pid
		}
		p.sendNumbered(c, to)
	case 7:
		p.next++
		p.note(requested{p.next})
		c.Request(peer, time.Duration(p.rng.IntN(500))*time.Microsecond, p.next, p.next)
	case 8:
		p.timer(c)
	default:
		return p.dare(c, peer)
	}
	return nil
}

// sendNumbered sends a message, or to a survivor a signal, and notes it if it was certainly sent in life.
func (p *stormer) sendNumbered(c *actors.Context, to *actors.PID) {
	p.sent[to]++
	n := numbered{p.pid, p.sent[to]}
	if p.storm.survives(to) && p.rng.IntN(2) == 0 {
		c.Exit(to, &numberedSignal{n})
	} else {
		c.Send(to, n)
	}
	if p.pid.Alive() {
		p.storm.mu.Lock()
		p.storm.confirmed[[2]*actors.PID{p.pid, to}] = n.seq
		p.storm.mu.Unlock()
	}
}

func (p *stormer) timer(c *actors.Context) {
	p.next++
	n := p.next
	p.note(armed{n})
	timer := c.SendAfter(time.Duration(p.rng.IntN(300))*time.Microsecond, fired{n})
	if p.rng.IntN(2) == 0 {
		runtime.Gosched()
		if timer.Stop() {
			p.note(disarmed{n})
		}
	}
}

// dare does what may cost a life.
func (p *stormer) dare(c *actors.Context, peer *actors.PID) error {
	switch p.rng.IntN(6) {
	case 0:
		reasons := []error{nil, actors.Normal, errBoom, actors.Shutdown, actors.Killed}
		c.Exit(peer, reasons[p.rng.IntN(3)])
	case 1:
		c.Go(func(ctx context.Context) any {
			if p.seed%2 == 0 {
				<-ctx.Done()
			}
			return helped{}
		})
	case 2:
		if p.storm.left.Load() > 0 {
			slot := p.rng.IntN(stormSlots)
			child := &stormer{storm: p.storm, seed: p.rng.Uint64(), slot: slot}
			start := c.Start
			if p.rng.IntN(2) == 0 {
				start = c.StartLink
			}
			_, err := start(child, actors.WithName(fmt.Sprint("slot ", slot)))
			if p.pid.Alive() {
				child.checkStart(err)
			}
		}
	case 3:
		// They may be calling each other.
		ctx, cancel := context.WithTimeout(c.Ctx(), 50*time.Microsecond)
		defer cancel()
		own := stormCalls.Add(1)
		if v, err := peer.Call(ctx, own); err == nil {
			assert.Equal(p.storm.t, own, v)
		}
	case 4:
		if p.rng.IntN(4) == 0 {
			<-c.Ctx().Done() // until somebody kills it
		}
	default:
		if p.rng.IntN(3) == 0 {
			return p.end(c)
		}
	}
	return nil
}

// end ends the process in one way or another.
func (p *stormer) end(c *actors.Context) error {
	switch p.rng.IntN(6) {
	case 0:
		panic(errBoom)
	case 1:
		runtime.Goexit()
	case 2:
		c.Exit(c.Self(), actors.Killed)
	case 3:
		return actors.Normal
	case 4:
		c.Go(func(context.Context) any { panic(errBoom) })
		return nil
	}
	return errBoom
}
