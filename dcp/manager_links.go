package dcp

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// linkPhase is what the manager knows of a link.
type linkPhase uint8

const (
	// linkStarting: its supervisor is being started; calls are held.
	linkStarting linkPhase = iota
	linkConnecting
	linkUp
	// linkStopping: it is being shut and terminated; calls are held, in case it is needed again.
	linkStopping
	// linkDown: it gave up, or must not be opened for a while; it is started again after a pause.
	linkDown
)

var linkPhaseNames = [...]string{"starting", "connecting", "up", "stopping", "down"}

func (p linkPhase) String() string { return linkPhaseNames[p] }

// linkState is one link of this manager.
type linkState struct {
	key         linkKey
	phase       linkPhase
	incarnation uint64
	lastErr     error
	giveUps     int
	retryAt     time.Time
	// upAs is the incarnation that came up last, upSince when.
	upAs    uint64
	upSince time.Time
	// idleSince is when the link was first seen without a reason to be there, zero if it has one.
	idleSince time.Time
	// held are the calls and fences that wait for the link to run; backlog counts the operations that wait for an answer,
	// held or sent.
	held       []callLink
	heldFences []callID
	backlog    int
	// waiting are the suspects whose turn comes when the one on trial has had its answer.
	waiting []*replica
	// kicks counts the connections in a row that a peer closed right after their OPEN; inUse counts the pauses because of
	// that, and refused is set during one.
	kicks, inUse int
	refused      error
	// outdated says that the connections up to that incarnation were opened before features or certificates changed.
	outdated   bool
	outdatedTo uint64
}

// runs reports whether the link has a replicator to talk to.
func (l *linkState) runs() bool { return l.phase == linkConnecting || l.phase == linkUp }

const (
	// Pauses before a link that gave up is started again, before one is whose name is in use elsewhere, and before a
	// vbucket kept apart is tried again.
	firstLinkRetry    = time.Second
	firstInUseRetry   = time.Minute
	firstReplicaRetry = time.Second
	lastRetryPause    = 5 * time.Minute
	// settledAfter is how long a link, or a stream, must have lived for its next pause to be the first again.
	settledAfter = 30 * time.Second
	// idleLimit is how long a link is kept that nothing needs.
	idleLimit = 30 * time.Second
	// A connection that its peer closes within kickedWithin of its OPEN has been kicked; nameInUseKicks of those in a row
	// mean that somebody else uses the name (design §5.4).
	kickedWithin   = time.Second
	nameInUseKicks = 3
)

func compareKeys(a, b linkKey) int {
	return cmp.Or(cmp.Compare(a.producer, b.producer), cmp.Compare(a.conn, b.conn))
}

// pause doubles from first to lastRetryPause, and adds up to a quarter so that many do not try again in step.
func (m *managerMachine) pause(failures int, first time.Duration) time.Duration {
	d := lastRetryPause
	if failures < 16 {
		d = min(first<<failures, lastRetryPause)
	}
	if m.jitter != nil {
		d += m.jitter(d / 4)
	}
	return d
}

// ensureLink starts the link unless it is there. One that is down waits for the end of its pause.
func (m *managerMachine) ensureLink(key linkKey) {
	if _, ok := m.links[key]; ok {
		return
	}
	l := &linkState{key: key}
	m.links[key] = l
	m.startLink(l)
}

func (m *managerMachine) startLink(l *linkState) {
	l.phase, l.refused, l.outdated, l.idleSince = linkStarting, nil, false, time.Time{}
	m.emit(startLink{key: l.key})
}

// linkStarted says that the link's supervisor runs. If it could not be started, linkGone says so.
func (m *managerMachine) linkStarted(key linkKey) {
	l, ok := m.links[key]
	switch {
	case !ok || l.phase != linkStarting:
	case m.stop.asked:
		m.stopLink(l)
	default:
		l.phase = linkConnecting
		m.releaseHeld(l)
		if len(m.prepares) > 0 {
			m.fenceAll()
		}
	}
}

// releaseHeld gives a link that runs what was held for it.
func (m *managerMachine) releaseHeld(l *linkState) {
	for _, call := range l.held {
		m.emit(call)
	}
	for _, id := range l.heldFences {
		m.emit(fenceLink{call: id, key: l.key})
	}
	l.held, l.heldFences = nil, nil
}

// failHeld answers the calls that were held for a link. No engine has seen them.
func (m *managerMachine) failHeld(l *linkState, err error, now time.Time) {
	held := l.held
	l.held = nil
	for _, call := range held {
		m.linkAnswered(call.id, nil, m.linkOf(l.key).wrap(err), 0, now)
	}
}

// ended answers what was held for a link that will not run soon. Fences do not need it.
func (m *managerMachine) ended(l *linkState, err error, now time.Time) {
	for _, id := range l.heldFences {
		m.emit(fenceLink{call: id, key: l.key, byName: true})
	}
	l.heldFences = nil
	m.failHeld(l, err, now)
}

// linkIsUp begins to restore what the last crash took: first the streams that did not crash it.
func (m *managerMachine) linkIsUp(key linkKey, incarnation uint64, now time.Time) {
	l, ok := m.links[key]
	if !ok || incarnation < l.incarnation || l.phase == linkStopping || l.phase == linkDown {
		return
	}
	if m.stop.asked {
		m.stopLink(l)
		return
	}
	l.phase, l.incarnation, l.lastErr, l.upAs, l.upSince = linkUp, incarnation, nil, incarnation, now
	if incarnation > l.outdatedTo {
		l.outdated = false
	}
	if m.rebuilding != nil && *m.rebuilding == key {
		m.rebuilding = nil
	}
	m.releaseHeld(l)
	m.opened(key, incarnation)
	if len(m.prepares) > 0 {
		m.fenceAll()
	}
	m.reconcile(now)
}

// linkCrashed forgets the link's streams and keeps the vbuckets apart that the reason names: the healthy ones come back
// first, the suspects one by one.
func (m *managerMachine) linkCrashed(key linkKey, incarnation uint64, reason error, named []uint16, now time.Time) {
	l, ok := m.links[key]
	if !ok || incarnation < l.incarnation || l.phase == linkStopping || l.phase == linkDown {
		return
	}
	if m.stop.asked {
		m.stopLink(l)
		return
	}
	l.phase, l.incarnation, l.lastErr = linkConnecting, incarnation, reason
	m.releaseHeld(l)
	if len(m.prepares) > 0 {
		m.fenceAll()
	}
	m.lostStreams(key, now)
	m.suspect(key, named, now)
	m.countKick(l, reason, now)
}

// countKick notices that a peer closes the link's connections as soon as they are open, as an engine does when somebody
// else opens one of the same name. Two managers that go on kicking each other would both replicate nothing.
func (m *managerMachine) countKick(l *linkState, reason error, now time.Time) {
	if l.upAs != l.incarnation || !errors.Is(reason, ErrSocketClosed) || now.Sub(l.upSince) >= kickedWithin {
		l.kicks = 0
		return
	}
	l.kicks++
	if l.kicks < nameInUseKicks {
		return
	}
	link := m.linkOf(l.key)
	e := &NameInUseError{Name: link.Name(), Node: link.Consumer, Kicks: l.kicks, Err: reason}
	var crash *CrashError
	if errors.As(reason, &crash) && crash.Role == RoleProducer {
		e.Node = link.Producer
	}
	l.refused = link.wrap(e)
	l.lastErr, l.kicks = l.refused, 0
	m.emit(publishManager{LinkGaveUp{Link: link, Reason: l.refused, At: now}})
	m.stopLink(l)
}

// stopLink ends a link that runs. What it has under way is answered by its replicator.
func (m *managerMachine) stopLink(l *linkState) {
	l.phase = linkStopping
	if m.rebuilding != nil && *m.rebuilding == l.key {
		m.rebuilding = nil
	}
	m.emit(stopLink{key: l.key})
}

// linkStopped says that a link has come to the end that was asked for. It starts again if it was needed meanwhile, after
// its pause if it has one.
func (m *managerMachine) linkStopped(key linkKey, err error, now time.Time) {
	l, ok := m.links[key]
	if !ok || l.phase != linkStopping {
		return
	}
	l.incarnation, l.upAs = 0, 0
	m.forgetIncarnations(key)
	m.lostStreams(key, now)
	switch {
	case m.stop.asked:
		delete(m.links, key)
		m.ended(l, ErrShut, now)
		m.linkShut(m.linkOf(key).wrap(err))
	case l.refused != nil:
		l.phase, l.retryAt = linkDown, now.Add(m.pause(l.inUse, firstInUseRetry))
		l.inUse++
		m.ended(l, l.refused, now)
	case len(l.held) > 0 || len(l.heldFences) > 0 || m.needed(key):
		m.startLink(l)
	default:
		delete(m.links, key)
	}
}

// linkGone is the end of a link's supervisor that nobody asked for, or its failure to start.
func (m *managerMachine) linkGone(key linkKey, reason error, now time.Time) {
	l, ok := m.links[key]
	if !ok || l.phase == linkDown || l.phase == linkStopping {
		return
	}
	if l.lastErr == nil {
		l.lastErr = reason
	}
	m.emit(publishManager{LinkGaveUp{Link: m.linkOf(key), Reason: m.linkOf(key).wrap(reason), At: now}})
	l.phase, l.retryAt = linkDown, now.Add(m.pause(l.giveUps, firstLinkRetry))
	l.giveUps++
	l.incarnation, l.upAs, l.kicks = 0, 0, 0
	if m.rebuilding != nil && *m.rebuilding == key {
		m.rebuilding = nil
	}
	m.forgetIncarnations(key)
	m.lostStreams(key, now)
	m.ended(l, reason, now)
	if m.stop.asked {
		delete(m.links, key)
		m.linkShut(nil)
	}
}

// causeOf is why a link's replicator does not answer. One that is taken down because its link gives up says nothing of why: that
// is what the connections crashed of last, of which it has told before.
func (m *managerMachine) causeOf(key linkKey, reason error) error {
	if l, ok := m.links[key]; ok && l.lastErr != nil && (planned(reason) || errors.Is(reason, actors.NoProcess)) {
		reason = l.lastErr
	}
	return m.linkOf(key).wrap(reason)
}

// tick starts again what has waited long enough: links that are down, vbuckets kept apart. It stops what nothing needs.
func (m *managerMachine) tick(now time.Time) {
	if m.stop.asked {
		return
	}
	reasons := m.known
	if reasons == nil {
		reasons = m.reasons()
	}
	for _, key := range m.sortedLinks() {
		l := m.links[key]
		if l.phase == linkUp && now.Sub(l.upSince) >= settledAfter {
			l.giveUps, l.inUse = 0, 0
		}
		needed := reasons[key] || l.backlog > 0
		switch {
		case l.phase == linkDown && needed && !now.Before(l.retryAt):
			m.startLink(l)
		case l.phase == linkDown && now.Sub(l.retryAt) >= idleLimit:
			// Not sooner: it is the memory of the pause.
			delete(m.links, key)
		case needed:
			l.idleSince = time.Time{}
		case !l.runs():
		case l.idleSince.IsZero():
			l.idleSince = now
		case now.Sub(l.idleSince) >= idleLimit:
			m.stopLink(l)
		}
	}
	m.reconcile(now)
	m.rebuildOutdated()
	m.expirePrepares(now)
	m.known, m.unchanged = reasons, len(m.out) == 0 && len(m.batches) == 0
}

// reasons are the links, of those that there are, that have a stream, a wanted stream, work, or a takeover to fence. As a rule
// all have, and that is found out soon.
func (m *managerMachine) reasons() map[linkKey]bool {
	reasons := make(map[linkKey]bool, len(m.links))
	for key := range m.unfenced {
		m.note(reasons, key)
	}
	for _, r := range m.replicas {
		if len(reasons) == len(m.links) {
			break
		}
		if r.has {
			m.note(reasons, r.on)
		}
		if r.desired != "" {
			m.note(reasons, m.key(r.desired, r.vb))
		}
		for _, w := range []*work{r.work, r.next} {
			if w != nil && w.producer != "" {
				m.note(reasons, m.key(w.producer, r.vb))
			}
		}
	}
	return reasons
}

func (m *managerMachine) needed(key linkKey) bool { return m.reasons()[key] }

// stopIdleLinks stops at once what nothing needs.
func (m *managerMachine) stopIdleLinks() {
	reasons := m.reasons()
	for _, key := range m.sortedLinks() {
		l := m.links[key]
		if !reasons[key] && l.backlog == 0 && l.runs() {
			m.stopLink(l)
		}
	}
}

// refresh notes that features or certificates have changed. Connections that are open are opened anew one link after
// another, each at a quiet point; those opened from now on have them anyway.
func (m *managerMachine) refresh(id callID) {
	if !m.admit(id) {
		return
	}
	for _, l := range m.links {
		l.outdated, l.outdatedTo = true, l.incarnation
		if l.phase != linkUp {
			// An attempt that is under way may have begun before.
			l.outdatedTo++
		}
	}
	m.emit(answerManager{call: id})
}

// rebuildOutdated opens the connections of one outdated link anew, if it is quiet. The next one's turn comes when they are
// up, so a certificate that does not work costs one link.
func (m *managerMachine) rebuildOutdated() {
	if m.rebuilding != nil || len(m.prepares) > 0 {
		return
	}
	var busy map[linkKey]bool
	for _, key := range m.sortedLinks() {
		l := m.links[key]
		if !l.outdated || l.phase != linkUp || l.backlog > 0 {
			continue
		}
		if busy == nil {
			busy = m.busy()
		}
		if !busy[key] {
			m.rebuilding = &key
			m.emit(resetLink{key: key})
			return
		}
	}
}

// busy are the links on whose vbuckets somebody is at work.
func (m *managerMachine) busy() map[linkKey]bool {
	busy := make(map[linkKey]bool, len(m.links))
	for key := range m.unfenced {
		m.note(busy, key)
	}
	for _, r := range m.replicas {
		if len(busy) == len(m.links) {
			break
		}
		if r.owner == "" && r.work == nil && r.next == nil {
			continue
		}
		if r.has {
			m.note(busy, r.on)
		}
		if r.desired != "" {
			m.note(busy, m.key(r.desired, r.vb))
		}
	}
	return busy
}

// note adds a link to a set of those that there are.
func (m *managerMachine) note(set map[linkKey]bool, key linkKey) {
	if _, ok := m.links[key]; ok {
		set[key] = true
	}
}

func (m *managerMachine) sortedLinks() []linkKey {
	return slices.SortedFunc(maps.Keys(m.links), compareKeys)
}
