package actors

// Ref names one monitor. Refs are comparable and no two are equal. The zero Ref names none.
type Ref struct{ m *monitor }

// monitor is one process' wish to hear of another one's death.
type monitor struct {
	owner, target *PID
	reason        error
	dropped       bool // by Demonitor; only the owner's callbacks look at it
	atTarget      node[watcher]
	atOwner       node[owned]
}

// Monitor asks for a Down when pid dies; if it is dead already, a Down with NoProcess arrives at once. Each call makes a
// monitor of its own.
func (c *Context) Monitor(pid *PID) Ref {
	p := c.self
	m := &monitor{owner: p}
	lockPair(p, pid)
	defer unlockPair(p, pid)
	switch {
	case !p.Alive():
	case !pid.Alive():
		m.target, m.reason = pid, NoProcess
		p.post(ours, m)
	case p == pid:
		// Nobody hears of his own death.
	default:
		m.set(pid)
	}
	return Ref{m}
}

// set enters m on both sides. Called with the locks of both held; both are alive.
func (m *monitor) set(target *PID) {
	m.target = target
	target.watchers.push(&m.atTarget, m)
	m.owner.owned.push(&m.atOwner, m)
}

// Demonitor ends a monitor of this process. Its Down will not be handled, even if it is in the mailbox already.
func (c *Context) Demonitor(ref Ref) {
	m := ref.m
	if m == nil || m.owner != c.self {
		return
	}
	m.dropped = true
	m.abandon()
	m.owner.mu.Lock()
	m.owner.owned.remove(&m.atOwner)
	m.owner.mu.Unlock()
}

func (m *monitor) down(_ *PID, reason error) {
	m.owner.mu.Lock()
	m.owner.owned.remove(&m.atOwner)
	m.owner.mu.Unlock()
	m.reason = reason
	m.owner.post(ours, m)
}

func (m *monitor) abandon() {
	if m.target == nil {
		return
	}
	m.target.mu.Lock()
	m.target.watchers.remove(&m.atTarget)
	m.target.mu.Unlock()
}
