package rebalance

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"
)

// FailoverRequest names the nodes to give up.
type FailoverRequest struct {
	// Nodes are known and not empty. All that do not answer belong here: of a survivor that is silent nobody knows
	// whether it has more than those that answer, so what may depend on it is left alone.
	Nodes []string `json:"nodes"`
	// AllowUnsafe accepts that data is lost: of vbuckets that have no copy elsewhere, and where the surviving copies
	// contradict each other.
	AllowUnsafe bool `json:"allow_unsafe,omitempty"`
}

// FailoverReport is the account of one failover.
type FailoverReport struct {
	ID          string    `json:"id"`
	Nodes       []string  `json:"nodes"`
	AllowUnsafe bool      `json:"allow_unsafe"`
	Started     time.Time `json:"started"`
	Ended       time.Time `json:"ended"`
	// Buckets are those of which the nodes were servers, by name.
	Buckets []BucketFailover `json:"buckets"`
	// Err is what could not be done, nil if all was; Cause is the same, one text per layer.
	Err   error    `json:"-"`
	Cause []string `json:"cause,omitempty"`
}

// BucketFailover is what a failover did to one bucket.
type BucketFailover struct {
	Name  string `json:"name"`
	Epoch uint64 `json:"epoch"`
	// Promoted has the new active of every vbucket whose active was given up.
	Promoted map[uint16]string `json:"promoted,omitempty"`
	// Shortened counts the other vbuckets whose chain has lost a replica.
	Shortened int `json:"shortened"`
	// Lost are the vbuckets of which no copy survives, sorted. Nothing was made of them: they have no active until a node
	// with their data is added back, or a rebalance makes them anew, empty.
	Lost []uint16 `json:"lost,omitempty"`
	// Overruled are the vbuckets whose surviving copies contradict each other, and of which one was chosen because the
	// request allowed it. The others keep their data.
	Overruled map[uint16]string `json:"overruled,omitempty"`
	// Refused says, per vbucket, why it was left as it was: *[WaitingForNodes], *[UnknownVBucket], *[Conflict],
	// *[StrayData] or *[StillReplicating]. The node stays in their chains.
	Refused map[uint16]error `json:"-"`
	// Errs are the failures of single nodes and steps. The janitor goes on with what they leave undone.
	Errs []error `json:"-"`
	// Reasons is Refused, and Problems is Errs, in words.
	Reasons  map[uint16]string `json:"refused,omitempty"`
	Problems []string          `json:"problems,omitempty"`
}

// describe puts into words what was not done.
func (b *BucketFailover) describe() {
	for vb, err := range b.Refused {
		if b.Reasons == nil {
			b.Reasons = map[uint16]string{}
		}
		b.Reasons[vb] = err.Error()
	}
	for _, err := range b.Errs {
		b.Problems = append(b.Problems, err.Error())
	}
}

// problem is what was not done.
func (b *BucketFailover) problem() error {
	if problems := allProblems(b.Errs, b.Refused); len(problems) > 0 {
		return &FailoverError{Bucket: b.Name, Errs: problems}
	}
	return nil
}

// FailoverError is what a failover could not do in a bucket.
type FailoverError struct {
	Bucket string
	// Errs is not empty: failures of nodes and steps, then the vbuckets that were refused.
	Errs []error
}

func (e *FailoverError) Error() string {
	return fmt.Sprintf("failover of %q is not complete: %s", e.Bucket, listed(e.Errs))
}

// Unwrap gives errors.Is and errors.As the single problems.
func (e *FailoverError) Unwrap() []error { return e.Errs }

// UnsafeFailover refuses a failover as a whole, before anything is changed: vbuckets have no copy on another node.
type UnsafeFailover struct {
	Nodes []string
	// Lost is bucket to vbuckets, sorted.
	Lost map[string][]uint16
}

func (e *UnsafeFailover) Error() string {
	var texts []string
	for _, bucket := range sortedKeys(e.Lost) {
		vbs := e.Lost[bucket]
		texts = append(texts, fmt.Sprintf("%d vbuckets of %q, vb %d first", len(vbs), bucket, vbs[0]))
	}
	return fmt.Sprintf("failover of %s would lose data: no other node has a copy of %s", strings.Join(e.Nodes, ", "), strings.Join(texts, "; "))
}

// StillReplicating refuses to promote a copy because its stream from a node that is given up could not be ended, so that
// what it has is not settled.
type StillReplicating struct {
	VB                 uint16
	Producer, Consumer string
}

func (e *StillReplicating) Error() string {
	return fmt.Sprintf("vb %d is left alone: %s still streams from %s", e.VB, e.Consumer, e.Producer)
}

// Failover gives nodes up at once, whatever they are doing (rebalance.md §8.7): of each vbucket whose active they were the
// surviving copy that has all that the others have becomes active, they leave all chains and the bucket's servers, and are
// [FailedOver] members from then on. No copy is deleted. It returns when the maps are in force and the new actives serve.
// A rebalance that runs is stopped first, and ends [Stopped].
//
// Nothing is changed, and there is no report, if the failover is refused as a whole: with *[UnsafeFailover] if vbuckets have
// no other copy and the request does not allow that, with [ErrNoNodesLeft] if nobody would be left, with [ErrUnknownNode],
// or with [ErrFailoverRunning]. Otherwise [FailoverReport].Err says what is not done. The same request again, also with more
// nodes, goes on with that.
//
// A failover goes on if ctx ends, and also after a crash: the next [Open] completes it.
func (c *Cluster) Failover(ctx context.Context, request FailoverRequest) (*FailoverReport, error) {
	request.Nodes = distinct(request.Nodes)
	if len(request.Nodes) == 0 {
		return nil, errNothingToFailOver
	}
	if _, err := c.env.nodes.named(request.Nodes); err != nil {
		return nil, err
	}
	value, err := c.orchestrator().Call(ctx, failoverCall{request: request})
	if err != nil {
		return nil, c.closedError(err)
	}
	report, _ := value.(*FailoverReport)
	if report == nil {
		return nil, errWrongAnswer
	}
	return report, nil
}

// GracefulFailover gives nodes up without losing anything: a rebalance first makes other copies active, then the nodes,
// which only hold replicas by then, are failed over. It returns at once; the report of the run has the failover in it. It
// is refused as [Cluster.Failover] is, with *[UnsafeFailover] also where no copy but the node's would be left, and with
// [ErrRebalanceRunning].
func (c *Cluster) GracefulFailover(ctx context.Context, nodes []string) (*Run, error) {
	nodes = distinct(nodes)
	if len(nodes) == 0 {
		return nil, errNothingToFailOver
	}
	if _, err := c.env.nodes.named(nodes); err != nil {
		return nil, err
	}
	if err := c.env.checkFailover(ctx, FailoverRequest{Nodes: nodes}); err != nil {
		return nil, c.closedError(err)
	}
	return c.run(ctx, Request{giveUp: nodes})
}

// problem is what was not done in the first bucket in which anything was not.
func (r *FailoverReport) problem() error {
	var err error
	for i := range r.Buckets {
		err = cmp.Or(err, r.Buckets[i].problem())
	}
	return err
}
