package rebalance

import (
	"slices"

	"github.com/shearpin/shearpin/dcp/kv"
)

// verdict is an answer that may have to wait for failover logs.
type verdict uint8

const (
	no verdict = iota
	yes
	// unread means that a failover log decides that has not been read.
	unread
)

// contains reports whether whole's history contains part's: everything that was written to part was written to whole
// too, so that part can be given up. That is so if a stream from whole to part would need no rollback (dcp-wire §10.2),
// and also if it would need one only because of a branch of part's under which nothing was written.
func contains(whole, part janitorCopy) verdict {
	switch {
	case !part.hasData():
		return yes
	case !whole.hasData():
		return no
	case whole.UUID == part.UUID && whole.UUID != 0:
		if part.HighSeqno <= whole.HighSeqno {
			return yes
		}
		return no
	case whole.FailoverLog == nil || part.FailoverLog == nil:
		return unread
	}
	if branch, ok := writtenBranch(part); ok {
		if upper, shared := branchEnd(whole, branch); shared && part.HighSeqno <= upper {
			return yes
		}
	}
	return no
}

// writtenBranch is the newest branch of a copy under which something was written. A branch begins at the seqno that was
// the last when it was made, so that one which begins at the high seqno is empty.
func writtenBranch(c janitorCopy) (uuid uint64, ok bool) {
	for _, entry := range c.FailoverLog {
		if entry.Seqno < c.HighSeqno {
			return entry.UUID, true
		}
	}
	return 0, false
}

// branchEnd is the last seqno that a copy has of a branch: where the next newer branch began, or the high seqno.
func branchEnd(c janitorCopy, uuid uint64) (seqno uint64, ok bool) {
	i := slices.IndexFunc(c.FailoverLog, func(entry kv.FailoverEntry) bool { return entry.UUID == uuid })
	switch {
	case i < 0:
		return 0, false
	case i == 0:
		return c.HighSeqno, true
	default:
		return c.FailoverLog[i-1].Seqno, true
	}
}

// covers reports whether node's history contains those of all others. Of several reasons against it, one that is known
// beats one that is not.
func (j *janitorView) covers(node string, others []string) verdict {
	result := yes
	for _, other := range others {
		if other == node {
			continue
		}
		switch contains(j.copies[node], j.copies[other]) {
		case no:
			return no
		case unread:
			result = unread
		case yes:
		}
	}
	return result
}

// pick is the first of candidates whose history contains those of all nodes in others; *HistoryNeeded if that depends
// on logs that have not been read; "" if there is none.
func (j *janitorView) pick(candidates, others []string) (string, error) {
	for _, node := range candidates {
		switch j.covers(node, others) {
		case yes:
			return node, nil
		case unread:
			return "", j.needHistory(append(slices.Clone(candidates), others...))
		case no:
		}
	}
	return "", nil
}

// needHistory asks for the logs of those of nodes that have data.
func (j *janitorView) needHistory(nodes []string) error {
	need := &HistoryNeeded{VB: j.vb}
	for _, node := range j.withData(nodes) {
		if j.copies[node].FailoverLog == nil && !slices.Contains(need.Nodes, node) {
			need.Nodes = append(need.Nodes, node)
		}
	}
	return need
}

// conflict describes copies that contradict each other.
func (j *janitorView) conflict(nodes ...string) error {
	e := &Conflict{VB: j.vb}
	for _, node := range nodes {
		c := j.copies[node]
		e.Copies = append(e.Copies, ConflictingCopy{
			Node: node, State: c.State, HighSeqno: c.HighSeqno, UUID: c.UUID, FailoverLog: slices.Clone(c.FailoverLog),
		})
	}
	return e
}

// mustContain is nil if node's history contains that of every one of others, else the reason to leave the vbucket
// alone.
func (j *janitorView) mustContain(node string, others ...string) error {
	for _, other := range others {
		switch contains(j.copies[node], j.copies[other]) {
		case no:
			return j.conflict(node, other)
		case unread:
			return j.needHistory([]string{node, other})
		case yes:
		}
	}
	return nil
}
