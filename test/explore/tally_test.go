package explore

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// invariant is a promise that every state must keep.
type invariant uint8

const (
	invOnce invariant = iota
	invTruth
	invCause
	invHeard
	invCrash
	invStale
	invLast
	invStreams
	invHang
	invTimer
	invTraps
	invOpaques
	invFence
	invNews
	invResidue
	invReplay
	invariants
)

var invariantNames = [invariants]string{
	invOnce:    "every call is answered exactly once",
	invTruth:   "a reply of ok is true: the stream lives, is closed, is taken over",
	invCause:   "an error has a cause",
	invHeard:   "somebody hears of the end of a live stream, once",
	invCrash:   "a crash happens if and only if design §5.2 says so",
	invStale:   "the end of an earlier stream crashes nothing and fails nothing",
	invLast:    "nothing follows a crash",
	invStreams: "when all is quiet, the stream set is that of both engines",
	invHang:    "when all is quiet, nobody waits",
	invTimer:   "who waits for a peer has a timer, and it fires",
	invTraps:   "no engine meets a frame that its state forbids",
	invOpaques: "our opaques are in our range and used once at a time",
	invFence:   "a fence is answered when no older stream is left",
	invNews:    "each loss of a link is told once",
	invResidue: "when all is quiet, the machine has forgotten what is over",
	invReplay:  "the same events give the same state, effect by effect",
}

// violation is a broken promise.
type violation struct {
	invariant invariant
	what      string
}

// cell is something that happened in a state.
type cell struct{ machine, state, event string }

// tally counts what was seen. It is shared by all worlds of a search.
type tally struct {
	checks [invariants]int
	cells  map[cell]int
	// story is told what happens, when somebody listens.
	story func(string)
}

func newTally() *tally { return &tally{cells: map[cell]int{}} }

func (t *tally) count(i invariant) { t.checks[i]++ }

func (w *world) failf(i invariant, format string, args ...any) {
	if w.broken == nil && (w.cfg.asks == "" || w.cfg.asks == invariantNames[i]) {
		w.broken = &violation{invariant: i, what: fmt.Sprintf(format, args...)}
	}
}

var askEvents = map[dcp.RawKind]string{
	dcp.RawAdd: "an add is asked for", dcp.RawClose: "a close is asked for", dcp.RawTakeover: "a takeover is asked for",
}

// cellC counts an event of the connection machine for a vbucket, or for all of them if it is about none.
func (w *world) cellC(vb uint16, event string) {
	w.tally.cells[cell{"connection", stage(w.conn, vb), event}]++
}

func (w *world) cellOfAll(event string) {
	for vb := range w.cfg.vbs {
		w.cellC(uint16(vb), event)
	}
}

// stage is the state of a vbucket as far as it makes a difference.
func stage(c *dcp.RawConsumer, vb uint16) string {
	if phase := c.Phase(); phase == "connecting" || phase == "shut" {
		return phase
	}
	v := c.VBucket(vb)
	name := stageOf(v)
	if c.Phase() == "shutting" {
		return "shutting: " + name
	}
	return name
}

func stageOf(v dcp.RawVBucket) string {
	switch v.State {
	case "adding", "takeover":
		step := ""
		switch {
		case v.Settled && !v.Answered:
			step = ", refused, unanswered"
		case v.Active:
			step = ", active, unanswered"
		case v.Answered:
			step = ", answered"
		case v.Accepted:
			step = ", accepted"
		case v.RolledBack:
			step = ", rolled back"
		case v.Known:
			step = ", requested"
		}
		return v.State + step
	case "live":
		switch {
		case v.Born:
			return "live, call open"
		case v.Held:
			return "live, another call open"
		}
		return "live"
	case "closing":
		step := ""
		switch {
		case v.ConsumerDone:
			step = ", consumer done"
		case v.ProducerDone:
			step = ", producer done"
		}
		if !v.Known {
			step += ", ended"
		}
		return "closing" + step
	}
	return v.State
}

// cellR counts an event of the replicator's machine.
func (w *world) cellR(event string) {
	w.tally.cells[cell{"replicator", w.stageOfReplicator(), event}]++
}

// stageOfReplicator is what the replicator knows of its two connections, and whether it has begun to stop.
func (w *world) stageOfReplicator() string {
	w.scratch = w.replicator.AppendState(w.scratch[:0], w.time(), dcp.RawNames{
		Opaque: func(mcbp.Opaque) int { return -1 }, Call: func(dcp.RawCall) int { return -1 },
	})
	state, _, _ := bytes.Cut(w.scratch, []byte(" ;"))
	words := slices.DeleteFunc(bytes.Fields(state), func(word []byte) bool { return string(word) == "refused" })
	return string(bytes.Join(words, []byte(" ")))
}

// What a story is told in.

func describeChanges(changes []dcp.RawChange) string {
	parts := make([]string, len(changes))
	for i, change := range changes {
		parts[i] = fmt.Sprintf("%s vb %d", map[dcp.RawKind]string{
			dcp.RawAdd: "add", dcp.RawClose: "close", dcp.RawTakeover: "take over",
		}[change.Kind], change.VB)
	}
	return strings.Join(parts, ", ")
}

func describeErrors(errs map[uint16]error) string {
	if len(errs) == 0 {
		return "ok"
	}
	vbs := make([]uint16, 0, len(errs))
	for vb := range errs {
		vbs = append(vbs, vb)
	}
	slices.Sort(vbs)
	parts := make([]string, len(vbs))
	for i, vb := range vbs {
		parts[i] = fmt.Sprintf("vb %d: %v", vb, errs[vb])
	}
	return strings.Join(parts, "; ")
}

func describeReply(e dcp.RawReply) string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return describeErrors(e.Errs)
}

// inWords is a frame that puts itself into words if somebody listens.
type inWords mcbp.Frame

func (t inWords) String() string {
	f := mcbp.Frame(t)
	if len(f) == 0 {
		return "the end of the bytes"
	}
	if f.IsResponse() {
		return fmt.Sprintf("answer to %v (%v): %v", f.Opcode(), f.Opaque(), f.Status())
	}
	text := fmt.Sprintf("%v vb %d (%v)", f.Opcode(), f.VBucket(), f.Opaque())
	switch {
	case f.Opcode() == mcbp.OpDCPStreamEnd && len(f.Extras()) == 4:
		text += fmt.Sprintf(": %v", mcbp.EndReason(f.Extras()[3]))
	case f.Opcode() == mcbp.OpDCPSetVBucketState && len(f.Extras()) == 1:
		text += fmt.Sprintf(": %v", mcbp.VBucketState(f.Extras()[0]))
	case f.Opcode() == mcbp.OpDCPAddStream && f.Extras()[3] == byte(mcbp.StreamFlagTakeover):
		text += ": takeover"
	}
	return text
}
