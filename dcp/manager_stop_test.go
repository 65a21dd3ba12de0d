package dcp

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestShutWaitsForEveryLinkAndAnswersEveryCall(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 5)
	d.live("n2", 6)
	d.slow = true
	held := d.apply(1, "move", map[uint16]string{7: "n3"})
	running := d.apply(1, "move", map[uint16]string{8: "n1"})
	next := d.prepare(2)
	shut := d.do(func(id callID) { d.m.shut(id, d.now) })
	require.ErrorIs(t, d.answer(next), ErrShut)
	require.ErrorIs(t, d.answer(held), ErrSuperseded)
	require.ErrorIs(t, d.answer(running), ErrSuperseded)
	assert.Equal(t, []linkKey{{producer: "n1"}, {producer: "n2"}}, d.stopped)

	d.m.linkStarted(linkKey{producer: "n3"})
	d.perform()
	assert.Len(t, d.stopped, 3, "one that was starting follows")
	assert.Empty(t, d.sent[1:], "and is told nothing")

	for _, late := range []callID{
		d.apply(2, "", map[uint16]string{1: "n1"}),
		d.prepare(3),
		d.do(func(id callID) { d.m.takeover(id, 2, "", 1, "n1", d.now) }),
		d.do(func(id callID) { d.m.want(id, 2, map[uint16]string{1: "n1"}, d.now) }),
		d.do(func(id callID) { d.m.retain(id, 2, "", nil, d.now) }),
		d.do(func(id callID) { d.m.release(id, 2, "") }),
		d.do(func(id callID) { d.m.fence(id, 1, "n1") }),
		d.do(func(id callID) { d.m.refresh(id) }),
	} {
		require.ErrorIs(t, d.answer(late), ErrShut)
	}
	second := d.do(func(id callID) { d.m.shut(id, d.now) })
	late := errors.New("did not close in time")
	d.m.linkStopped(linkKey{producer: "n1"}, nil, d.now)
	d.m.linkStopped(linkKey{producer: "n2"}, late, d.now)
	d.perform()
	assert.NotContains(t, d.answers, shut)
	d.m.linkStopped(linkKey{producer: "n3"}, nil, d.now)
	d.perform()
	require.ErrorIs(t, d.answer(shut), late)
	require.ErrorIs(t, d.answer(second), late)
	require.ErrorIs(t, d.answer(d.do(func(id callID) { d.m.shut(id, d.now) })), late)
	d.pass(lastRetryPause)
	assert.Len(t, d.started, 3, "nothing comes back")
}

func TestShutWithoutLinksIsAnsweredAtOnce(t *testing.T) {
	d := newDesk(t)
	require.NoError(t, d.answer(d.do(func(id callID) { d.m.shut(id, d.now) })))
}

func TestShutForgetsLinksThatAreDown(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 5)
	d.m.linkGone(n1, errors.New("gave up"), d.now)
	held := d.apply(1, "", map[uint16]string{6: "n1"})
	shut := d.do(func(id callID) { d.m.shut(id, d.now) })
	require.ErrorIs(t, d.answer(held), ErrShut)
	require.NoError(t, d.answer(shut))
}

func TestShutAlsoStopsALinkWhoseNewsAreFasterThanItsStart(t *testing.T) {
	for name, news := range map[string]func(*desk){
		"up":      func(d *desk) { d.up("n1", 1) },
		"crashed": func(d *desk) { d.crash(1, ErrSocketClosed) },
	} {
		t.Run(name, func(t *testing.T) {
			d, held := slowDesk(t)
			shut := d.do(func(id callID) { d.m.shut(id, d.now) })
			news(d)
			d.m.linkStarted(n1)
			d.perform()
			assert.Equal(t, []linkKey{n1}, d.stopped, "once")
			assert.Empty(t, d.sent, "it is told nothing")
			assert.NotContains(t, d.answers, shut)
			d.m.linkStopped(n1, nil, d.now)
			d.perform()
			require.NoError(t, d.answer(shut))
			require.ErrorIs(t, d.answer(held), ErrShut)
		})
	}
}
