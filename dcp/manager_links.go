package dcp

import (
	"cmp"
	"slices"
	"time"
)

// linkPhase is what the manager knows of a link.
type linkPhase uint8

const (
	linkConnecting linkPhase = iota
	linkUp
	// linkDown: its supervisor gave up; it is started again after a pause.
	linkDown
)

var linkPhaseNames = [...]string{"connecting", "up", "down"}

func (p linkPhase) String() string { return linkPhaseNames[p] }

// linkState is one link of this manager.
type linkState struct {
	key         linkKey
	phase       linkPhase
	incarnation uint64
	lastErr     error
	giveUps     int
	retryAt     time.Time
	upSince     time.Time
}

const (
	// Pauses before a link that gave up is started again, and before a vbucket kept apart is tried again.
	firstLinkRetry    = time.Second
	firstReplicaRetry = time.Second
	lastRetryPause    = 5 * time.Minute
	// settledAfter is how long a link must have been up for its next pause to be the first again.
	settledAfter = 30 * time.Second
)

func compareKeys(a, b linkKey) int {
	return cmp.Or(cmp.Compare(a.producer, b.producer), cmp.Compare(a.conn, b.conn))
}

func (m *managerMachine) ensureLink(key linkKey) {
	l, ok := m.links[key]
	if ok && l.phase != linkDown {
		return
	}
	if !ok {
		l = &linkState{key: key}
		m.links[key] = l
	}
	l.phase = linkConnecting
	m.emit(startLink{key: key})
}

// linkIsUp begins to restore what the last crash took: first the streams that did not crash it.
func (m *managerMachine) linkIsUp(key linkKey, incarnation uint64, now time.Time) {
	l, ok := m.links[key]
	if !ok || incarnation < l.incarnation {
		return
	}
	l.phase, l.incarnation, l.lastErr, l.upSince = linkUp, incarnation, nil, now
	m.opened(key, incarnation)
	m.reconcile(now)
}

// linkCrashed forgets the link's streams and keeps the vbuckets apart that the reason names: the healthy ones come back
// first, the suspects one by one.
func (m *managerMachine) linkCrashed(key linkKey, incarnation uint64, reason error, named []uint16, now time.Time) {
	l, ok := m.links[key]
	if !ok || incarnation < l.incarnation {
		return
	}
	l.phase, l.incarnation, l.lastErr = linkConnecting, incarnation, reason
	m.lostStreams(key)
	for _, vb := range named {
		if r, known := m.replicas[vb]; known {
			m.postpone(r, now)
		}
	}
}

// linkGone is the end of a link's supervisor.
func (m *managerMachine) linkGone(key linkKey, reason error, now time.Time) {
	l, ok := m.links[key]
	if !ok {
		return
	}
	if l.lastErr == nil {
		l.lastErr = reason
	}
	l.phase = linkDown
	l.retryAt = now.Add(pause(l.giveUps, firstLinkRetry))
	l.giveUps++
	l.incarnation = 0
	m.forgetIncarnations(key)
	m.lostStreams(key)
	if !m.needed(key) {
		delete(m.links, key)
	}
}

func (m *managerMachine) lostStreams(key linkKey) {
	for _, r := range m.sortedReplicas() {
		if r.has && r.on == key {
			r.has = false
			m.dropIfIdle(r)
		}
	}
}

// streamEnded is the end of a live stream that no work of ours asked for.
func (m *managerMachine) streamEnded(key linkKey, vb uint16, now time.Time) {
	r, ok := m.replicas[vb]
	if !ok || !r.has || r.on != key {
		return
	}
	r.has = false
	if r.work == nil {
		m.postpone(r, now)
	}
	m.dropIfIdle(r)
}

// postpone keeps a vbucket apart for a pause that doubles with each failure.
func (m *managerMachine) postpone(r *replica, now time.Time) {
	r.notBefore = now.Add(pause(r.failures, firstReplicaRetry))
	r.failures++
}

func pause(failures int, first time.Duration) time.Duration {
	if failures > 16 {
		return lastRetryPause
	}
	return min(first<<failures, lastRetryPause)
}

// reconcile opens the streams that are wanted and missing, on links that are up. A vbucket with an owner at work is left
// to its owner, and while a new epoch is being prepared nothing is begun.
func (m *managerMachine) reconcile(now time.Time) {
	if len(m.prepares) > 0 {
		return
	}
	apart := m.apartOnTrial()
	for _, r := range m.sortedReplicas() {
		if !m.missing(r) || now.Before(r.notBefore) {
			continue
		}
		key := m.key(r.desired, r.vb)
		if l, ok := m.links[key]; !ok || l.phase != linkUp {
			continue
		}
		if r.failures > 0 {
			if apart[key] {
				continue
			}
			apart[key] = true
		}
		r.queue = append(r.queue, &work{kind: workSet, replica: r, producer: r.desired, own: true, epoch: m.epoch})
		m.startNext(r, now)
	}
}

// missing reports whether a stream is wanted, not there, nobody's task, and not being worked on.
func (m *managerMachine) missing(r *replica) bool {
	return r.desired != "" && !r.has && r.work == nil && r.owner == ""
}

// apartOnTrial finds the links on which a vbucket kept apart is being tried; one at a time.
func (m *managerMachine) apartOnTrial() map[linkKey]bool {
	trial := map[linkKey]bool{}
	for _, r := range m.replicas {
		if r.failures > 0 && r.work != nil {
			trial[m.key(r.work.producer, r.vb)] = true
		}
	}
	return trial
}

// tick starts again what has waited long enough: links that gave up, vbuckets kept apart.
func (m *managerMachine) tick(now time.Time) {
	for _, key := range m.sortedLinks() {
		l := m.links[key]
		switch {
		case l.phase == linkDown && !now.Before(l.retryAt) && m.needed(key):
			m.ensureLink(key)
		case l.phase == linkUp && now.Sub(l.upSince) >= settledAfter:
			l.giveUps = 0
		}
	}
	m.reconcile(now)
	m.expirePrepares(now)
}

// needed reports whether a link has a stream, a wanted stream or work.
func (m *managerMachine) needed(key linkKey) bool {
	for _, r := range m.replicas {
		if r.has && r.on == key || r.desired != "" && m.key(r.desired, r.vb) == key {
			return true
		}
		if r.work != nil && m.key(r.work.producer, r.vb) == key {
			return true
		}
	}
	for _, u := range m.unfenced {
		if u.key == key {
			return true
		}
	}
	return false
}

func (m *managerMachine) stopIdleLinks() {
	for _, key := range m.sortedLinks() {
		if !m.needed(key) && !m.busy(key) {
			if m.links[key].phase != linkDown {
				m.emit(stopLink{key: key})
			}
			delete(m.links, key)
		}
	}
}

func (m *managerMachine) busy(key linkKey) bool {
	if _, collected := m.batches[key]; collected {
		return true
	}
	for _, b := range m.sent {
		if b.key == key {
			return true
		}
	}
	return false
}

func (m *managerMachine) sortedLinks() []linkKey {
	keys := make([]linkKey, 0, len(m.links))
	for key := range m.links {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}
