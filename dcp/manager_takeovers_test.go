package dcp

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

var takenFrom = linkKey{producer: "n1"}

// failedTakeover is a takeover of vbucket 5 that fails on the link's second incarnation.
func failedTakeover(t *testing.T, errs map[uint16]error, err error) *desk {
	t.Helper()
	d := newDesk(t)
	d.incarnation = 2
	id := d.do(func(id callID) { d.m.takeover(id, 1, "move", 5, "n1", d.now) })
	d.up("n1", 2)
	d.linkAnswer(errs, err)
	require.Error(t, d.answer(id))
	return d
}

func TestNoEpochBeforeAFailedTakeoverIsFenced(t *testing.T) {
	for name, fail := range map[string]struct {
		errs map[uint16]error
		err  error
	}{
		"crash":         {nil, &CrashError{Role: RoleConsumer, Err: ErrSocketClosed}},
		"state refused": {map[uint16]error{5: &StreamStatusError{Op: mcbp.OpDCPSetVBucketState, VB: 5, Status: mcbp.StatusBusy}}, nil},
		"stream ended":  {map[uint16]error{5: &StreamEndedError{VB: 5}}, nil},
		"shut":          {nil, ErrShut},
	} {
		t.Run(name, func(t *testing.T) {
			d := failedTakeover(t, fail.errs, fail.err)
			next := d.prepare(2)
			assert.NotContains(t, d.answers, next)
			assert.Equal(t, []fenceTakeover{{key: takenFrom, after: 2}}, d.fences)
			d.m.takeoverFenced(takenFrom, 2, nil)
			d.perform()
			require.NoError(t, d.answer(next))
			require.NoError(t, d.answer(d.prepare(3)))
			assert.Len(t, d.fences, 1)
		})
	}
}

func TestATakeoverThatNoEngineStartedNeedsNoFence(t *testing.T) {
	for name, refused := range map[string]error{
		"add refused":   &StreamStatusError{Op: mcbp.OpDCPAddStream, VB: 5, Status: mcbp.StatusNotMyVBucket},
		"close refused": &StreamStatusError{Op: mcbp.OpDCPCloseStream, VB: 5, Status: mcbp.StatusBusy},
		"stream open":   ErrStreamOpen,
	} {
		t.Run(name, func(t *testing.T) {
			d := failedTakeover(t, map[uint16]error{5: refused}, nil)
			require.NoError(t, d.answer(d.prepare(2)))
			assert.Empty(t, d.fences)
		})
	}
	t.Run("never connected", func(t *testing.T) {
		d := newDesk(t)
		d.incarnation = 0
		d.do(func(id callID) { d.m.takeover(id, 1, "move", 5, "n1", d.now) })
		d.linkAnswer(nil, &NotConnectedError{Err: ErrDeadline})
		require.NoError(t, d.answer(d.prepare(2)))
		assert.Empty(t, d.fences)
	})
}

func TestTheNextIncarnationOfTheLinkIsTheFence(t *testing.T) {
	crash := &CrashError{Role: RoleConsumer, Err: ErrSocketClosed}
	d := failedTakeover(t, nil, crash)
	d.m.linkCrashed(takenFrom, 2, crash, nil, d.now)
	d.up("n1", 3)
	require.NoError(t, d.answer(d.prepare(2)))
	assert.Empty(t, d.fences)

	t.Run("and any of a link that was started anew", func(t *testing.T) {
		d := failedTakeover(t, nil, crash)
		d.m.linkGone(takenFrom, errors.New("gave up"), d.now)
		d.now = d.now.Add(firstLinkRetry)
		d.m.tick(d.now)
		d.up("n1", 1)
		require.NoError(t, d.answer(d.prepare(2)))
	})
}

func TestAnEpochIsRefusedWhileATakeoverCannotBeFenced(t *testing.T) {
	d := failedTakeover(t, nil, ErrSocketClosed)
	next := d.prepare(2)
	d.m.takeoverFenced(takenFrom, 2, errors.New("node is down"))
	d.perform()
	var unfenced *UnfencedError
	require.ErrorAs(t, d.answer(next), &unfenced)
	assert.Equal(t, []uint16{5}, unfenced.VBs)
	d.refusesItsOwnEpoch()
	again := d.prepare(3)
	assert.NotContains(t, d.answers, again)
	assert.Len(t, d.fences, 2, "it is tried again")
	d.m.takeoverFenced(takenFrom, 2, nil)
	d.perform()
	require.NoError(t, d.answer(again))
}

func TestATakeoverThatFailsDuringAPrepareIsFencedToo(t *testing.T) {
	d := newDesk(t)
	d.do(func(id callID) { d.m.takeover(id, 1, "move", 5, "n1", d.now) })
	next := d.prepare(2)
	d.linkAnswer(nil, ErrFenced)
	assert.NotContains(t, d.answers, next)
	require.Len(t, d.fences, 1)
	d.m.takeoverFenced(takenFrom, 1, nil)
	d.perform()
	require.NoError(t, d.answer(next))
}

func TestLeftoversThatCannotBeEndedRefuseTheFirstEpoch(t *testing.T) {
	d := &desk{t: t, m: newManagerMachine("orders", "n9", 1, Limits{}), answers: map[callID]error{}}
	first := d.prepare(1)
	d.m.nuked(errors.New("node is down"))
	d.perform()
	require.ErrorContains(t, d.answer(first), "node is down")
	d.refusesItsOwnEpoch()
	assert.Empty(t, d.started, "the next look for leftovers meets nothing of ours")
	second := d.prepare(1)
	d.refusesItsOwnEpoch()
	assert.Equal(t, 2, d.nukes)
	d.m.nuked(nil)
	d.perform()
	require.NoError(t, d.answer(second))
	assert.NotContains(t, d.answers, d.apply(1, "", map[uint16]string{1: "n1"}))
}

// refusesItsOwnEpoch requires that an epoch that was asked for, and is not prepared, is nobody's.
func (d *desk) refusesItsOwnEpoch() {
	d.t.Helper()
	epoch, changes := d.m.epoch, map[uint16]string{1: "n1"}
	for _, id := range []callID{
		d.apply(epoch, "", changes),
		d.do(func(id callID) { d.m.takeover(id, epoch, "", 1, "n1", d.now) }),
		d.do(func(id callID) { d.m.want(id, epoch, changes, d.now) }),
		d.do(func(id callID) { d.m.retain(id, epoch, "", nil, d.now) }),
		d.do(func(id callID) { d.m.release(id, epoch, "") }),
	} {
		var stale *StaleEpoch
		require.ErrorAs(d.t, d.answer(id), &stale)
		assert.Equal(d.t, StaleEpoch{Got: epoch}, *stale)
	}
}

func TestATakeoverThatFailedOnTwoLinksIsFencedOnBoth(t *testing.T) {
	d := failedTakeover(t, nil, ErrSocketClosed)
	d.m.linkCrashed(takenFrom, 2, ErrSocketClosed, nil, d.now)
	d.do(func(id callID) { d.m.takeover(id, 1, "move", 5, "n2", d.now) })
	d.up("n2", 2)
	d.linkAnswer(nil, ErrSocketClosed)
	next := d.prepare(2)
	other := linkKey{producer: "n2"}
	require.Equal(t, []fenceTakeover{{key: takenFrom, after: 2}, {key: other, after: 2}}, d.fences)
	d.m.takeoverFenced(other, 2, nil)
	d.perform()
	assert.NotContains(t, d.answers, next, "the first may still be under way")
	d.m.takeoverFenced(takenFrom, 2, nil)
	d.perform()
	require.NoError(t, d.answer(next))
}

// One OPEN fences all that a link had under way; two of them at the same time would end each other.
func TestALinkIsFencedOnceForAllItsTakeovers(t *testing.T) {
	d := newDesk(t)
	for _, vb := range []uint16{5, 6} {
		d.do(func(id callID) { d.m.takeover(id, 1, "move", vb, "n1", d.now) })
	}
	d.up("n1", 1)
	d.linkAnswer(nil, ErrSocketClosed)
	d.linkAnswer(nil, ErrSocketClosed)
	d.m.linkGone(takenFrom, errors.New("gave up"), d.now)
	next := d.prepare(2)
	require.Equal(t, []fenceTakeover{{key: takenFrom, byName: true}}, d.fences)
	d.m.takeoverFenced(takenFrom, 0, errors.New("node is down"))
	d.perform()
	var unfenced *UnfencedError
	require.ErrorAs(t, d.answer(next), &unfenced)
	assert.Equal(t, []uint16{5, 6}, unfenced.VBs)
	again := d.prepare(3)
	d.m.takeoverFenced(takenFrom, 0, nil)
	d.perform()
	require.NoError(t, d.answer(again))

	t.Run("but again for one that failed later", func(t *testing.T) {
		d := newDesk(t)
		d.do(func(id callID) { d.m.takeover(id, 1, "move", 5, "n1", d.now) })
		d.do(func(id callID) { d.m.takeover(id, 1, "move", 6, "n1", d.now) })
		d.up("n1", 1)
		next := d.prepare(2)
		d.linkAnswer(nil, ErrSocketClosed)
		d.incarnation = 2
		d.linkAnswer(nil, ErrSocketClosed)
		require.Equal(t, []fenceTakeover{{key: takenFrom, after: 1}, {key: takenFrom, after: 2}}, d.fences)
		d.m.takeoverFenced(takenFrom, 1, nil)
		d.perform()
		assert.NotContains(t, d.answers, next)
		d.m.takeoverFenced(takenFrom, 2, nil)
		d.perform()
		require.NoError(t, d.answer(next))
	})
}

func TestATakeoversFenceIsAskedForAlsoIfTheLinkCrashesBeforeItsStartIsKnown(t *testing.T) {
	d := failedTakeover(t, nil, ErrSocketClosed)
	d.m.linkGone(takenFrom, errors.New("gave up"), d.now)
	d.slow = true
	d.pass(firstLinkRetry)
	next := d.prepare(2)
	require.Empty(t, d.fences)
	d.crash(1, ErrSocketClosed)
	d.m.linkStarted(takenFrom)
	d.perform()
	require.Equal(t, []fenceTakeover{{key: takenFrom}}, d.fences)
	d.m.takeoverFenced(takenFrom, 0, nil)
	d.perform()
	require.NoError(t, d.answer(next))
}

// The answer of a replicator that died may come after its link was started anew, whose incarnations count from 1 again.
func TestATakeoversFenceIsAskedForAlsoIfItsLinkIsUpBeforeItsStartIsKnown(t *testing.T) {
	d := newDesk(t)
	d.do(func(id callID) { d.m.takeover(id, 1, "move", 5, "n1", d.now) })
	d.up("n1", 1)
	d.m.linkGone(takenFrom, errors.New("gave up"), d.now)
	d.linkAnswer(nil, ErrSocketClosed)
	d.slow = true
	d.pass(firstLinkRetry)
	next := d.prepare(2)
	require.Empty(t, d.fences)
	d.up("n1", 1)
	d.m.linkStarted(takenFrom)
	d.perform()
	require.Equal(t, []fenceTakeover{{key: takenFrom, after: 1}}, d.fences)
	d.m.takeoverFenced(takenFrom, 1, nil)
	d.perform()
	require.NoError(t, d.answer(next))
}
