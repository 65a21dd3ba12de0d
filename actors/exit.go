package actors

import "reflect"

// exit ends p with reason, unless it is dead already. Any goroutine may call it. It happens once, in this order:
//
//  1. p is marked dead, under the lock that its own sends hold
//  2. its name is free
//  3. its context is cancelled
//  4. its monitors and callers are told
//  5. its links are told, first those that it has started; those that die of it follow, each in the same order
//  6. it leaves the registry
func (p *PID) exit(reason error) {
	p.mu.Lock()
	marked := p.markDead(reason)
	p.mu.Unlock()
	if marked {
		bury(p)
	}
}

// markDead is the first step. Called with p.mu held; the one call that returns true makes its caller bury p.
func (p *PID) markDead(reason error) bool {
	for {
		old := p.state.Load()
		if old&dead != 0 {
			return false
		}
		p.reason = reason
		next := old | dead
		if old&running != 0 {
			next |= lingering
		}
		if p.state.CompareAndSwap(old, next) {
			n := p.helpers
			if next&lingering != 0 {
				n++
			}
			if n > 0 {
				p.sys.linger(n)
			}
			return true
		}
	}
}

// bury takes the other steps for p and for everybody whom p's death brings down.
func bury(p *PID) {
	for last := p; p != nil; {
		last = p.rest(last)
		p, p.nextDead = p.nextDead, nil
	}
}

// rest takes the other steps for p alone. Processes that die of it are chained behind last; rest returns the new last.
func (p *PID) rest(last *PID) *PID {
	p.sys.freeName(p)

	p.mu.Lock()
	l := p.life
	unstarted := p.starter != nil
	if p.state.Load()&lingering == 0 {
		p.forget()
	}
	p.mu.Unlock()
	p.inbox.close()
	if l != nil {
		l.cancel(p.reason)
	}

	// Nothing enters these lists any more, but others still take out of them what is theirs.
	for w, ok := next(p, &p.watchers); ok; w, ok = next(p, &p.watchers) {
		w.down(p, p.reason)
	}
	// Those that p has started are told first: a supervisor that starts p again finds them dead, and their names free. Not
	// so those that trap exits, which are told to end only.
	var room [4]*link
	others := room[:0]
	for k, ok := next(p, &p.links); ok; k, ok = next(p, &p.links) {
		if k.peer(p).parent.Load() != p {
			others = append(others, k)
		} else if k.snap(p, false) {
			last.nextDead, last = k.peer(p), k.peer(p)
		}
	}
	for _, k := range others {
		peer := k.peer(p)
		// A start that failed tells its caller so; the starter is not sent an exit signal on top of it.
		if k.snap(p, unstarted && peer == p.parent.Load()) {
			last.nextDead, last = peer, peer
		}
	}
	for o, ok := next(p, &p.owned); ok; o, ok = next(p, &p.owned) {
		o.abandon()
	}
	p.parent.Store(nil)
	p.sys.dismiss(p)
	p.decideStart(p.reason)
	return last
}

// next takes the first item out of one of p's lists.
func next[T any](p *PID, l *list[T]) (T, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return l.pop()
}

// signal sends an exit signal from a process, or from nobody. A process that sends after its death sends nothing.
func signal(from, to *PID, reason error) {
	if reason == nil {
		reason = Normal
	}
	lockPair(from, to)
	died := false
	switch {
	case !to.Alive(), from != nil && !from.Alive():
	case reason == Killed:
		died = to.markDead(Killed)
	case from == nil && to.parent.Load() == nil && to.state.Load()&trapping != 0:
		// Who has no parent is told to stop by nobody.
		to.post(ours, &stopOrder{reason})
	default:
		died = to.hear(from, reason)
	}
	unlockPair(from, to)
	if died {
		bury(to)
	}
}

// hear takes an exit signal that can be trapped. Called with p.mu held; true means that p died of it and the caller must
// bury it. A process that was killed tells its links Killed, and to those that is a reason like any other.
func (p *PID) hear(from *PID, reason error) bool {
	switch {
	case p.state.Load()&trapping != 0:
		p.post(ours, &exitSignal{from: from, reason: reason})
		return false
	case reason == Normal && from != p:
		return false
	default:
		return p.markDead(reason)
	}
}

// exitSignal is an exit signal that waits in the mailbox of a process that traps exits.
type exitSignal struct {
	from   *PID
	reason error
}

// lockPair locks two processes, either of which may be nil, in an order that is the same for everybody.
func lockPair(a, b *PID) {
	switch {
	case a == nil && b == nil:
	case a == nil || a == b:
		b.mu.Lock()
	case b == nil:
		a.mu.Lock()
	case before(a, b):
		a.mu.Lock()
		b.mu.Lock()
	default:
		b.mu.Lock()
		a.mu.Lock()
	}
}

func unlockPair(a, b *PID) {
	if a != nil {
		a.mu.Unlock()
	}
	if b != nil && b != a {
		b.mu.Unlock()
	}
}

// before orders processes by id. Two systems use the same ids; their processes are told apart by address.
func before(a, b *PID) bool {
	if a.id != b.id {
		return a.id < b.id
	}
	return reflect.ValueOf(a).Pointer() < reflect.ValueOf(b).Pointer()
}
