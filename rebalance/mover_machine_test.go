package rebalance

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/schedule"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// beganMover has moves of vbuckets 0 and 1 from n0 to n3, and of 2 from n1 to n3, in flight.
func beganMover(t *testing.T) *moverMachine {
	var plans []movePlan
	for vb, old := range []vbmap.Chain{{"n0", "n1"}, {"n0", "n2"}, {"n1", "n2"}} {
		plan, err := planMove(uint16(vb), old, vbmap.Chain{"n3", old[1]})
		require.NoError(t, err)
		plans = append(plans, plan)
	}
	m := newMoverMachine(plans, schedule.Limits{})
	m.begin()
	require.Len(t, m.flying, 3)
	return m
}

func crashOf(producer, consumer string, reason error) dcp.LinkCrashed {
	return dcp.LinkCrashed{
		Link:   dcp.Link{Bucket: "orders", Producer: producer, Consumer: consumer},
		Reason: reason, VBs: dcp.NamedVBuckets(reason),
	}
}

func earlyEnd(vb uint16) error {
	return &dcp.CrashError{Role: dcp.RoleConsumer, Err: &dcp.UnexpectedStreamEnd{VB: vb, Reason: mcbp.EndStateChanged}}
}

func finishedWith(t *testing.T, effects []moverEffect) error {
	t.Helper()
	require.Len(t, effects, 1)
	require.IsType(t, moverFinished{}, effects[0])
	return effects[0].(moverFinished).Err
}

// A crash is put down to the move whose vbucket it names, in whichever order the news of it comes.
func TestACrashIsTheFaultOfTheVBucketThatItNames(t *testing.T) {
	want := []string{"move of vb 1 n0→n3", "replication n0→n3/0", "consumer connection crashed"}
	link := &dcp.LinkError{Producer: "n0", Consumer: "n3", Err: earlyEnd(1)}

	m := beganMover(t)
	err := finishedWith(t, m.linkCrashed(crashOf("n0", "n3", earlyEnd(1))))
	assert.Equal(t, want, Causes(err)[:3])

	m = beganMover(t)
	err = finishedWith(t, m.moveEnded(1, &MoveError{VB: 1, From: "n0", To: "n3", Err: link}, nil))
	assert.Equal(t, want, Causes(err)[:3])

	m = beganMover(t)
	err = finishedWith(t, m.moveEnded(0, &MoveError{VB: 0, From: "n0", To: "n3", Err: link}, nil))
	assert.Equal(t, want, Causes(err)[:3], "vb 0 only shared the replication")
}

// Any crash of the bucket's replications ends the rebalance, also of one that no move uses.
func TestACrashThatNoMoveCausedIsNobodysFault(t *testing.T) {
	m := beganMover(t)
	err := finishedWith(t, m.linkCrashed(crashOf("n2", "n1", earlyEnd(9))))
	assert.Equal(t, []string{"replication n2→n1/0", "consumer connection crashed"}, Causes(err)[:2])

	m = beganMover(t)
	err = finishedWith(t, m.moveEnded(0, &MoveError{
		VB: 0, From: "n0", To: "n3",
		Err: &dcp.LinkError{Producer: "n0", Consumer: "n3", Err: earlyEnd(9)},
	}, nil))
	assert.Equal(t, "replication n0→n3/0", Causes(err)[0], "vb 9 does not move")
}

// A crash that names no vbucket is put down to a move that depends on the replication.
func TestACrashThatNamesNobody(t *testing.T) {
	m := beganMover(t)
	closed := &dcp.CrashError{Role: dcp.RoleProducer, Err: dcp.ErrSocketClosed}
	err := finishedWith(t, m.linkCrashed(crashOf("n1", "n3", closed)))
	assert.Equal(t, "move of vb 2 n1→n3", Causes(err)[0])
	require.ErrorIs(t, err, dcp.ErrSocketClosed)
}

// An error that only tells that something ended waits a moment for one that tells why.
func TestTheTrueCauseWins(t *testing.T) {
	vague := &MoveError{VB: 0, From: "n0", To: "n3", Err: &NodeError{Node: "n3", Err: actors.Killed}}

	m := beganMover(t)
	assert.Equal(t, []moverEffect{armSettle{settleTime}}, m.moveEnded(0, vague, nil))
	assert.Empty(t, m.moveEnded(1, &MoveError{VB: 1, Err: dcp.ErrSuperseded}, nil), "no better")
	err := finishedWith(t, m.linkCrashed(crashOf("n0", "n3", earlyEnd(1))))
	assert.Equal(t, "move of vb 1 n0→n3", Causes(err)[0])
	assert.Empty(t, m.settled())

	m = beganMover(t)
	m.moveEnded(0, vague, nil)
	assert.Equal(t, vague, finishedWith(t, m.settled()), "nothing better came")
	assert.Empty(t, m.moveEnded(1, errors.New("late"), nil))
	assert.Empty(t, m.linkCrashed(crashOf("n0", "n3", earlyEnd(1))))
}

func TestNothingStartsWhileACauseIsSought(t *testing.T) {
	m := beganMover(t)
	m.moveEnded(0, &MoveError{VB: 0, Err: actors.Killed}, nil)
	for _, effect := range m.moveEnded(1, nil, nil) {
		assert.NotEqual(t, "startMove", fmt.Sprintf("%T", effect))
	}
	assert.False(t, m.over)
}

func TestAStopLetsSwitchesEnd(t *testing.T) {
	m := beganMover(t)
	assert.Equal(t, []moverEffect{stopMove{0}, stopMove{1}, stopMove{2}}, m.stop())
	assert.Empty(t, m.stop())
	assert.Empty(t, m.moveEnded(0, &MoveError{VB: 0, Err: ErrStopped}, nil))
	assert.Empty(t, m.linkCrashed(crashOf("n0", "n3", earlyEnd(1))), "the first reason wins")
	effects := m.moveEnded(1, nil, []string{"vb 1: node n0"})
	assert.Len(t, effects, 1)
	assert.IsType(t, moverProgressed{}, effects[0])
	require.ErrorIs(t, finishedWith(t, m.moveEnded(2, errors.New("broken"), nil)), ErrStopped)
	assert.Equal(t, 1, m.done)
	assert.Equal(t, []string{"vb 1: node n0"}, m.leftovers)
}

func TestEndsOfStreamsAreToldToTheirMove(t *testing.T) {
	m := beganMover(t)
	e := dcp.StreamEnded{VB: 2}
	assert.Equal(t, []moverEffect{tellStreamEnded{VB: 2, Event: e}}, m.streamEnded(e))
	assert.Empty(t, m.streamEnded(dcp.StreamEnded{VB: 9}))
}

func TestAMoverWithoutMovesIsDone(t *testing.T) {
	m := newMoverMachine(nil, schedule.Limits{})
	effects := m.begin()
	assert.Equal(t, moverFinished{}, effects[len(effects)-1])
}
