package rebalance

import (
	"fmt"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// The requests that an agent answers. All of them, and all answers, are plain data that encodes to JSON and back, so
// that an agent can run in another process than the one that asks.

// agentRequest is one question or order to the agent of a (node, bucket).
type agentRequest interface {
	// String says in words what is asked for; a step that waits too long names it.
	String() string
}

// orders are the requests that change something. They run if and only if their epoch is the one the agent was prepared
// for (design §6); they are queued per vbucket.
type order interface {
	agentRequest
	epoch() uint64
	// scope is the vbucket that the order changes; all is true for one that may change any.
	scope() (vb uint16, all bool)
}

// stamp is the part that every order carries.
type stamp struct {
	// Epoch is the rebalance's or janitor run's own, taken from the store.
	Epoch uint64 `json:"epoch"`
	// Owner is who asks, as the replication manager's owner of the vbucket.
	Owner string `json:"owner"`
}

func (s stamp) epoch() uint64 { return s.Epoch }

// setState makes a node's copy of a vbucket active, replica or dead, creating it if it is missing.
type setState struct {
	stamp
	VB    uint16            `json:"vb"`
	State mcbp.VBucketState `json:"state"`
	// Topology holds the one or two chains that durable writes must satisfy; only with an active.
	Topology [][]string `json:"topology,omitempty"`
}

// setStream points a vbucket's replica stream at a producer; the empty name closes it. Answered when the stream is live,
// or closed.
type setStream struct {
	stamp
	VB       uint16 `json:"vb"`
	Producer string `json:"producer"`
}

// takeover makes the agent's node the active of a vbucket that Producer is active of. Once begun it cannot be cancelled.
type takeover struct {
	stamp
	VB       uint16 `json:"vb"`
	Producer string `json:"producer"`
}

// deleteCopy drops a node's copy. A copy that is gone already counts as dropped.
type deleteCopy struct {
	stamp
	VB uint16 `json:"vb"`
}

// applyStates is a part of the janitor's first phase on one node, in this order (rebalance.md §8.4): close every stream that is
// not in Retain, set the states, delete the copies.
type applyStates struct {
	stamp
	Retain map[uint16]string `json:"retain"`
	States []vbucketState    `json:"states"`
	Delete []uint16          `json:"delete"`
}

// vbucketState is one entry of applyStates.
type vbucketState struct {
	VB       uint16            `json:"vb"`
	State    mcbp.VBucketState `json:"state"`
	Topology [][]string        `json:"topology,omitempty"`
}

// openStreams is the janitor's second phase on one node: open every stream that is wanted and not live.
type openStreams struct {
	stamp
	Streams map[uint16]string `json:"streams"`
}

// admitClients lets clients in, once the states on the node are as they shall be. An engine that was started again admits nobody
// by itself.
type admitClients struct{ stamp }

// releaseOwner ends the owner's hold on its vbuckets: from then on the replication manager may reconcile them.
type releaseOwner struct{ stamp }

func (r setState) scope() (uint16, bool)   { return r.VB, false }
func (r setStream) scope() (uint16, bool)  { return r.VB, false }
func (r takeover) scope() (uint16, bool)   { return r.VB, false }
func (r deleteCopy) scope() (uint16, bool) { return r.VB, false }
func (applyStates) scope() (uint16, bool)  { return 0, true }
func (openStreams) scope() (uint16, bool)  { return 0, true }
func (admitClients) scope() (uint16, bool) { return 0, true }
func (releaseOwner) scope() (uint16, bool) { return 0, true }
func (r setState) String() string {
	return fmt.Sprintf("state %v%s", r.State, topologyText(r.Topology))
}
func (r takeover) String() string { return "takeover from " + r.Producer }
func (deleteCopy) String() string { return "deletion of its copy" }
func (r applyStates) String() string {
	return fmt.Sprintf("%d states, %d deletions", len(r.States), len(r.Delete))
}
func (r openStreams) String() string  { return fmt.Sprintf("%d streams", len(r.Streams)) }
func (admitClients) String() string   { return "admission of clients" }
func (r releaseOwner) String() string { return "release by " + r.Owner }
func (r setStream) String() string {
	if r.Producer == "" {
		return "close of its stream"
	}
	return "stream from " + r.Producer
}

// prepare makes the agent serve the epoch and no lower one. It is answered when all work of lower epochs has ended.
type prepare struct {
	Epoch uint64 `json:"epoch"`
}

func (r prepare) String() string { return fmt.Sprintf("preparation for epoch %d", r.Epoch) }

// The reads. They have no side effects, need no epoch, and are answered at any time.
type (
	// readSeqno asks for a copy's seqnos.
	readSeqno struct {
		VB uint16 `json:"vb"`
	}
	// awaitPersisted waits until the copy has persisted Seqno, or the node wants to be asked again.
	awaitPersisted struct {
		VB    uint16 `json:"vb"`
		Seqno uint64 `json:"seqno"`
	}
	// readEstimate asks the producer how much of a vbucket it still has to send to Consumer.
	readEstimate struct {
		VB       uint16 `json:"vb"`
		Consumer string `json:"consumer"`
	}
	// readHistory asks for a copy's failover log.
	readHistory struct {
		VB uint16 `json:"vb"`
	}
	// query asks for every copy on the node and every live replica stream into it.
	query struct{}
)

func (r readSeqno) String() string      { return "its seqno" }
func (r awaitPersisted) String() string { return fmt.Sprintf("persistence of seqno %d", r.Seqno) }
func (r readEstimate) String() string   { return "the backfill of " + r.Consumer }
func (readHistory) String() string      { return "its failover log" }
func (query) String() string            { return "its vbucket states" }

// shutReplications is the planned end of a member that holds nothing any more: its streams are closed, and no others
// will be opened. It needs no epoch, because nobody prepares such a member again.
type shutReplications struct{}

func (shutReplications) String() string { return "the close of its streams" }

// The answers that carry a value; the others are nil.
type (
	seqnoAnswer struct {
		High      uint64 `json:"high"`
		Persisted uint64 `json:"persisted"`
	}
	// persistedAnswer has Again when the node ran out of patience (status 0x86): a sign of life, ask once more.
	persistedAnswer struct {
		Again bool `json:"again"`
	}
	estimateAnswer struct {
		Status string `json:"status"`
		Items  uint64 `json:"items"`
	}
	historyAnswer struct {
		// Entries has the newest branch first.
		Entries []kv.FailoverEntry `json:"entries"`
	}
	queryAnswer struct {
		Copies map[uint16]copyInfo `json:"copies"`
		// Streams is vbucket to producer, for the streams that are live; Wanted for those that should be.
		Streams map[uint16]string `json:"streams"`
		Wanted  map[uint16]string `json:"wanted"`
		// Admits says that clients have been let in since the agent's connection was made.
		Admits bool `json:"admits"`
	}
	// copyInfo is what a node says of its copy of one vbucket.
	copyInfo struct {
		State        mcbp.VBucketState `json:"state"`
		Topology     [][]string        `json:"topology,omitempty"`
		HighSeqno    uint64            `json:"high_seqno"`
		HighPrepared uint64            `json:"high_prepared"`
		Persisted    uint64            `json:"persisted"`
		UUID         uint64            `json:"uuid"`
		Items        uint64            `json:"items"`
	}
)

func topologyText(chains [][]string) string {
	if len(chains) == 0 {
		return ""
	}
	text := " with topology"
	for _, chain := range chains {
		text += " " + vbmap.Chain(chain).String()
	}
	return text
}
