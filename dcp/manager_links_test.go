package dcp

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var n1 = linkKey{producer: "n1"}

// pass lets time go by, with a tick at its end.
func (d *desk) pass(by time.Duration) {
	d.now = d.now.Add(by)
	d.m.tick(d.now)
	d.perform()
}

func (d *desk) crash(incarnation uint64, reason error, named ...uint16) {
	d.m.linkCrashed(n1, incarnation, reason, named, d.now)
	d.perform()
}

func (d *desk) link(t *testing.T) LinkStatus {
	t.Helper()
	links := d.m.status().Links
	require.Len(t, links, 1)
	return links[0]
}

// slowDesk has a link whose start the test has to confirm, and a call for it.
func slowDesk(t *testing.T) (d *desk, call callID) {
	t.Helper()
	d = newDesk(t)
	d.slow = true
	call = d.apply(1, "move", map[uint16]string{5: "n1"})
	require.Equal(t, []linkKey{n1}, d.started)
	return d, call
}

func TestCallsAreHeldUntilTheLinkHasStarted(t *testing.T) {
	d, call := slowDesk(t)
	assert.Empty(t, d.sent)
	assert.Equal(t, "starting", d.link(t).State)
	d.m.linkStarted(n1)
	d.perform()
	assert.Equal(t, []streamChange{{VB: 5, Kind: opAdd}}, d.changes())
	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(call))

	t.Run("also when its news are faster", func(t *testing.T) {
		d, _ := slowDesk(t)
		d.up("n1", 1)
		assert.Len(t, d.sent, 1)
		d.m.linkStarted(n1)
		d.perform()
		assert.Len(t, d.sent, 1, "once")
	})
	t.Run("and fail if it cannot be started", func(t *testing.T) {
		d, call := slowDesk(t)
		cause := errors.New("no more processes")
		d.m.linkGone(n1, cause, d.now)
		d.perform()
		require.ErrorIs(t, d.answer(call), cause)
		assert.Equal(t, "down", d.link(t).State)
		d.pass(firstLinkRetry)
		assert.Len(t, d.started, 1, "nothing needs it")
		d.pass(idleLimit)
		assert.Empty(t, d.m.status().Links)
	})
	t.Run("and are answered at once by a new epoch", func(t *testing.T) {
		d, call := slowDesk(t)
		next := d.prepare(2)
		require.ErrorIs(t, d.answer(call), ErrSuperseded)
		require.NoError(t, d.answer(next), "no engine has seen them")
		d.m.linkStarted(n1)
		d.perform()
		assert.Empty(t, d.sent)
	})
}

func TestALinkThatIsNeededAgainWhileItStopsStartsAnew(t *testing.T) {
	stopping := func(t *testing.T) *desk {
		t.Helper()
		d := newDesk(t)
		d.live("n1", 5)
		closed := d.do(func(id callID) { d.m.retain(id, 1, "", nil, d.now) })
		d.linkAnswer(nil, nil)
		require.NoError(t, d.answer(closed))
		d.do(func(id callID) { d.m.retain(id, 1, "", nil, d.now) })
		require.Equal(t, []linkKey{n1}, d.stopped)
		d.started = nil
		return d
	}
	t.Run("with the calls that were held", func(t *testing.T) {
		d := stopping(t)
		call := d.apply(1, "", map[uint16]string{6: "n1"})
		assert.Empty(t, d.sent)
		assert.Empty(t, d.started)
		d.m.linkStopped(n1, nil, d.now)
		d.perform()
		assert.Equal(t, []linkKey{n1}, d.started)
		d.linkAnswer(nil, nil)
		require.NoError(t, d.answer(call))
	})
	t.Run("not when it is not needed", func(t *testing.T) {
		d := stopping(t)
		d.m.linkStopped(n1, errors.New("did not answer"), d.now)
		d.perform()
		assert.Empty(t, d.started)
		assert.Empty(t, d.m.status().Links)
	})
	t.Run("and late news of the old one say nothing", func(t *testing.T) {
		d := stopping(t)
		d.up("n1", 2)
		d.crash(2, ErrSocketClosed)
		assert.Equal(t, "stopping", d.link(t).State)
	})
}

func TestALinkThatNothingNeedsIsStoppedAfterAWhile(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 5)
	d.pass(time.Hour)
	assert.Empty(t, d.stopped, "it has a stream")
	d.apply(1, "move", map[uint16]string{5: "n2"})
	d.linkAnswer(nil, nil)
	d.linkAnswer(nil, nil)
	d.pass(0)
	d.pass(idleLimit - 1)
	assert.Empty(t, d.stopped)
	d.pass(1)
	assert.Equal(t, []linkKey{n1}, d.stopped)

	t.Run("counted from when it was last needed", func(t *testing.T) {
		d := newDesk(t)
		d.apply(1, "", map[uint16]string{5: ""})
		d.live("n1", 5)
		d.apply(1, "", map[uint16]string{5: ""})
		d.linkAnswer(nil, nil)
		d.pass(0)
		d.pass(idleLimit - 1)
		d.live("n1", 5)
		d.pass(0)
		d.apply(1, "", map[uint16]string{5: ""})
		d.linkAnswer(nil, nil)
		d.pass(0)
		d.pass(idleLimit - 1)
		assert.Empty(t, d.stopped)
	})
}

// A pause ends early for nobody: callers wait for its end, or are told.
func TestACallForALinkThatGaveUpWaitsForTheEndOfItsPause(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 1)
	d.m.linkGone(n1, errors.New("gave up"), d.now)
	d.started = nil
	call := d.apply(1, "move", map[uint16]string{2: "n1"})
	d.pass(firstLinkRetry - 1)
	assert.Empty(t, d.started)
	d.pass(1)
	assert.Equal(t, []linkKey{n1}, d.started)
	assert.Equal(t, []streamChange{{VB: 2, Kind: opAdd}}, d.changes())
	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(call))

	t.Run("or is refused if that is too far off", func(t *testing.T) {
		d := newDesk(t)
		d.live("n1", 1)
		cause := errors.New("gave up")
		d.crash(1, d.m.linkOf(n1).wrap(cause))
		for range 10 {
			d.m.linkGone(n1, cause, d.now)
			d.pass(d.link(t).RetryAt.Sub(d.now))
		}
		d.m.linkGone(n1, cause, d.now)
		var refused *NotConnectedError
		err := d.answer(d.apply(1, "move", map[uint16]string{2: "n1"}))
		require.ErrorAs(t, err, &refused)
		require.ErrorIs(t, err, cause)
		assert.Equal(t, 1, strings.Count(err.Error(), "replication n1→n9/0"), "%v", err)
		assert.Equal(t, d.now.Add(lastRetryPause), d.link(t).RetryAt, "said in the status")
	})
}

func TestAPauseIsRememberedThoughNothingNeedsTheLinkMeanwhile(t *testing.T) {
	d := newDesk(t)
	var pauses []time.Duration
	for range 3 {
		call := d.apply(1, "", map[uint16]string{5: "n1"})
		d.m.linkGone(n1, errors.New("gave up"), d.now)
		d.linkAnswer(nil, errors.New("gave up"))
		require.Error(t, d.answer(call))
		pauses = append(pauses, d.link(t).RetryAt.Sub(d.now))
		d.pass(pauses[len(pauses)-1])
	}
	assert.Equal(t, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, pauses)
}

func TestPausesHaveInjectedJitter(t *testing.T) {
	m := newManagerMachine("orders", "n9", 1, Limits{})
	assert.Equal(t, 4*time.Second, m.pause(2, time.Second))
	assert.Equal(t, lastRetryPause, m.pause(60, time.Second))
	var asked []time.Duration
	m.jitter = func(d time.Duration) time.Duration {
		asked = append(asked, d)
		return d
	}
	assert.Equal(t, 5*time.Second, m.pause(2, time.Second))
	assert.Equal(t, lastRetryPause+lastRetryPause/4, m.pause(60, time.Second))
	assert.Equal(t, []time.Duration{time.Second, lastRetryPause / 4}, asked)
}

// kick closes the link's connections some time after they came up.
func (d *desk) kick(incarnation uint64, after time.Duration) {
	d.up("n1", incarnation)
	d.now = d.now.Add(after)
	d.crash(incarnation, &LinkError{Producer: "n1", Consumer: "n9", Err: &CrashError{Role: RoleProducer, Err: ErrSocketClosed}})
}

func TestNameInUse(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 5)
	d.now = d.now.Add(time.Minute)
	d.crash(1, ErrSocketClosed)
	d.started = nil
	for incarnation := range uint64(2) {
		d.kick(incarnation+2, kickedWithin-1)
		assert.Empty(t, d.stopped)
	}
	d.sent = nil
	d.kick(4, kickedWithin-1)
	assert.Equal(t, []linkKey{n1}, d.stopped)

	var used *NameInUseError
	require.ErrorAs(t, d.link(t).LastError, &used)
	assert.Equal(t, "n1", used.Node)
	assert.Equal(t, ConnectionName("n1", "n9", "orders", 0), used.Name)
	require.ErrorIs(t, used, ErrSocketClosed)
	require.Len(t, d.news, 1)
	require.ErrorAs(t, d.news[0].(LinkGaveUp).Reason, &used)

	d.m.limits.Join = time.Hour // for a call of a link that only gave up
	require.ErrorAs(t, d.answer(d.apply(1, "move", map[uint16]string{6: "n1"})), &used, "callers are told at once")
	d.m.linkStopped(n1, nil, d.now)
	d.perform()
	assert.Equal(t, "down", d.link(t).State)
	assert.Equal(t, d.now.Add(firstInUseRetry), d.link(t).RetryAt)
	require.ErrorAs(t, d.answer(d.apply(1, "move", map[uint16]string{6: "n1"})), &used)
	d.pass(firstInUseRetry - 1)
	assert.Empty(t, d.started)
	d.pass(1)
	assert.Equal(t, []linkKey{n1}, d.started)

	t.Run("the next pause is longer", func(t *testing.T) {
		for incarnation := range uint64(3) {
			d.kick(incarnation+1, 0)
		}
		d.m.linkStopped(n1, nil, d.now)
		d.perform()
		assert.Equal(t, d.now.Add(2*firstInUseRetry), d.link(t).RetryAt)
	})
}

func TestNameInUseNeedsThreeKicksInARow(t *testing.T) {
	kicks := func(t *testing.T, third func(d *desk)) {
		t.Helper()
		d := newDesk(t)
		d.live("n1", 5)
		d.kick(2, 0)
		d.kick(3, 0)
		third(d)
		d.kick(5, 0)
		assert.Empty(t, d.stopped)
	}
	t.Run("one lived longer", func(t *testing.T) { kicks(t, func(d *desk) { d.kick(4, kickedWithin) }) })
	t.Run("one crashed for another reason", func(t *testing.T) {
		kicks(t, func(d *desk) {
			d.up("n1", 4)
			d.crash(4, &UnexpectedStreamEnd{VB: 5})
		})
	})
	t.Run("one was fenced", func(t *testing.T) {
		kicks(t, func(d *desk) {
			d.up("n1", 4)
			d.crash(4, ErrFenced)
		})
	})
	t.Run("one never came up", func(t *testing.T) { kicks(t, func(d *desk) { d.crash(4, ErrSocketClosed) }) })
}

func TestALinkThatIsEndingAnywayIsNotRebuiltForANewEpoch(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 5)
	d.now = d.now.Add(time.Minute)
	d.crash(1, ErrSocketClosed)
	d.kick(2, 0)
	d.kick(3, 0)
	d.apply(1, "move", map[uint16]string{6: "n1"})
	d.kick(4, 0)
	require.Len(t, d.stopped, 1)
	d.prepare(2)
	d.pass(d.m.limits.Grace)
	assert.Empty(t, d.reset)
}

func TestAFenceUsesTheLinkIfItRunsAndItsNameOtherwise(t *testing.T) {
	d := newDesk(t)
	id := d.do(func(id callID) { d.m.fence(id, 5, "n1") })
	assert.Equal(t, []fenceLink{{call: id, key: n1, byName: true}}, d.linkFences)
	d.m.fenced(id, nil)
	d.m.fenced(id, nil)
	d.perform()
	require.NoError(t, d.answer(id))

	d.live("n1", 5)
	id = d.do(func(id callID) { d.m.fence(id, 5, "n1") })
	assert.Equal(t, fenceLink{call: id, key: n1}, d.linkFences[1])
	failed := errors.New("node is down")
	d.m.fenced(id, failed)
	d.perform()
	require.ErrorIs(t, d.answer(id), failed)

	t.Run("one that is starting gets it then", func(t *testing.T) {
		d, _ := slowDesk(t)
		id := d.do(func(id callID) { d.m.fence(id, 5, "n1") })
		assert.Empty(t, d.linkFences, "its own OPEN and ours would end each other")
		d.m.linkStarted(n1)
		d.perform()
		assert.Equal(t, []fenceLink{{call: id, key: n1}}, d.linkFences)
	})
	t.Run("one that cannot be started does not matter", func(t *testing.T) {
		d, _ := slowDesk(t)
		id := d.do(func(id callID) { d.m.fence(id, 5, "n1") })
		d.m.linkGone(n1, errors.New("no"), d.now)
		d.perform()
		assert.Equal(t, []fenceLink{{call: id, key: n1, byName: true}}, d.linkFences)
	})
	t.Run("a takeover's is asked for once a starting link runs", func(t *testing.T) {
		d := failedTakeover(t, nil, ErrSocketClosed)
		d.m.linkGone(takenFrom, errors.New("gave up"), d.now)
		d.slow = true
		d.pass(firstLinkRetry)
		next := d.prepare(2)
		assert.Empty(t, d.fences)
		d.m.linkStarted(takenFrom)
		d.perform()
		assert.Equal(t, []fenceTakeover{{key: takenFrom}}, d.fences)
		d.m.takeoverFenced(takenFrom, 0, nil)
		d.perform()
		require.NoError(t, d.answer(next))
	})
	t.Run("a takeover's goes by name without a link", func(t *testing.T) {
		d := failedTakeover(t, nil, ErrSocketClosed)
		d.m.linkGone(takenFrom, errors.New("gave up"), d.now)
		d.prepare(2)
		assert.Equal(t, []fenceTakeover{{key: takenFrom, byName: true}}, d.fences)
	})
}

func TestChangedCertificatesApplyAtAQuietPoint(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 5)
	d.live("n2", 6)
	n2 := linkKey{producer: "n2"}
	move := d.apply(1, "move", map[uint16]string{7: "n1"})
	require.NoError(t, d.answer(d.do(func(id callID) { d.m.refresh(id) })))
	d.pass(0)
	assert.Equal(t, []linkKey{n2}, d.reset, "n1 has a call under way")
	assert.True(t, d.m.status().Links[0].Outdated)

	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(move))
	d.m.linkCrashed(n2, 1, ErrFenced, nil, d.now)
	d.m.linkIsUp(n2, 2, d.now)
	d.perform()
	d.linkAnswer(nil, nil)
	d.pass(0)
	assert.False(t, d.m.status().Links[1].Outdated)
	assert.Equal(t, []linkKey{n2}, d.reset, "n1 has an owner at work")

	d.do(func(id callID) { d.m.release(id, 1, "move") })
	d.pass(0)
	d.pass(0)
	assert.Equal(t, []linkKey{n2, n1}, d.reset)

	t.Run("one link after another", func(t *testing.T) {
		d := newDesk(t)
		d.live("n1", 5)
		d.live("n2", 6)
		d.do(func(id callID) { d.m.refresh(id) })
		d.pass(time.Minute)
		d.pass(time.Minute)
		assert.Equal(t, []linkKey{n1}, d.reset, "a certificate that does not work costs one link")
		d.crash(1, ErrFenced)
		d.m.linkGone(n1, errors.New("gave up"), d.now)
		d.pass(0)
		assert.Equal(t, []linkKey{n1, n2}, d.reset, "unless that comes back anew anyway")
	})
	t.Run("an attempt that is under way may have begun before", func(t *testing.T) {
		d := newDesk(t)
		d.live("n1", 5)
		d.crash(1, ErrSocketClosed)
		d.do(func(id callID) { d.m.refresh(id) })
		d.up("n1", 2)
		d.linkAnswer(nil, nil)
		d.pass(0)
		assert.Equal(t, []linkKey{n1}, d.reset)
		d.crash(2, ErrFenced)
		d.up("n1", 3)
		assert.False(t, d.link(t).Outdated)
	})
}
