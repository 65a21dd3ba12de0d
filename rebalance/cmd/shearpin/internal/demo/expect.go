package demo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/workload"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// observations are what was seen during a run. They are complete before they are judged.
type observations struct {
	opts Options
	// err is why the run did not come to its end.
	err error
	// reports are those of the rebalances, in order.
	reports []*rebalance.Report
	fault   *fault.Record
	// abort is the time from the fault to the failed rebalance; nil unless both were seen.
	abort *time.Duration
	// exits are the connection processes that ended abnormally after the fault was armed, in order.
	exits []exit
	// restarts counts incarnations of consumer connections beyond the first of each.
	restarts int
	// eventsLost counts events that the run was too slow to take.
	eventsLost uint64
	// repaired says that the janitor found nothing left to do after the failed rebalance.
	repaired    bool
	janitorRuns int

	// writers is what a writer failed with.
	writers error
	acked   int
	// documents and replicas say that these checks were carried out to the end.
	documents, replicas bool
	losses              []workload.Loss
	mismatches          []workload.Mismatch
	// chains is the map at the end, nil if it is unknown.
	chains vbmap.Map
}

// exit is the abnormal end of a connection process.
type exit struct {
	link dcp.Link
	// role is [dcp.RoleConsumer] or [dcp.RoleProducer].
	role   string
	reason error
	at     time.Time
}

func (e exit) String() string {
	return fmt.Sprintf("%s connection of %s→%s: %v", e.role, e.link.Producer, e.link.Consumer, e.reason)
}

// expectation is what must be seen when a fault of one kind is injected.
type expectation struct {
	// firstExit is the role of the connection process that ends first; empty if none may end.
	firstExit string
	// cause says what is wrong with the reason of the first exit and of the failed rebalance, or nothing.
	cause func(reason error, r fault.Record) string
	// fails says that the first rebalance fails; then the janitor repairs and a second one completes.
	fails bool
}

// expectations has an entry for every kind. Restarts of consumer connections follow from firstExit: at least one, or
// none at all.
var expectations = map[fault.Kind]expectation{
	fault.EarlyStreamEnd: {firstExit: dcp.RoleConsumer, cause: unexpectedEnd, fails: true},
	fault.LateAnswer:     {firstExit: dcp.RoleConsumer, cause: unexpectedEnd, fails: true},
	fault.NoAddResponse:  {firstExit: dcp.RoleConsumer, cause: addTimeout, fails: true},
	fault.UnknownOpaque:  {firstExit: dcp.RoleConsumer, cause: unknownOpaque, fails: true},
	fault.DropConsumer:   {firstExit: dcp.RoleConsumer, cause: socketClosed, fails: true},
	fault.DropProducer:   {firstExit: dcp.RoleProducer, cause: socketClosed, fails: true},
	fault.AddError:       {cause: refused, fails: true},
	fault.StaleStreamEnd: {},
}

func unexpectedEnd(reason error, r fault.Record) string {
	var end *dcp.UnexpectedStreamEnd
	switch {
	case !errors.As(reason, &end):
		return "is no unexpected_stream_end"
	case end.VB != r.VB || end.AddOpaque != r.AddOpaque || end.StreamOpaque != r.StreamOpaque || end.Reason != mcbp.EndStateChanged:
		return fmt.Sprintf("names vb=%d add_opaque=%v stream_opaque=%v code=%d, the fault was %s code=%d",
			end.VB, end.AddOpaque, end.StreamOpaque, end.Reason, opaques(r), mcbp.EndStateChanged)
	}
	return ""
}

func addTimeout(reason error, r fault.Record) string {
	var timeout *dcp.AddStreamTimeout
	if !errors.As(reason, &timeout) {
		return "is no add_stream_timeout"
	}
	at := slices.Index(timeout.VBs, r.VB)
	if at < 0 || timeout.AddOpaques[at] != r.AddOpaque {
		return fmt.Sprintf("names vbuckets %v with add opaques %v, the fault was %s", timeout.VBs, timeout.AddOpaques, opaques(r))
	}
	return ""
}

func unknownOpaque(reason error, r fault.Record) string {
	var unknown *dcp.UnknownOpaque
	switch {
	case !errors.As(reason, &unknown):
		return "is no unknown_opaque"
	case unknown.Opaque != r.MadeUp:
		return fmt.Sprintf("names opaque %v, the fault was %v", unknown.Opaque, r.MadeUp)
	}
	return ""
}

func socketClosed(reason error, _ fault.Record) string {
	if !errors.Is(reason, dcp.ErrSocketClosed) {
		return "is no closed socket"
	}
	return ""
}

func refused(reason error, r fault.Record) string {
	var status *dcp.StreamStatusError
	switch {
	case !errors.As(reason, &status):
		return "is no refused stream"
	case status.VB != r.VB || status.Status != mcbp.StatusNotMyVBucket:
		return fmt.Sprintf("is %v for vb %d, the fault was %s", status.Status, status.VB, opaques(r))
	}
	return ""
}

// opaques is how errors name a set-up.
func opaques(r fault.Record) string {
	stream := "-"
	if r.Requested {
		stream = r.StreamOpaque.String()
	}
	return fmt.Sprintf("vb=%d add_opaque=%v stream_opaque=%s", r.VB, r.AddOpaque, stream)
}

// failures names every expectation that did not hold; empty if all did.
func (o *observations) failures() []string {
	failed := []string{}
	must := func(ok bool, text string, args ...any) {
		if !ok {
			failed = append(failed, fmt.Sprintf(text, args...))
		}
	}
	must(o.err == nil, "the run did not come to its end: %v", o.err)

	var want expectation
	if o.opts.Fault != NoFault {
		must(o.fault != nil, "fault %s: nothing that fits it happened", o.opts.Fault)
		if o.fault != nil {
			want = expectations[o.fault.Kind]
		}
	}
	o.mustRebalance(want, must)
	if o.fault != nil {
		o.mustExit(want, must)
	}
	o.mustHold(must)
	return failed
}

// mustRebalance judges how many rebalances ran and how they ended.
func (o *observations) mustRebalance(want expectation, must func(bool, string, ...any)) {
	outcomes := []rebalance.Outcome{rebalance.Complete}
	if want.fails {
		outcomes = []rebalance.Outcome{rebalance.Failed, rebalance.Complete}
	}
	for i, outcome := range outcomes {
		if i >= len(o.reports) {
			must(false, "rebalance %d: must be %s, did not run", i+1, outcome)
			continue
		}
		r := o.reports[i]
		must(r.Outcome == outcome, "rebalance %d: must be %s, is %s%s", i+1, outcome, r.Outcome, because(r.Cause))
		must(r.Outcome != rebalance.Complete || r.Moves == r.MovesPlanned,
			"rebalance %d: is complete with %d of %d moves", i+1, r.Moves, r.MovesPlanned)
	}
	must(len(o.reports) <= len(outcomes), "%d rebalances ran, %d were to", len(o.reports), len(outcomes))
	if !want.fails {
		return
	}
	must(o.repaired, "janitor: did not repair after the failed rebalance")
	if len(o.reports) == 0 || o.reports[0].Outcome != rebalance.Failed {
		return
	}
	must(o.abort != nil, "fault %s: it is not known when it was noticed", o.fault.Kind)
	r := o.reports[0]
	problem := want.cause(r.Err, *o.fault)
	must(problem == "", "rebalance 1: its cause %s%s", problem, because(r.Cause))
	if named := namedOpaques(*o.fault); named != "" {
		must(len(r.Cause) > 0 && strings.Contains(r.Cause[len(r.Cause)-1], named),
			"rebalance 1: its innermost cause must contain %q%s", named, because(r.Cause))
	}
}

// namedOpaques is what the innermost cause of a fault with opaques says.
func namedOpaques(r fault.Record) string {
	switch r.Kind {
	case fault.EarlyStreamEnd, fault.LateAnswer, fault.NoAddResponse:
		return opaques(r)
	case fault.UnknownOpaque:
		return fmt.Sprintf("add_opaque=%v stream_opaque=-", r.MadeUp)
	}
	return ""
}

// mustExit judges which connection process ended first, and how often consumers were started again.
func (o *observations) mustExit(want expectation, must func(bool, string, ...any)) {
	if want.firstExit == "" {
		must(len(o.exits) == 0, "first process to exit: must be none, is %v", first(o.exits))
		must(o.restarts == 0, "restarts of consumer connections: must be 0, are %d", o.restarts)
		return
	}
	must(o.restarts >= 1, "restarts of consumer connections: must be at least 1, are %d", o.restarts)
	if len(o.exits) == 0 {
		must(false, "first process to exit: must be the %s connection, none did", want.firstExit)
		return
	}
	e := o.exits[0]
	must(e.role == want.firstExit && e.link.Producer == o.fault.Producer && e.link.Consumer == o.fault.Consumer,
		"first process to exit: must be the %s connection of %s→%s, is %v", want.firstExit, o.fault.Producer, o.fault.Consumer, e)
	problem := want.cause(e.reason, *o.fault)
	must(problem == "", "first process to exit: its reason %s: %v", problem, e)
}

// mustHold judges the data and the map.
func (o *observations) mustHold(must func(bool, string, ...any)) {
	must(o.eventsLost == 0, "%d events were lost, so restarts and exits are not certain", o.eventsLost)
	must(o.writers == nil, "a writer failed: %v", o.writers)
	must(o.documents, "documents: not all were read back")
	must(len(o.losses) == 0, "documents: %d acknowledged writes are lost, the first: %v", len(o.losses), first(o.losses))
	must(o.replicas, "replicas: not all were compared")
	must(len(o.mismatches) == 0, "replicas: %d differ from what they must be, the first: %v", len(o.mismatches), first(o.mismatches))
	if o.chains != nil {
		problem := o.mapProblem()
		must(problem == "", "map: %s", problem)
	}
}

// mapProblem says how the map at the end is not what the rebalance was asked for.
func (o *observations) mapProblem() string {
	keep := o.opts.kept()
	for vb, chain := range o.chains {
		for at := range o.opts.Replicas + 1 {
			switch {
			case at >= len(chain) || chain[at] == "":
				return fmt.Sprintf("vb %d has only %v, must have %d copies", vb, chain, o.opts.Replicas+1)
			case !slices.Contains(keep, chain[at]):
				return fmt.Sprintf("vb %d is on %v, must only be on %v", vb, chain, keep)
			}
		}
	}
	return ""
}

func first[T any](all []T) any {
	if len(all) == 0 {
		return "none"
	}
	return all[0]
}

func because(causes []string) string {
	if len(causes) == 0 {
		return ""
	}
	return " because: " + strings.Join(causes, ": ")
}
