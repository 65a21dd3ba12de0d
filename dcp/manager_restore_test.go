package dcp

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

var (
	refusedAdd = &StreamStatusError{Op: mcbp.OpDCPAddStream, VB: 5, Status: mcbp.StatusNotMyVBucket}
	exists     = &StreamStatusError{Op: mcbp.OpDCPAddStream, VB: 5, Status: mcbp.StatusKeyExists}
)

// A real engine whose vbucket became a replica still accepts streams: nobody may open one because it was there before.
func TestAStreamThatItsOwnerClosedDoesNotComeBackByItself(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 5)
	move := d.apply(1, "move", map[uint16]string{5: "n2"})
	d.linkAnswer(nil, nil)
	d.linkAnswer(map[uint16]error{5: refusedAdd}, nil)
	require.Error(t, d.answer(move))
	d.do(func(id callID) { d.m.release(id, 1, "move") })
	assert.Equal(t, map[uint16]string{5: "n1"}, d.m.status().Desired, "wanted as before the request")
	d.pass(lastRetryPause)
	assert.Empty(t, d.sent)
	d.crash(1, ErrSocketClosed)
	d.up("n1", 2)
	d.pass(lastRetryPause)
	assert.Empty(t, d.sent, "it was not on the connection that was lost")

	t.Run("nor one that a new epoch overtook before it was opened elsewhere", func(t *testing.T) {
		d := newDesk(t)
		d.live("n1", 5)
		d.apply(1, "move", map[uint16]string{5: "n2"})
		next := d.prepare(2)
		d.linkAnswer(nil, nil)
		require.NoError(t, d.answer(next))
		d.pass(lastRetryPause)
		assert.Empty(t, d.sent)
	})
	t.Run("but one that could not be closed is still there", func(t *testing.T) {
		d := newDesk(t)
		d.live("n1", 5)
		d.apply(1, "move", map[uint16]string{5: "n2"})
		d.linkAnswer(nil, &LinkError{Err: &CrashError{Err: ErrSocketClosed}})
		d.do(func(id callID) { d.m.release(id, 1, "move") })
		d.crash(1, ErrSocketClosed)
		d.up("n1", 2)
		assert.Equal(t, []streamChange{{VB: 5, Kind: opAdd}}, d.changes())
	})
	t.Run("and one that was asked for again when its connection crashed was lost with it", func(t *testing.T) {
		d := newDesk(t)
		d.live("n1", 5)
		d.apply(1, "", map[uint16]string{5: "n1"})
		d.linkAnswer(nil, &LinkError{Err: &CrashError{Err: ErrSocketClosed}})
		d.pass(0)
		assert.Empty(t, d.sent, "its connections are gone before the news of it come")
		d.crash(1, ErrSocketClosed)
		d.up("n1", 2)
		assert.Equal(t, []streamChange{{VB: 5, Kind: opAdd}}, d.changes())
	})
}

func TestAFailedAddLeavesNothingWanted(t *testing.T) {
	d := newDesk(t)
	d.apply(1, "", map[uint16]string{5: "n1"})
	d.up("n1", 1)
	d.linkAnswer(map[uint16]error{5: refusedAdd}, nil)
	d.pass(lastRetryPause)
	assert.Empty(t, d.sent)
	assert.Empty(t, d.m.replicas)
}

func TestTheOwnerIsToldOfALostStream(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 4)
	d.apply(1, "move", map[uint16]string{5: "n1", 6: "n1"})
	d.linkAnswer(nil, nil)
	d.m.streamEnded(n1, 6, d.now)
	d.crash(1, ErrSocketClosed)
	lost := func(vb uint16) Event {
		return StreamLost{Link: d.m.linkOf(n1), VB: vb, Owner: "move", Epoch: 1, At: d.now}
	}
	assert.Equal(t, []Event{lost(6), lost(5)}, d.news)
	d.up("n1", 2)
	d.pass(lastRetryPause)
	assert.Equal(t, []streamChange{{VB: 4, Kind: opAdd}}, d.changes(), "and left to him")
}

func TestHealthyStreamsComeBackBeforeTheSuspect(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 1, 2, 3)
	d.crash(1, &UnexpectedStreamEnd{VB: 1}, 1)
	d.now = d.now.Add(time.Minute)
	d.up("n1", 2)
	assert.Equal(t, []streamChange{{VB: 2}, {VB: 3}}, d.changes(), "though the suspect's pause is over")
	d.pass(0)
	assert.Len(t, d.sent, 1, "it waits for them")
	d.linkAnswer(nil, nil)
	assert.Equal(t, []streamChange{{VB: 1}}, d.changes(), "and follows at once, alone")
	d.linkAnswer(nil, nil)

	t.Run("and not beside a move", func(t *testing.T) {
		d := newDesk(t)
		d.live("n1", 1)
		d.crash(1, &UnexpectedStreamEnd{VB: 1}, 1)
		d.up("n1", 2)
		d.apply(1, "move", map[uint16]string{7: "n1"})
		d.pass(time.Minute)
		assert.Equal(t, []streamChange{{VB: 7}}, d.changes())
		d.linkAnswer(nil, nil)
		assert.Equal(t, []streamChange{{VB: 1}}, d.changes())
	})
	t.Run("a bystander of a crash is no suspect", func(t *testing.T) {
		d := newDesk(t)
		d.live("n1", 1, 2, 3)
		d.crash(1, ErrSocketClosed)
		d.up("n1", 2)
		d.incarnation = 2
		d.linkAnswer(nil, &LinkError{Err: &CrashError{Err: &UnexpectedStreamEnd{VB: 2}}})
		assert.Empty(t, d.sent)
		d.crash(2, &UnexpectedStreamEnd{VB: 2}, 2)
		d.up("n1", 3)
		assert.Equal(t, []streamChange{{VB: 1}, {VB: 3}}, d.changes())
		assert.Len(t, d.m.status().KeptApart, 1)
	})
	t.Run("a call that never left is tried again after a pause", func(t *testing.T) {
		d := newDesk(t)
		d.live("n1", 1)
		d.crash(1, ErrSocketClosed)
		d.up("n1", 2)
		d.incarnation = 0
		d.linkAnswer(nil, ErrSuperseded)
		d.pass(firstReplicaRetry - 1)
		assert.Empty(t, d.sent)
		d.pass(1)
		assert.Equal(t, []streamChange{{VB: 1}}, d.changes())
		assert.Empty(t, d.m.status().KeptApart)
	})
}

// Each is followed by the next, without a look at all the others: there may be as many as there are vbuckets.
func TestSuspectsFollowEachOther(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 1, 2, 3, 4, 5, 6)
	for _, vb := range []uint16{6, 5, 3, 2, 1} {
		d.m.streamEnded(n1, vb, d.now)
	}
	d.now = d.now.Add(500 * time.Millisecond)
	d.m.streamEnded(n1, 4, d.now)
	tried := func(vb uint16) {
		t.Helper()
		assert.Equal(t, []streamChange{{VB: vb, Kind: opAdd}}, d.changes())
	}
	d.pass(500 * time.Millisecond)
	tried(1)
	for range 3 {
		d.pass(0)
		assert.Len(t, d.m.links[n1].waiting, 4, "each waits once")
	}
	d.linkAnswer(map[uint16]error{1: refusedAdd}, nil)
	tried(2)

	d.apply(1, "", map[uint16]string{7: "n1"})
	d.linkAnswer(nil, nil)
	tried(7) // not beside something else
	d.linkAnswer(nil, nil)
	tried(3)
	d.apply(1, "", map[uint16]string{5: ""})
	d.linkAnswer(nil, nil)
	tried(6) // 5 is not wanted any more, and the pause of 4 is not over
	d.linkAnswer(nil, nil)
	assert.Empty(t, d.sent)
	d.pass(500 * time.Millisecond)
	tried(4)
	d.linkAnswer(nil, nil)
	assert.Empty(t, d.sent)
	assert.Equal(t, []linkKey{n1}, d.started)

	t.Run("but not while a new epoch is prepared, nor after a stop", func(t *testing.T) {
		for _, end := range []func(*desk){
			func(d *desk) { d.prepare(2) }, func(d *desk) { d.do(func(id callID) { d.m.shut(id, d.now) }) },
		} {
			d := newDesk(t)
			d.live("n1", 1, 2)
			d.m.streamEnded(n1, 1, d.now)
			d.m.streamEnded(n1, 2, d.now)
			d.pass(time.Second)
			require.Len(t, d.sent, 1)
			d.m.unfenced = map[linkKey]unfenced{n1: {}} // keeps the epoch from being prepared at once
			end(d)
			d.linkAnswer(nil, nil)
			assert.Empty(t, d.sent)
		}
	})
}

func TestASuspectsPauseGrowsFromASecondToFiveMinutes(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 5)
	var pauses []time.Duration
	fail := func(incarnation uint64) {
		d.crash(incarnation, &UnexpectedStreamEnd{VB: 5}, 5)
		until := d.m.status().KeptApart[5]
		pauses = append(pauses, until.Sub(d.now))
		d.now = until
		d.up("n1", incarnation+1)
		d.incarnation = incarnation + 1
	}
	for incarnation := range uint64(6) {
		fail(incarnation + 1)
		d.linkAnswer(nil, nil) // it comes up, and crashes the connection soon after
	}
	for incarnation := range uint64(5) {
		fail(incarnation + 7) // it crashes the connection while it is being added
		d.linkAnswer(nil, &LinkError{Err: &CrashError{Err: &UnexpectedStreamEnd{VB: 5}}})
	}
	s := time.Second
	assert.Equal(t, []time.Duration{1 * s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 64 * s, 128 * s, 256 * s, 300 * s, 300 * s}, pauses)

	t.Run("until it has lived for a while", func(t *testing.T) {
		d := newDesk(t)
		d.live("n1", 5)
		for incarnation := range uint64(3) {
			d.crash(incarnation+1, &UnexpectedStreamEnd{VB: 5}, 5)
			assert.Equal(t, d.now.Add(firstReplicaRetry), d.m.status().KeptApart[5])
			d.now = d.now.Add(firstReplicaRetry)
			d.up("n1", incarnation+2)
			d.linkAnswer(nil, nil)
			d.now = d.now.Add(settledAfter)
		}
	})
	t.Run("also if it is asked for again meanwhile", func(t *testing.T) {
		d := newDesk(t)
		d.live("n1", 5)
		d.crash(1, &UnexpectedStreamEnd{VB: 5}, 5)
		d.pass(firstReplicaRetry)
		d.up("n1", 2)
		d.linkAnswer(nil, nil)
		d.now = d.now.Add(settledAfter - 1)
		d.apply(1, "", map[uint16]string{5: "n1"})
		d.linkAnswer(nil, nil)
		d.now = d.now.Add(1)
		d.crash(2, &UnexpectedStreamEnd{VB: 5}, 5)
		assert.Equal(t, d.now.Add(firstReplicaRetry), d.m.status().KeptApart[5])
	})
}

// existing is a lost stream whose engine says that it is there already.
func existing(t *testing.T) *desk {
	t.Helper()
	d := newDesk(t)
	d.live("n1", 5)
	d.live("n2", 6)
	d.crash(1, ErrSocketClosed)
	d.up("n1", 2)
	d.incarnation = 2
	d.linkAnswer(map[uint16]error{5: exists}, nil)
	return d
}

// lookAgain lets the engine say so until the deadline has passed.
func (d *desk) lookAgain() {
	for range 2 * d.m.limits.Close / existsRetry {
		d.pass(existsRetry)
		if len(d.sent) == 0 {
			return
		}
		d.linkAnswer(map[uint16]error{5: exists}, nil)
	}
	require.Fail(d.t, "it looks again and again")
}

func TestARestoredStreamThatExistsAlreadyIsLookedAtAgain(t *testing.T) {
	d := existing(t)
	assert.Contains(t, d.m.status().KeptApart, uint16(5), "visible")
	d.pass(existsRetry - 1)
	assert.Empty(t, d.sent)
	d.pass(1)
	assert.Equal(t, []streamChange{{VB: 5}}, d.changes())
	d.linkAnswer(nil, nil)
	assert.Empty(t, d.strangers, "its end had been under way")
	assert.Empty(t, d.m.status().KeptApart)
}

func TestARestoredStreamThatStillExistsIsNukedByName(t *testing.T) {
	d := existing(t)
	began := d.now
	d.lookAgain()
	assert.InDelta(t, d.m.limits.Close, d.now.Sub(began), float64(2*existsRetry))
	ours := []string{ConnectionName("n1", "n9", "orders", 0), ConnectionName("n2", "n9", "orders", 0)}
	assert.Equal(t, [][]string{ours}, d.strangers)
	d.pass(time.Hour)
	assert.Empty(t, d.sent, "not before the answer")
	d.m.strangersNuked(1, nil, d.now)
	d.perform()
	assert.Equal(t, []streamChange{{VB: 5}}, d.changes())
	d.linkAnswer(nil, nil)
	assert.Empty(t, d.reset)

	t.Run("under the link's own name if nobody else has it", func(t *testing.T) {
		d := existing(t)
		d.lookAgain()
		d.m.strangersNuked(0, nil, d.now)
		d.perform()
		assert.Equal(t, []linkKey{n1}, d.reset)
		d.crash(2, ErrFenced)
		d.up("n1", 3)
		assert.Empty(t, d.sent, "after its pause")
		d.pass(firstReplicaRetry)
		assert.Equal(t, []streamChange{{VB: 5}}, d.changes())
		d.linkAnswer(nil, nil)
		assert.Equal(t, []uint16{5}, d.m.status().Links[0].Streams)
	})
	t.Run("not in the middle of somebody's work on that link", func(t *testing.T) {
		d := existing(t)
		move := d.apply(1, "move", map[uint16]string{7: "n1"})
		d.linkAnswer(nil, nil)
		require.NoError(t, d.answer(move))
		d.lookAgain()
		d.m.strangersNuked(0, nil, d.now)
		d.pass(0)
		assert.Empty(t, d.reset)
		d.do(func(id callID) { d.m.release(id, 1, "move") })
		d.pass(0)
		assert.Equal(t, []linkKey{n1}, d.reset)
	})
	t.Run("and later and later if that fails", func(t *testing.T) {
		d := existing(t)
		d.lookAgain()
		for _, pause := range []time.Duration{firstReplicaRetry, 2 * firstReplicaRetry} {
			d.m.strangersNuked(0, errors.New("node is down"), d.now)
			d.perform()
			assert.Equal(t, d.now.Add(pause), d.m.status().KeptApart[5])
			d.pass(pause)
			d.linkAnswer(map[uint16]error{5: exists}, nil)
		}
		assert.Len(t, d.strangers, 3)
		assert.Empty(t, d.reset)
	})
}

// A caller has his answer at once; who asks again shall not meet the same left-over for ever.
func TestAnAskedForStreamThatExistsAlreadyIsAnErrorAndItsHolderIsLookedFor(t *testing.T) {
	d := newDesk(t)
	for range 2 {
		id := d.apply(1, "janitor", map[uint16]string{5: "n1"})
		d.linkAnswer(map[uint16]error{5: exists}, nil)
		require.ErrorIs(t, d.answer(id), mcbp.StatusKeyExists)
		d.m.strangersNuked(0, nil, d.now)
		d.perform()
	}
	assert.Len(t, d.strangers, 1, "once in a while")
	assert.Empty(t, d.reset)
	d.pass(d.m.limits.Close)
	d.apply(1, "janitor", map[uint16]string{5: "n1"})
	d.linkAnswer(map[uint16]error{5: exists}, nil)
	assert.Len(t, d.strangers, 2)
}

func TestAStreamThatIsBeingClosedIsNotCalledLive(t *testing.T) {
	d := newDesk(t)
	d.live("n1", 5, 6, 7)
	d.apply(1, "move", map[uint16]string{5: "n2", 7: "n1"})
	d.do(func(id callID) { d.m.takeover(id, 1, "move", 6, "n1", d.now) })
	assert.Equal(t, []uint16{7}, d.m.status().Links[0].Streams)
}

func TestTheLastOfTheRequestsThatWaitWins(t *testing.T) {
	d := newDesk(t)
	first := d.apply(1, "a", map[uint16]string{5: "n1"})
	taken := d.do(func(id callID) { d.m.takeover(id, 1, "b", 5, "n1", d.now) })
	again := d.do(func(id callID) { d.m.takeover(id, 1, "b", 5, "n1", d.now) })
	require.ErrorIs(t, d.answer(taken), ErrSuperseded)
	last := d.apply(1, "c", map[uint16]string{5: "n1"})
	require.ErrorIs(t, d.answer(again), ErrSuperseded)
	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(first))
	d.linkAnswer(nil, nil)
	require.NoError(t, d.answer(last))
	assert.Empty(t, d.sent)
	require.NoError(t, d.answer(d.prepare(2)), "a takeover that never began needs no fence")
}

// One of the two nodes has closed it, so it is gone, whatever the other one says. Like any that was closed on request it
// does not come back by itself, but who wants it gets it.
func TestAStreamIsGoneThoughItsCloseWasRefused(t *testing.T) {
	for name, change := range map[string]func(*desk) callID{
		"moved": func(d *desk) callID { return d.apply(1, "", map[uint16]string{5: "n2"}) },
		"taken over": func(d *desk) callID {
			return d.do(func(id callID) { d.m.takeover(id, 1, "", 5, "n1", d.now) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.live("n1", 5)
			id := change(d)
			d.linkAnswer(map[uint16]error{5: &StreamStatusError{Op: mcbp.OpDCPCloseStream, VB: 5, Status: mcbp.StatusBusy, Gone: true}}, nil)
			require.ErrorIs(t, d.answer(id), mcbp.StatusBusy)
			for _, l := range d.m.status().Links {
				assert.Empty(t, l.Streams)
			}
			d.pass(lastRetryPause)
			assert.Empty(t, d.sent)
			d.up("n1", 2)
			d.do(func(id callID) { d.m.want(id, 1, map[uint16]string{5: "n1"}, d.now) })
			assert.Equal(t, []streamChange{{VB: 5, Kind: opAdd}}, d.changes())
		})
	}
}
