package dcp

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// desk drives a manager machine: it plays the callers above it and the links below.
type desk struct {
	t       *testing.T
	m       *managerMachine
	now     time.Time
	ids     callID
	answers map[callID]error
	sent    []callLink
	started []linkKey
	stopped []linkKey
	reset   []linkKey
	cancels []linkKey
	fences  []fenceTakeover
	// incarnation is that of the connections that get the calls.
	incarnation uint64
	nukes       int
	linkFences  []fenceLink
	strangers   [][]string
	news        []Event
	// slow leaves it to the test to say that a link has started.
	slow bool
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, m: newManagerMachine("orders", "n9", 1, Limits{}), now: time.Unix(1000, 0), incarnation: 1, answers: map[callID]error{}}
	first := d.prepare(1)
	require.NotContains(t, d.answers, first, "an earlier manager's connections come first")
	require.Equal(t, 1, d.nukes)
	d.m.nuked(nil)
	d.perform()
	require.NoError(t, d.answer(first))
	return d
}

func (d *desk) perform() {
	for effects := d.m.take(); len(effects) > 0; effects = d.m.take() {
		d.act(effects)
	}
}

func (d *desk) act(effects []managerEffect) {
	for _, e := range effects {
		switch e := e.(type) {
		case startLink:
			d.started = append(d.started, e.key)
			if !d.slow {
				d.m.linkStarted(e.key)
			}
		case stopLink:
			d.stopped = append(d.stopped, e.key)
		case callLink:
			d.sent = append(d.sent, e)
		case cancelLink:
			d.cancels = append(d.cancels, e.key)
		case fenceTakeover:
			d.fences = append(d.fences, e)
		case nukeLeftovers:
			d.nukes++
		case resetLink:
			d.reset = append(d.reset, e.key)
		case fenceLink:
			d.linkFences = append(d.linkFences, e)
		case nukeStrangers:
			d.strangers = append(d.strangers, e.ours)
		case publishManager:
			d.news = append(d.news, e.event)
		case answerManager:
			_, twice := d.answers[e.call]
			require.False(d.t, twice, "call %d answered twice", e.call)
			d.answers[e.call] = e.err
		}
	}
}

func (d *desk) do(f func(id callID)) callID {
	d.ids++
	f(d.ids)
	d.perform()
	return d.ids
}

func (d *desk) prepare(epoch uint64) callID {
	return d.do(func(id callID) { d.m.prepare(id, epoch, d.now) })
}

func (d *desk) apply(epoch uint64, owner string, changes map[uint16]string) callID {
	return d.do(func(id callID) { d.m.apply(id, epoch, owner, changes, d.now) })
}

// linkAnswer answers the oldest call that a link has.
func (d *desk) linkAnswer(errs map[uint16]error, err error) callLink {
	require.NotEmpty(d.t, d.sent)
	call := d.sent[0]
	d.sent = d.sent[1:]
	d.m.linkAnswered(call.id, errs, err, d.incarnation, d.now)
	d.perform()
	return call
}

func (d *desk) answer(id callID) error {
	require.Contains(d.t, d.answers, id)
	return d.answers[id]
}

func (d *desk) up(producer string, incarnation uint64) {
	d.m.linkIsUp(linkKey{producer: producer}, incarnation, d.now)
	d.perform()
}

// live sets up streams from one producer that nobody owns.
func (d *desk) live(producer string, vbs ...uint16) {
	changes := map[uint16]string{}
	for _, vb := range vbs {
		changes[vb] = producer
	}
	id := d.apply(d.m.epoch, "", changes)
	d.up(producer, 1)
	d.linkAnswer(nil, nil)
	require.NoError(d.t, d.answer(id))
}

func (d *desk) changes() []streamChange {
	require.Len(d.t, d.sent, 1)
	return d.sent[0].changes
}

func TestApplyIsOneCallPerLinkAndOneAnswer(t *testing.T) {
	d := newDesk(t)
	id := d.apply(1, "move", map[uint16]string{3: "n1", 1: "n1", 2: "n2"})
	assert.Equal(t, []linkKey{{producer: "n1"}, {producer: "n2"}}, d.started)
	require.Len(t, d.sent, 2)
	assert.Equal(t, []streamChange{{VB: 1, Kind: opAdd}, {VB: 3, Kind: opAdd}}, d.sent[0].changes)
	d.linkAnswer(nil, nil)
	assert.NotContains(t, d.answers, id)
	d.linkAnswer(map[uint16]error{2: mcbp.StatusNotMyVBucket}, nil)
	err := d.answer(id)
	require.ErrorIs(t, err, mcbp.StatusNotMyVBucket)
	var apply *ApplyError
	require.ErrorAs(t, err, &apply)
	assert.Len(t, apply.ByVB, 1)
	assert.Equal(t, map[uint16]string{1: "n1", 3: "n1"}, d.m.status().Desired, "a failed add leaves nothing wanted")
}

func TestANewProducerIsOpenedOnlyAfterTheOldStreamIsClosed(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 5)
	id := d.apply(1, "move", map[uint16]string{5: "n2"})
	assert.Equal(t, []streamChange{{VB: 5, Kind: opClose}}, d.changes())
	assert.Equal(t, "n1", d.linkAnswer(nil, nil).key.producer)
	assert.Equal(t, []streamChange{{VB: 5, Kind: opAdd}}, d.changes())
	assert.Equal(t, "n2", d.linkAnswer(nil, nil).key.producer)
	require.NoError(t, d.answer(id))
}

func TestAFailedCloseDoesNotOpen(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 5)
	id := d.apply(1, "move", map[uint16]string{5: "n2"})
	d.linkAnswer(map[uint16]error{5: mcbp.StatusBusy}, nil)
	require.ErrorIs(t, d.answer(id), mcbp.StatusBusy)
	assert.Empty(t, d.sent)
	assert.Equal(t, map[uint16]string{5: "n1"}, d.m.status().Desired, "wanted as before the request")
}

func TestTakeoverClosesFirstAndLeavesNothingWanted(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 5)
	id := d.do(func(id callID) { d.m.takeover(id, 1, "move", 5, "n1", d.now) })
	assert.Equal(t, []streamChange{{VB: 5, Kind: opClose}, {VB: 5, Kind: opTakeover}}, d.changes())
	assert.Empty(t, d.m.status().Desired, "before the close already")
	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(id))
	assert.Empty(t, d.m.status().Desired)
}

func TestOnlyTheCurrentEpochMayChange(t *testing.T) {
	d := newDesk(t)
	require.NoError(t, d.answer(d.prepare(7)))
	for _, epoch := range []uint64{1, 6, 8} {
		var stale *StaleEpoch
		require.ErrorAs(t, d.answer(d.apply(epoch, "", map[uint16]string{1: "n1"})), &stale)
		assert.Equal(t, StaleEpoch{Got: epoch, Current: 7}, *stale)
	}
	var stale *StaleEpoch
	require.ErrorAs(t, d.answer(d.prepare(6)), &stale)
	assert.Empty(t, d.sent)
}

func TestPrepareAnswersOldCallersAtOnceAndWaitsForTheWire(t *testing.T) {
	d := newDesk(t)
	old := d.apply(1, "move", map[uint16]string{5: "n1"})
	next := d.prepare(2)
	require.ErrorIs(t, d.answer(old), ErrSuperseded)
	assert.NotContains(t, d.answers, next)
	assert.Equal(t, []linkKey{{producer: "n1"}}, d.cancels, "what no engine has seen need not be waited for")
	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(next))
	assert.Equal(t, map[uint16]string{5: "n1"}, d.m.status().Desired, "the stream is there and known")
}

func TestPrepareStopsAnOvertakenMoveBetweenCloseAndOpen(t *testing.T) {
	for _, epoch := range []uint64{1, 2} { // also who prepares the same one again: its caller has been told
		d := newDesk(t)
		d.live("n1", 5)
		moving := d.apply(1, "move", map[uint16]string{5: "n2"})
		next := d.prepare(epoch)
		require.ErrorIs(t, d.answer(moving), ErrSuperseded)
		d.linkAnswer(nil, nil)
		require.NoError(t, d.answer(next))
		assert.Empty(t, d.sent, "the add of an old epoch is not begun")
	}
}

func TestPrepareRebuildsAConnectionAfterTheGrace(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 5)
	d.apply(1, "move", map[uint16]string{5: "n2"})
	next := d.prepare(2)
	d.now = d.now.Add(d.m.limits.Grace - 1)
	d.m.tick(d.now)
	d.perform()
	assert.Empty(t, d.reset)
	d.now = d.now.Add(1)
	d.m.tick(d.now)
	d.m.tick(d.now)
	d.perform()
	assert.Equal(t, []linkKey{{producer: "n1"}}, d.reset, "once")
	d.linkAnswer(nil, ErrFenced)
	require.NoError(t, d.answer(next))
}

func TestARestartedLinkGetsItsStreamsBackExceptTheSuspect(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 1, 2, 3)
	key := linkKey{producer: "n1"}
	d.m.linkCrashed(key, 1, errors.New("crash"), []uint16{2}, d.now)
	d.perform()
	assert.Empty(t, d.sent)
	d.up("n1", 2)
	assert.Equal(t, []streamChange{{VB: 1, Kind: opAdd}, {VB: 3, Kind: opAdd}}, d.changes())
	d.linkAnswer(nil, nil)
	d.m.tick(d.now)
	d.perform()
	assert.Empty(t, d.sent)
	assert.Contains(t, d.m.status().KeptApart, uint16(2))
	d.now = d.now.Add(firstReplicaRetry)
	d.m.tick(d.now)
	d.perform()
	assert.Equal(t, []streamChange{{VB: 2, Kind: opAdd}}, d.changes(), "alone, after its pause")
	d.linkAnswer(nil, errors.New("crashed again"))
	d.now = d.now.Add(firstReplicaRetry)
	d.m.tick(d.now)
	d.perform()
	assert.Empty(t, d.sent, "the pause doubles")
	d.now = d.now.Add(firstReplicaRetry)
	d.m.tick(d.now)
	d.perform()
	d.linkAnswer(nil, nil)
	assert.Empty(t, d.m.status().KeptApart)
}

func TestSuspectsAreTriedOneByOne(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 1, 2)
	d.m.linkCrashed(linkKey{producer: "n1"}, 1, errors.New("crash"), []uint16{1, 2}, d.now)
	d.now = d.now.Add(firstReplicaRetry)
	d.up("n1", 2)
	assert.Equal(t, []streamChange{{VB: 1, Kind: opAdd}}, d.changes())
	d.linkAnswer(nil, nil)
	d.m.tick(d.now)
	d.perform()
	assert.Equal(t, []streamChange{{VB: 2, Kind: opAdd}}, d.changes())
}

func TestAnOwnedVBucketIsLeftToItsOwnerUntilReleased(t *testing.T) {
	d := newDesk(t)
	id := d.apply(1, "move", map[uint16]string{1: "n1"})
	d.up("n1", 1)
	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(id))
	d.m.linkCrashed(linkKey{producer: "n1"}, 1, errors.New("crash"), nil, d.now)
	d.up("n1", 2)
	assert.Empty(t, d.sent)
	require.NoError(t, d.answer(d.do(func(id callID) { d.m.release(id, 1, "move") })))
	d.m.tick(d.now)
	d.perform()
	assert.Equal(t, []streamChange{{VB: 1, Kind: opAdd}}, d.changes())
}

func TestNewsOfAnOlderIncarnationIsIgnored(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 1)
	d.up("n1", 3)
	d.m.linkCrashed(linkKey{producer: "n1"}, 2, errors.New("old"), nil, d.now)
	assert.Equal(t, []uint16{1}, d.m.status().Links[0].Streams)
}

func TestAStreamThatEndedByItselfIsOpenedAgain(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 1)
	d.m.streamEnded(linkKey{producer: "n1"}, 1, d.now)
	d.m.tick(d.now)
	d.perform()
	assert.Empty(t, d.sent)
	d.now = d.now.Add(firstReplicaRetry)
	d.m.tick(d.now)
	d.perform()
	assert.Equal(t, []streamChange{{VB: 1, Kind: opAdd}}, d.changes())
}

func TestRetainClosesWhatIsNotWantedAndStopsIdleLinks(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 1, 2)
	d.live("n2", 3)
	id := d.do(func(id callID) {
		d.m.retain(id, 1, "janitor", map[uint16]string{1: "n1", 2: "n2"}, d.now)
	})
	require.Len(t, d.sent, 2)
	d.linkAnswer(nil, nil)
	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(id))
	assert.Equal(t, map[uint16]string{1: "n1"}, d.m.status().Desired)
	d.do(func(id callID) { d.m.retain(id, 1, "janitor", map[uint16]string{1: "n1"}, d.now) })
	assert.Equal(t, []linkKey{{producer: "n2"}}, d.stopped)
}

func TestOvertakenChangesAreAnswered(t *testing.T) {
	d := newDesk(t)
	first := d.apply(1, "a", map[uint16]string{1: "n1"})
	second := d.apply(1, "b", map[uint16]string{1: "n2"})
	third := d.apply(1, "c", map[uint16]string{1: ""})
	require.ErrorIs(t, d.answer(second), ErrSuperseded)
	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(first))
	assert.Equal(t, []streamChange{{VB: 1, Kind: opClose}}, d.changes())
	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(third))
	assert.Empty(t, d.m.replicas, "nothing is wanted and nothing is known")
}

func TestALinkThatGaveUpIsStartedAgainAfterAPause(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 1)
	d.started = nil
	key := linkKey{producer: "n1"}
	for _, wait := range []time.Duration{firstLinkRetry, 2 * firstLinkRetry} {
		d.m.linkGone(key, errors.New("gave up"), d.now)
		d.m.tick(d.now.Add(wait - 1))
		d.perform()
		assert.Empty(t, d.started)
		d.now = d.now.Add(wait)
		d.m.tick(d.now)
		d.perform()
		assert.Equal(t, []linkKey{key}, d.started)
		d.started = nil
	}
	d.up("n1", 1)
	assert.Equal(t, []streamChange{{VB: 1, Kind: opAdd}}, d.changes())
}

func TestConnectionsShareVBucketsByNumber(t *testing.T) {
	m := newManagerMachine("orders", "n9", 4, Limits{})
	m.prepare(1, 1, time.Time{})
	m.nuked(nil)
	m.apply(2, 1, "", map[uint16]string{0: "n1", 4: "n1", 5: "n1", 7: "n1"}, time.Time{})
	got := map[int][]streamChange{}
	for _, e := range m.take() {
		if start, ok := e.(startLink); ok {
			m.linkStarted(start.key)
		}
	}
	for _, e := range m.take() {
		if call, ok := e.(callLink); ok {
			got[call.key.conn] = call.changes
		}
	}
	assert.Equal(t, map[int][]streamChange{
		0: {{VB: 0}, {VB: 4}},
		1: {{VB: 5}},
		3: {{VB: 7}},
	}, got)
}

func TestOnlyTheOlderOfTwoPreparesIsStale(t *testing.T) {
	d := newDesk(t)
	d.apply(1, "move", map[uint16]string{5: "n1"})
	older, newer := d.prepare(2), d.prepare(3)
	d.linkAnswer(nil, nil)
	var stale *StaleEpoch
	require.ErrorAs(t, d.answer(older), &stale)
	require.NoError(t, d.answer(newer))
}

func TestAFailedTakeoverLeavesNoGhost(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 5)
	d.do(func(id callID) { d.m.takeover(id, 1, "move", 5, "n1", d.now) })
	d.linkAnswer(map[uint16]error{5: &StreamStatusError{Op: mcbp.OpDCPAddStream, VB: 5, Status: mcbp.StatusNotMyVBucket}}, nil)
	assert.Empty(t, d.m.status().Links[0].Streams)

	t.Run("unless the stream could not even be closed", func(t *testing.T) {
		d := newDesk(t)
		d.live("n1", 5)
		d.do(func(id callID) { d.m.takeover(id, 1, "move", 5, "n1", d.now) })
		d.linkAnswer(map[uint16]error{5: &StreamStatusError{Op: mcbp.OpDCPCloseStream, VB: 5, Status: mcbp.StatusBusy}}, nil)
		assert.Equal(t, []uint16{5}, d.m.status().Links[0].Streams)
	})
}

func TestAskingAgainForALiveStreamAsksTheConnection(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 5)
	id := d.apply(1, "", map[uint16]string{5: "n1"})
	assert.Equal(t, []streamChange{{VB: 5, Kind: opAdd}}, d.changes(), "it alone knows whether the stream lives")
	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(id))
}

func TestRetainOwnsWhatItKeeps(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 5)
	d.m.linkCrashed(linkKey{producer: "n1"}, 1, errors.New("crash"), nil, d.now)
	require.NoError(t, d.answer(d.do(func(id callID) {
		d.m.retain(id, 1, "janitor", map[uint16]string{5: "n1"}, d.now)
	})))
	d.up("n1", 2)
	assert.Empty(t, d.sent, "nothing is opened in the middle of a janitor's step")
	d.do(func(id callID) { d.m.release(id, 1, "janitor") })
	d.m.tick(d.now)
	d.perform()
	assert.Equal(t, []streamChange{{VB: 5, Kind: opAdd}}, d.changes())
}

func TestWantedStreamsAreOpenedByTheManagerInItsTime(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 1, 2)
	d.m.linkCrashed(linkKey{producer: "n1"}, 1, errors.New("crash"), []uint16{2}, d.now)
	require.NoError(t, d.answer(d.do(func(id callID) {
		d.m.want(id, 1, map[uint16]string{2: "n1", 3: "n1"}, d.now)
	})))
	assert.Equal(t, map[uint16]string{1: "n1", 2: "n1", 3: "n1"}, d.m.status().Desired)
	d.up("n1", 2)
	assert.Equal(t, []streamChange{{VB: 1, Kind: opAdd}, {VB: 3, Kind: opAdd}}, d.changes(), "the suspect waits")
}

func TestALinkThatKeepsGivingUpIsPausedLongerAndLonger(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 1)
	key := linkKey{producer: "n1"}
	pauses := func() time.Duration {
		d.m.linkGone(key, errors.New("gave up"), d.now)
		pause := d.m.links[key].retryAt.Sub(d.now)
		d.now = d.now.Add(pause)
		d.m.tick(d.now)
		d.perform()
		d.up("n1", 1)
		return pause
	}
	assert.Equal(t, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, []time.Duration{pauses(), pauses(), pauses()})
	d.now = d.now.Add(settledAfter)
	d.m.tick(d.now)
	assert.Equal(t, time.Second, pauses(), "a link that has stayed up begins again")
}

// A manager that was started anew has forgotten everything, also the first epoch of a cluster.
func TestNothingIsChangedBeforeTheFirstEpochIsPrepared(t *testing.T) {
	d := &desk{t: t, m: newManagerMachine("orders", "n9", 1, Limits{}), answers: map[callID]error{}}
	var stale *StaleEpoch
	require.ErrorAs(t, d.answer(d.apply(0, "", map[uint16]string{1: "n1"})), &stale)
	assert.Empty(t, d.started)
	first := d.prepare(0)
	d.m.nuked(nil)
	d.perform()
	require.NoError(t, d.answer(first))
	d.apply(0, "", map[uint16]string{1: "n1"})
	assert.Len(t, d.started, 1)
}
