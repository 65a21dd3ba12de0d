package kvnode

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Every rule of dcp-wire §10.2, with the cases on its edges. The producer is at seqno 100; its history 3 began after 60, 2
// after 20, and 1 at the start.
func TestRollbackDecision(t *testing.T) {
	log := failoverLog{{UUID: 3, Seqno: 60}, {UUID: 2, Seqno: 20}, {UUID: 1, Seqno: 0}}
	for name, c := range map[string]struct {
		start, snapStart, snapEnd, uuid uint64
		flags                           uint32
		purge, consumerPurge            uint64
		to                              uint64
		needed                          bool
	}{
		"1 from scratch":                            {},
		"1 from scratch, any uuid":                  {uuid: 99},
		"1 strict, no uuid":                         {flags: mcbp.StreamFlagStrictVBUUID},
		"1 strict, unknown uuid":                    {uuid: 99, flags: mcbp.StreamFlagStrictVBUUID, needed: true},
		"1 strict, known uuid":                      {uuid: 1, flags: mcbp.StreamFlagStrictVBUUID},
		"2 purged":                                  {start: 10, snapStart: 10, snapEnd: 10, uuid: 3, purge: 30, needed: true},
		"2 purged, but the consumer knows":          {start: 10, snapStart: 10, snapEnd: 10, uuid: 3, purge: 30, consumerPurge: 30},
		"2 purged, but it does not matter":          {start: 10, snapStart: 10, snapEnd: 10, uuid: 3, purge: 30, flags: mcbp.StreamFlagIgnorePurged},
		"2 not purged":                              {start: 30, snapStart: 30, snapEnd: 30, uuid: 3, purge: 30},
		"3 unknown uuid":                            {start: 10, snapStart: 10, snapEnd: 10, uuid: 99, needed: true},
		"4 newest history":                          {start: 100, snapStart: 100, snapEnd: 100, uuid: 3},
		"4 newest history, inside a snapshot":       {start: 70, snapStart: 65, snapEnd: 90, uuid: 3},
		"4 older history, before it ended":          {start: 60, snapStart: 50, snapEnd: 60, uuid: 2},
		"4 start of a snapshot that reaches beyond": {start: 50, snapStart: 50, snapEnd: 90, uuid: 2},
		"5 older history, after it ended":           {start: 70, snapStart: 70, snapEnd: 70, uuid: 2, to: 60, needed: true},
		"5 newest history, ahead of the producer":   {start: 120, snapStart: 110, snapEnd: 120, uuid: 3, to: 100, needed: true},
		"5 snapshot begins after the end":           {start: 70, snapStart: 65, snapEnd: 80, uuid: 2, to: 60, needed: true},
		"6 inside a snapshot across the end":        {start: 55, snapStart: 50, snapEnd: 70, uuid: 2, to: 50, needed: true},
		"6 inside a snapshot ahead of the producer": {start: 95, snapStart: 90, snapEnd: 110, uuid: 3, to: 90, needed: true},
		"oldest history":                            {start: 20, snapStart: 20, snapEnd: 20, uuid: 1},
		"oldest history, after it ended":            {start: 21, snapStart: 21, snapEnd: 21, uuid: 1, to: 20, needed: true},
	} {
		r := resumption{
			request: mcbp.StreamRequest{
				Flags: c.flags, Start: c.start, SnapStart: c.snapStart, SnapEnd: c.snapEnd, VBUUID: c.uuid,
			},
			consumerPurge: c.consumerPurge, high: 100, purge: c.purge, log: log,
		}
		to, needed := r.rollback()
		assert.Equal(t, c.needed, needed, name)
		assert.Equal(t, c.to, to, name)
	}
}

func TestFailoverLogBranches(t *testing.T) {
	l := newFailoverLog()
	require.Len(t, l, 1)
	require.NotZero(t, l.uuid())
	first := l.uuid()

	l = l.branch(10)
	l = l.branch(20)
	require.Len(t, l, 3)
	assert.Equal(t, []uint64{20, 10, 0}, seqnos(l))
	assert.NotEqual(t, first, l.uuid())
	assert.Equal(t, first, l[2].UUID)

	l = l.branch(15)
	assert.Equal(t, []uint64{15, 10, 0}, seqnos(l), "what began after 15 is a branch that was left")
	assert.Equal(t, []uint64{10, 0}, seqnos(l.prune(14)))
	assert.Empty(t, failoverLog{{UUID: 1, Seqno: 5}}.prune(4))
}

func TestFailoverLogKeepsTheNewestEntries(t *testing.T) {
	l := newFailoverLog()
	for i := range uint64(40) {
		l = l.branch(i + 1)
	}
	require.Len(t, l, maxFailoverEntries)
	assert.EqualValues(t, 40, l[0].Seqno)
	assert.EqualValues(t, 16, l[maxFailoverEntries-1].Seqno)
}

func seqnos(l failoverLog) []uint64 {
	list := make([]uint64, len(l))
	for i, e := range l {
		list[i] = e.Seqno
	}
	return list
}

func TestUUIDsFitInFortyEightBits(t *testing.T) {
	for range 1000 {
		u := newUUID()
		require.NotZero(t, u)
		require.Less(t, u, uint64(1)<<48)
	}
}
