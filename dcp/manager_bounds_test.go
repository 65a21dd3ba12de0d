package dcp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func boundedDesk(t *testing.T, limits Limits) *desk {
	t.Helper()
	d := newDesk(t)
	d.m.limits = limits.withDefaults()
	return d
}

func requireOverloaded(t *testing.T, err error, what string, limit int) {
	t.Helper()
	var refused *OverloadedError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, OverloadedError{What: what, Limit: limit}, *refused)
}

func TestLinksAreBounded(t *testing.T) {
	d := boundedDesk(t, Limits{Links: 1})
	d.live("n1", 1)
	id := d.apply(1, "", map[uint16]string{2: "n2", 3: "n1"})
	d.linkAnswer(nil, nil)
	err := d.answer(id)
	requireOverloaded(t, err, "links", 1)
	assert.NotContains(t, err.(*ApplyError).ByVB, uint16(3), "the others are served") //nolint:errorlint // the layer itself
	assert.Len(t, d.m.links, 1)
	assert.NotContains(t, d.m.status().Desired, uint16(2))

	t.Run("wanted streams wait for room", func(t *testing.T) {
		require.NoError(t, d.answer(d.do(func(id callID) { d.m.want(id, 1, map[uint16]string{2: "n2"}, d.now) })))
		assert.Len(t, d.m.links, 1)
		d.apply(1, "", map[uint16]string{1: "", 3: ""})
		d.linkAnswer(nil, nil)
		d.pass(0)
		d.pass(idleLimit)
		d.m.linkStopped(n1, nil, d.now)
		d.pass(0)
		assert.Contains(t, d.m.links, linkKey{producer: "n2"})
	})
}

func TestCallsThatWaitAreBounded(t *testing.T) {
	d := boundedDesk(t, Limits{Calls: 2})
	first := d.apply(1, "", map[uint16]string{1: "n1"})
	d.do(func(id callID) { d.m.fence(id, 7, "n7") })
	requireOverloaded(t, d.answer(d.apply(1, "", map[uint16]string{2: "n1"})), "calls", 2)
	requireOverloaded(t, d.answer(d.do(func(id callID) { d.m.fence(id, 7, "n7") })), "calls", 2)
	assert.NotContains(t, d.m.status().Desired, uint16(2))

	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(first))
	again := d.apply(1, "", map[uint16]string{2: "n1"})
	assert.NotContains(t, d.answers, again)

	t.Run("but a new epoch is never refused for it", func(t *testing.T) {
		next := d.prepare(2)
		require.ErrorIs(t, d.answer(again), ErrSuperseded)
		d.linkAnswer(nil, nil)
		require.NoError(t, d.answer(next))
	})
	t.Run("nor do prepares pile up", func(t *testing.T) {
		d := boundedDesk(t, Limits{Calls: 2})
		d.apply(1, "", map[uint16]string{1: "n1"})
		d.prepare(2)
		d.prepare(2)
		requireOverloaded(t, d.answer(d.prepare(2)), "calls", 2)
		assert.NotContains(t, d.answers, d.prepare(3))
		assert.Len(t, d.m.prepares, 1)
	})
}

func TestTheBacklogOfALinkIsBounded(t *testing.T) {
	d := boundedDesk(t, Limits{Backlog: 2})
	id := d.apply(1, "", map[uint16]string{1: "n1", 2: "n1", 3: "n1"})
	assert.Len(t, d.changes(), 2)
	assert.Equal(t, 2, d.link(t).Backlog)
	d.linkAnswer(nil, nil)
	err := d.answer(id)
	requireOverloaded(t, err, "operations on the link", 2)
	assert.Len(t, err.(*ApplyError).ByVB, 1) //nolint:errorlint // the layer itself
	assert.Equal(t, 0, d.link(t).Backlog)

	t.Run("what is restored takes turns", func(t *testing.T) {
		require.NoError(t, d.answer(d.do(func(id callID) {
			d.m.want(id, 1, map[uint16]string{4: "n1", 5: "n1", 6: "n1"}, d.now)
		})))
		d.up("n1", 1)
		assert.Equal(t, []streamChange{{VB: 4}, {VB: 5}}, d.changes())
		d.linkAnswer(nil, nil)
		assert.Equal(t, []streamChange{{VB: 6}}, d.changes())
		d.linkAnswer(nil, nil)
		assert.Empty(t, d.m.status().KeptApart)
	})
	t.Run("a stream stays where its close found no room", func(t *testing.T) {
		d := boundedDesk(t, Limits{Backlog: 1})
		d.live("n1", 1)
		d.apply(1, "", map[uint16]string{2: "n1"})
		requireOverloaded(t, d.answer(d.apply(1, "", map[uint16]string{1: "n2"})), "operations on the link", 1)
		assert.Equal(t, []uint16{1}, d.m.status().Links[0].Streams)
		assert.Equal(t, "n1", d.m.status().Desired[1])
	})
}

// Those that are kept apart already take up no more room.
func TestSuspectsThatAreNamedAgainStaySuspects(t *testing.T) {
	d := boundedDesk(t, Limits{Suspects: 2})
	d.live("n1", 1, 2, 3)
	d.crash(1, ErrSocketClosed, 1, 2)
	d.now = d.now.Add(time.Minute)
	d.crash(2, ErrSocketClosed, 2, 1, 2, 3)
	assert.Equal(t, 2, d.m.replicas[1].failures)
	assert.Equal(t, 2, d.m.replicas[2].failures)
	assert.Zero(t, d.m.replicas[3].failures)
}

func TestSuspectsAreBounded(t *testing.T) {
	d := boundedDesk(t, Limits{Suspects: 2})
	d.live("n1", 1, 2, 3, 4)
	d.crash(1, &AddStreamTimeout{}, 1, 2, 3)
	assert.Len(t, d.m.status().KeptApart, 2)
	d.up("n1", 2)
	assert.Equal(t, []streamChange{{VB: 3}, {VB: 4}}, d.changes(), "a crash that names many is not about one of them")
	d.linkAnswer(nil, nil)
	d.incarnation = 2
	d.crash(2, &AddStreamTimeout{}, 4)
	assert.Len(t, d.m.status().KeptApart, 2, "the list is full")
}
