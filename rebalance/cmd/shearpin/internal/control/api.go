// Package control is how a manager that runs is commanded: the types of its HTTP interface, and a client of it.
//
// docs/operations.md lists the paths. Bodies are JSON; what is refused is answered with a [Problem].
package control

import (
	"time"

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/web"
)

// Prefix is that of all paths of this version but the probes and the metrics.
const Prefix = "/api/v1"

// Current stands for the name of the rebalance that has not ended.
const Current = "current"

// Heartbeat is the longest that a stream is silent. A client that hears nothing for several of them may give up.
const Heartbeat = 2 * time.Second

// Longest is what a manager has for a request that is answered at once, when nodes have to do something for it.
const Longest = 10 * time.Minute

// RebalanceRequest starts a rebalance.
type RebalanceRequest struct {
	// Add are nodes to make known first.
	Add []rebalance.Node `json:"add,omitempty"`
	// Keep are the nodes that shall hold data when it is done. Remove are those that shall not; the manager forgets them when
	// it is complete. At most one of the two; without either all known nodes hold data.
	Keep   []string `json:"keep,omitempty"`
	Remove []string `json:"remove,omitempty"`
	// Buckets are those to rebalance, in that order; empty means all.
	Buckets []string `json:"buckets,omitempty"`
	// Plan is executed as it is. It comes alone.
	Plan *rebalance.Plan `json:"plan,omitempty"`
}

// Started names a rebalance.
type Started struct {
	ID string `json:"id"`
}

// Update is one line of the stream of a rebalance. The last has the report, or a problem if nobody will ever know how it
// ended; the others have progress.
type Update struct {
	Progress *rebalance.Progress `json:"progress,omitempty"`
	Report   *rebalance.Report   `json:"report,omitempty"`
	Problem  *Problem            `json:"error,omitempty"`
}

// Bucket is a bucket to create.
type Bucket struct {
	Name       string `json:"name"`
	VBuckets   int    `json:"vbuckets,omitempty"`
	Replicas   int    `json:"replicas"`
	QuotaBytes int64  `json:"quota_bytes,omitempty"`
	Directory  string `json:"directory,omitempty"`
}

// Janitor is what a run of the janitor came to.
type Janitor struct {
	rebalance.JanitorReport
	// Problems are what it could not repair: by bucket, one text for each.
	Problems map[string][]string `json:"problems,omitempty"`
}

// FailoverRequest says which nodes to give up.
type FailoverRequest struct {
	rebalance.FailoverRequest
	// Graceful moves their vbuckets away first. It is answered with [Started].
	Graceful bool `json:"graceful,omitempty"`
}

// Failover is what a failover came to.
type Failover struct {
	*rebalance.FailoverReport
	// Problems are what was not done: by bucket, one text for each.
	Problems map[string][]string `json:"problems,omitempty"`
}

// AddBack says what becomes of the copies of a node that is added back.
type AddBack struct {
	// DiscardDiverged lets the next rebalance delete those that hold data which their active lacks.
	DiscardDiverged bool `json:"discard_diverged,omitempty"`
}

// Move names one move of a rebalance.
type Move struct {
	Bucket string `json:"bucket"`
	VB     uint16 `json:"vb"`
}

// Process is one process of the supervision tree.
type Process struct {
	ID         string    `json:"id"`
	PID        string    `json:"pid,omitempty"`
	Kind       string    `json:"kind,omitempty"`
	Supervisor bool      `json:"supervisor"`
	State      string    `json:"state"`
	Since      time.Time `json:"since"`
	Restarts   int       `json:"restarts"`
	LastExit   string    `json:"last_exit,omitempty"`
	Mailbox    int       `json:"mailbox"`
	// Error says why nothing is known of what is below.
	Error    string    `json:"error,omitempty"`
	Children []Process `json:"children,omitempty"`
}

// Problem is why something was refused, or failed.
type Problem struct {
	// Code is a word of a closed set, for programs.
	Code string `json:"code"`
	// Text is for people, Cause the same layer by layer, outermost first.
	Text  string   `json:"text"`
	Cause []string `json:"cause,omitempty"`
	// Field and Value are what is wrong with a request.
	Field string `json:"field,omitempty"`
	Value string `json:"value,omitempty"`
}

func (p *Problem) Error() string { return p.Text }

// The codes.
const (
	CodeBadRequest   = "bad_request"
	CodeUnauthorised = "unauthorised"
	CodeForbidden    = "forbidden"
	CodeNotFound     = "not_found"
	CodeTooLarge     = "too_large"
	CodeNotJSON      = "not_json"
	CodeBusy         = "too_many_requests"
	CodeRunning      = "rebalance_running"
	CodeUnknownNode  = "unknown_node"
	CodeNoRebalance  = "no_rebalance"
	CodeNotAborted   = "not_aborted"
	CodeNotRunning   = "rebalance_not_running"
	CodeFailover     = "failover_running"
	CodeMembers      = "members_changing"
	CodeNoNodesLeft  = "no_nodes_left"
	CodeUnsafe       = "unsafe_failover"
	CodeExists       = "exists"
	CodeTaken        = "bucket_taken"
	CodeConflict     = "conflict"
	CodeTimeout      = "timeout"
	CodeClosing      = "closing"
	CodeNotReady     = "not_ready"
	CodePlanChanged  = "plan_changed"
	CodeNodeInUse    = "node_in_use"
	CodeNotActive    = "not_active"
	CodeKeptCopies   = "kept_copies"
	CodeFailed       = "failed"
)

// FieldError is a request with a wrong field.
type FieldError = web.FieldError

// errorBody is what comes with a status that is no success.
type errorBody struct {
	Error *Problem `json:"error"`
}
