package rebalance

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// What containing means, against failover logs as engines write them (dcp-wire §10.2).
func TestHistoryContains(t *testing.T) {
	branch := func(state mcbp.VBucketState, high uint64, entries ...uint64) janitorCopy {
		var log []kv.FailoverEntry
		for i := 0; i < len(entries); i += 2 {
			log = append(log, kv.FailoverEntry{UUID: entries[i], Seqno: entries[i+1]})
		}
		return copyOf(state, high, log)
	}
	const activeState, replicaState, deadState = mcbp.VBucketActive, mcbp.VBucketReplica, mcbp.VBucketDead
	unreadLog := func(c janitorCopy) janitorCopy { c.FailoverLog = nil; return c }
	tests := []struct {
		name        string
		whole, part janitorCopy
		want        verdict
	}{
		{"an empty copy is in anything", branch(deadState, 0, 3, 0), branch(activeState, 0, 4, 0), yes},
		{"a missing copy is in anything", branch(deadState, 0, 3, 0), wiped, yes},
		{"nothing is in an empty copy", branch(activeState, 0, 3, 0), branch(replicaState, 1, 4, 0), no},
		{"nothing is in a missing copy", wiped, branch(replicaState, 1, 4, 0), no},
		{"same branch, behind", branch(deadState, 9, 3, 0), branch(replicaState, 8, 3, 0), yes},
		{"same branch, level", branch(deadState, 9, 3, 0), branch(deadState, 9, 3, 0), yes},
		{"same branch, ahead", branch(deadState, 9, 3, 0), branch(replicaState, 10, 3, 0), no},
		{"same branch, a dead copy ahead of the active", branch(activeState, 9, 3, 0), branch(deadState, 10, 3, 0), no},
		{"same branch, another active ahead", branch(activeState, 9, 3, 0), branch(activeState, 10, 3, 0), no},
		{"older branch, up to where the newer began", branch(activeState, 20, 4, 10, 3, 0), branch(replicaState, 10, 3, 0), yes},
		{"older branch, beyond where the newer began", branch(activeState, 20, 4, 10, 3, 0), branch(replicaState, 11, 3, 0), no},
		{"newer branch with writes", branch(activeState, 20, 3, 0), branch(deadState, 11, 4, 10, 3, 0), no},
		{"newer branch without writes", branch(activeState, 20, 3, 0), branch(deadState, 10, 4, 10, 3, 0), yes},
		{"two newer branches without writes", branch(activeState, 20, 3, 0), branch(deadState, 10, 5, 10, 4, 10, 3, 0), yes},
		{"newer branch without writes, but the older one is ahead", branch(activeState, 9, 3, 0), branch(deadState, 10, 4, 10, 3, 0), no},
		{"strangers", branch(activeState, 20, 3, 0), branch(deadState, 10, 4, 0), no},
		{"a log that was read and is empty proves nothing", branch(activeState, 20, 3, 0), janitorCopy{State: deadState, HighSeqno: 5, UUID: 4, FailoverLog: []kv.FailoverEntry{}}, no},
		{"same branch needs no log", unreadLog(branch(activeState, 9, 3, 0)), unreadLog(branch(deadState, 9, 3, 0)), yes},
		{"different branches need the whole's log", unreadLog(branch(activeState, 9, 4, 0)), branch(deadState, 9, 3, 0), unread},
		{"different branches need the part's log", branch(activeState, 9, 4, 0), unreadLog(branch(deadState, 9, 3, 0)), unread},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, contains(test.whole, test.part))
		})
	}
}
