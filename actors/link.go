package actors

// link joins two processes: the death of one is an exit signal to the other. It is in the list of both, and an end of it
// is only touched under its owner's lock.
type link struct {
	a, b         *PID
	aNode, bNode node[*link]
}

func (k *link) peer(p *PID) *PID {
	if p == k.a {
		return k.b
	}
	return k.a
}

func (k *link) node(p *PID) *node[*link] {
	if p == k.a {
		return &k.aNode
	}
	return &k.bNode
}

// snap is called by the one that buries p, after it took p's end out. If the other end still holds, it is cut and, unless
// silently, the peer gets the exit signal. It returns true if the peer died of that and is still to be buried.
func (k *link) snap(p *PID, silently bool) bool {
	peer := k.peer(p)
	peer.mu.Lock()
	defer peer.mu.Unlock()
	if !peer.links.remove(k.node(peer)) || silently || !peer.Alive() {
		return false
	}
	return peer.hear(p, p.reason)
}

// tie links two processes whose locks are held and who are alive and not linked.
func tie(a, b *PID) {
	k := &link{a: a, b: b}
	a.links.push(&k.aNode, k)
	b.links.push(&k.bNode, k)
}

// linkBetween finds the link of two processes whose locks are held and of whom a is alive. It looks through the shorter
// list, but not that of a process that is dying: it may have lost its end of a link whose signal is still to come.
func linkBetween(a, b *PID) *link {
	if b.links.n < a.links.n && b.Alive() {
		a, b = b, a
	}
	for n := a.links.first; n != nil; n = n.next {
		if n.item.peer(a) == b {
			return n.item
		}
	}
	return nil
}

// linkedTo reports whether p's own end of a link to a process holds, which for a moment outlives that process.
func (p *PID) linkedTo(pid *PID) bool {
	for n := p.links.first; n != nil; n = n.next {
		if n.item.peer(p) == pid {
			return true
		}
	}
	return false
}

// Link joins this process and another: the death of one is an exit signal to the other. Linking twice, or to oneself,
// changes nothing. A link to a dead process is answered by an exit signal with NoProcess.
func (c *Context) Link(pid *PID) {
	p := c.self
	if p == pid {
		return
	}
	lockPair(p, pid)
	died := false
	switch {
	case !p.Alive():
	case !pid.Alive():
		// If they are linked already, the signal with the true reason is on its way.
		if !p.linkedTo(pid) {
			died = p.hear(pid, NoProcess)
		}
	case linkBetween(p, pid) == nil:
		tie(p, pid)
	}
	unlockPair(p, pid)
	if died {
		bury(p)
	}
}

// Unlink cuts a link: a later death of the other is no signal to this process, and the reverse. As in Erlang, an Exit that
// is in the mailbox already still arrives.
func (c *Context) Unlink(pid *PID) {
	p := c.self
	if p == pid || pid == nil {
		return
	}
	lockPair(p, pid)
	defer unlockPair(p, pid)
	if !p.Alive() {
		return // the others must still hear of it
	}
	if k := linkBetween(p, pid); k != nil {
		p.links.remove(k.node(p))
		pid.links.remove(k.node(pid))
	}
}
