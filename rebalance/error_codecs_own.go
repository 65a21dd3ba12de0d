package rebalance

import (
	"encoding/json"

	"github.com/shearpin/shearpin/rebalance/store"
)

// ownCodecs are the errors of this package, as reports keep them in the store. The janitor's have no codec: their text and
// causes are kept.
func ownCodecs() []codec {
	return []codec{
		sentinel("rebalance_running", ErrRebalanceRunning),
		sentinel("stopped", ErrStopped),
		sentinel("interrupted", ErrInterrupted),
		sentinel("move_aborted", ErrMoveAborted),
		sentinel("cluster_closed", ErrClosed),
		sentinel("cluster_unknown_node", ErrUnknownNode),
		sentinel("map_changed", ErrMapChanged),
		sentinel("store_not_found", store.ErrNotFound),
		sentinel("store_conflict", store.ErrConflict),
		sentinel("store_closed", store.ErrClosed),

		layer("rebalance", func(e *RebalanceError, bucket *string) { *bucket = e.Bucket },
			func(bucket string, cause error) error { return &RebalanceError{Bucket: bucket, Err: cause} }),
		layer("move", func(e *MoveError, f *moveFields) { *f = moveFields{e.VB, e.From, e.To, e.Step} },
			func(f moveFields, cause error) error {
				return &MoveError{VB: f.VB, From: f.From, To: f.To, Step: f.Step, Err: cause}
			}),
		layer("node", func(e *NodeError, node *string) { *node = e.Node },
			func(node string, cause error) error { return &NodeError{Node: node, Err: cause} }),
		layer("stream_lost", func(e *StreamLost, f *linkFields) { *f = linkFields{Producer: e.Producer, Consumer: e.Consumer} },
			func(f linkFields, cause error) error {
				return &StreamLost{Producer: f.Producer, Consumer: f.Consumer, Err: cause}
			}),
		layer("step_unanswered", func(e *StepUnanswered, f *stepFields) { *f = stepFields{e.VB, e.Step, e.WaitedFor} },
			func(f stepFields, cause error) error {
				return &StepUnanswered{VB: f.VB, Step: f.Step, WaitedFor: f.WaitedFor, Err: cause}
			}),
		nodesCodec(),
		plain[*StepTimeout]("step_timeout"),
		plain[*EstimateError]("estimate"),
		plain[*NoActive]("no_active"),
		plain[*Leftovers]("leftovers"),
		plain[*KeptCopies]("kept_copies"),
		plain[*MovesAborted]("moves_aborted"),            // its cause is always the same
		plain[*StoppedByFailover]("stopped_by_failover"), // so is this one's
		plain[*store.StaleEpochError]("store_stale_epoch"),
	}
}

type moveFields struct {
	VB       uint16
	From, To string
	Step     Step
}

type stepFields struct {
	VB        uint16
	Step      Step
	WaitedFor string
}

// nodesCodec is for an error with one cause per node.
func nodesCodec() codec {
	return codec{
		code: "nodes",
		encode: func(err error) (any, bool) {
			e, ok := err.(*NodesError) //nolint:errorlint // the layer itself
			if !ok {
				return nil, false
			}
			return e.Doing, true
		},
		decode: func(fields json.RawMessage, causes []error) (error, error) {
			e := &NodesError{}
			if err := json.Unmarshal(fields, &e.Doing); err != nil {
				return nil, err
			}
			for _, cause := range causes {
				failed, ok := cause.(*NodeError) //nolint:errorlint // the layer itself
				if !ok {
					return nil, errWrongAnswer
				}
				e.Failed = append(e.Failed, failed)
			}
			return e, nil
		},
	}
}
