package dcp

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// This file brings back the streams that were lost (design §5.5). Only those: a real engine whose vbucket became a replica
// still accepts streams, so nobody may open one because it was there before.

// existsRetry is the pause before an engine is asked again that said the stream is there already.
const existsRetry = 250 * time.Millisecond

// strangers says when connections that are not ours were last looked for.
type strangers struct {
	asked bool
	last  time.Time
}

// lostStreams forgets the streams of a link that has lost its connections.
func (m *managerMachine) lostStreams(key linkKey, now time.Time) {
	var lost []*replica
	for _, r := range m.replicas {
		if r.has && r.on == key {
			lost = append(lost, r)
		}
	}
	slices.SortFunc(lost, byVBucket)
	for _, r := range lost {
		m.lose(r, now)
		m.dropIfIdle(r)
	}
}

// lose forgets a stream that went without its owner's doing. A running owner is told, and the stream left to it.
func (m *managerMachine) lose(r *replica, now time.Time) {
	if now.Sub(r.since) >= settledAfter {
		r.failures, r.notBefore = 0, time.Time{}
	}
	r.has = false
	m.setLost(r, true)
	if r.owner != "" {
		m.emit(publishManager{StreamLost{Link: m.linkOf(r.on), VB: r.vb, Owner: r.owner, Epoch: r.epoch, At: now}})
	}
}

// streamEnded is the end of a live stream that no work of ours asked for.
func (m *managerMachine) streamEnded(key linkKey, vb uint16, now time.Time) {
	r, ok := m.replicas[vb]
	if !ok || !r.has || r.on != key {
		return
	}
	m.lose(r, now)
	if r.work == nil {
		m.postpone(r, now)
	}
	m.dropIfIdle(r)
}

// suspect keeps the vbuckets apart that a crash of the link names, as far as there is room. Those beyond come back with the
// healthy ones: a crash that names so many is not about one of them.
func (m *managerMachine) suspect(key linkKey, named []uint16, now time.Time) {
	room := m.limits.Suspects
	for _, r := range m.replicas {
		if r.failures > 0 && r.desired != "" && m.key(r.desired, r.vb) == key {
			room--
		}
	}
	counted := slices.Compact(slices.Sorted(slices.Values(named)))
	for _, vb := range counted {
		if r, known := m.replicas[vb]; known && r.failures > 0 && r.desired != "" && m.key(r.desired, vb) == key {
			room++
		}
	}
	for _, vb := range named {
		r, known := m.replicas[vb]
		if !known || room <= 0 {
			continue
		}
		room--
		// One that was on trial alone has been put off by the answer of its call.
		if !now.Before(r.notBefore) {
			m.postpone(r, now)
		}
	}
}

// postpone keeps a vbucket apart for a pause that doubles with each failure.
func (m *managerMachine) postpone(r *replica, now time.Time) {
	r.notBefore = now.Add(m.pause(r.failures, firstReplicaRetry))
	r.failures++
}

// apart reports whether a vbucket has no stream because it is kept apart.
func (r *replica) apart() bool { return (r.failures > 0 || !r.exists.IsZero()) && !r.has }

// reconcile opens the streams that are lost, on links that are up. A vbucket with an owner at work is left to its owner, and
// while a new epoch is being prepared nothing is begun. Per link the healthy ones go first, together; then the suspects,
// one by one and while the link has nothing else under way.
func (m *managerMachine) reconcile(now time.Time) {
	if len(m.prepares) > 0 || m.stop.asked {
		return
	}
	for _, l := range m.links {
		l.waiting = nil
	}
	var due []*replica
	for _, r := range m.lost {
		if !m.missing(r) || now.Before(r.notBefore) {
			continue
		}
		if l, ok := m.links[m.key(r.desired, r.vb)]; !ok || l.phase == linkUp {
			due = append(due, r)
		}
	}
	slices.SortFunc(due, byVBucket)
	for _, suspects := range []bool{false, true} {
		for _, r := range due {
			if (r.failures > 0) == suspects {
				m.restore(r, now)
			}
		}
	}
}

func (m *managerMachine) restore(r *replica, now time.Time) {
	l := m.linkFor(m.key(r.desired, r.vb))
	switch {
	case l == nil || l.phase != linkUp || m.accept(l.key, 1, now) != nil:
	case r.failures > 0 && l.backlog > 0:
		l.waiting = append(l.waiting, r)
	default:
		r.next = &work{kind: workSet, replica: r, producer: r.desired, own: true, trial: r.failures > 0}
		m.startNext(r, now)
	}
}

// tried follows the trial of a suspect with the link's next one. What else has come due is for the next tick: with many
// suspects, looking through all of them for each would take too long.
func (m *managerMachine) tried(l *linkState, now time.Time) {
	if len(m.prepares) > 0 || m.stop.asked {
		return
	}
	for l.backlog == 0 && len(l.waiting) > 0 {
		r := l.waiting[0]
		l.waiting = l.waiting[1:]
		if m.missing(r) {
			m.restore(r, now)
		}
	}
}

// linkFor is the link that a wanted stream needs. It may have been dropped while nothing needed it.
func (m *managerMachine) linkFor(key linkKey) *linkState {
	if _, ok := m.links[key]; !ok && len(m.links) < m.limits.Links {
		m.ensureLink(key)
	}
	return m.links[key]
}

// missing reports whether a stream is wanted, lost, nobody's task, and not being worked on.
func (m *managerMachine) missing(r *replica) bool {
	return m.lost[r.vb] != nil && r.desired != "" && !r.has && r.work == nil && r.next == nil && r.owner == "" && !r.barred
}

func (m *managerMachine) setLost(r *replica, lost bool) {
	if lost {
		m.lost[r.vb] = r
	} else {
		delete(m.lost, r.vb)
	}
}

// existsAlready reports whether an engine refused an add because it has a stream of the vbucket.
func existsAlready(err error) bool {
	var refused *StreamStatusError
	return errors.As(err, &refused) && refused.Op == mcbp.OpDCPAddStream && refused.Status == mcbp.StatusKeyExists
}

// retryExisting plans the next try of a restored stream that the engine says is there already. It may be what an earlier
// connection has left, and be ending; after the deadline its holder is looked for and ended by name.
func (m *managerMachine) retryExisting(r *replica, now time.Time) {
	if r.exists.IsZero() {
		r.exists = now
	}
	if r.failures == 0 && now.Sub(r.exists) < m.limits.Close {
		r.notBefore = now.Add(m.pause(0, existsRetry))
		return
	}
	r.barred = true
	m.askForStrangers(now)
}

// askForStrangers looks for connections that are not ours and ends them.
func (m *managerMachine) askForStrangers(now time.Time) {
	if m.strangers.asked {
		return
	}
	m.strangers = strangers{asked: true, last: now}
	var ours []string
	for _, key := range m.sortedLinks() {
		if m.links[key].phase != linkDown {
			ours = append(ours, m.linkOf(key).Name())
		}
	}
	m.emit(nukeStrangers{ours: ours})
}

// strangersNuked is the outcome of nukeStrangers. If there was none, the stream is held under the link's own name: its
// connections are opened anew at the next quiet point. Either way the vbucket is tried again.
func (m *managerMachine) strangersNuked(ended int, err error, now time.Time) {
	m.strangers.asked = false
	for _, vb := range slices.Sorted(maps.Keys(m.replicas)) {
		r := m.replicas[vb]
		if !r.barred {
			continue
		}
		r.barred, r.exists = false, time.Time{}
		if err == nil && ended > 0 {
			r.notBefore = time.Time{}
			continue
		}
		if l, ok := m.links[m.key(r.desired, vb)]; ok && err == nil && m.missing(r) {
			l.outdated, l.outdatedTo = true, l.incarnation
		}
		m.postpone(r, now)
	}
	m.reconcile(now)
	m.rebuildOutdated()
}
