package explore

import (
	"time"

	"github.com/shearpin/shearpin/dcp"
)

// config says how large a world is and what may happen in it.
type config struct {
	name string
	vbs  int
	// calls are what each caller may ask for, one call at a time.
	calls [][][]dcp.RawChange
	// depth bounds the search; 0 searches until nothing new is found.
	depth int
	// faults is how many times at most an engine or a socket does what it need not; 0 sets no limit.
	faults int
	// asks is the only promise that is looked at, by its sentence; without it all are.
	asks string
	// misread stands in front of the connection machine and reads ends wrongly.
	misread misreading

	// What engines do every day.
	refuse   bool // ADD_STREAM, STREAM_REQ and SET_VBUCKET_STATE are refused
	rollback int  // STREAM_REQs of one stream that are answered with a rollback
	ends     bool // the producer ends streams by itself, because its vbucket changed
	lateEnds bool // the end of a stream that we closed comes, at any later time
	drop     bool // either engine resets its connection
	eof      bool // either engine closes its socket
	// What they should not do.
	mute        bool // a request is never answered
	refuseClose bool // a CLOSE_STREAM is refused
	alien       bool // answers and ends with an opaque that nobody gave out
	repeat      bool // an answer comes twice
	malformed   bool // extras are missing

	// What time and the relay do.
	time     bool // deadlines run
	progress bool // stream frames pass, or a socket is full, when the deadlines are looked at
	overtake bool // an injected frame overtakes relayed ones that are decided and not yet written
	mail     bool // messages between replicator and connection take time

	// What owners do.
	stop    bool // a planned stop
	fence   bool // a fence, of the present or an older incarnation
	cancel  bool // calls that wait for a connection are called off
	giveUp  bool // the supervisor has had enough
	refused bool // connecting fails before it succeeds
}

// The most that a world can hold.
const (
	maxVBs     = 3
	maxCallers = 2
)

// step is by how much time moves at once: half of the shortest deadline.
const step = 15 * time.Second

// limits are the deadlines in steps: an add, a close, a takeover and a wait for the connection expire with the second
// step, an add that rolls back with the third.
var limits = dcp.Limits{
	Add: 2 * step, Close: 2 * step, Takeover: 2 * step, Join: 2 * step, AddAfterRollback: 3 * step,
}

const (
	shortSteps, rollbackSteps = 2, 3
	// patienceSteps is after how many steps an accepted add times out whatever moves (docs/decisions.md).
	patienceSteps = 20 * shortSteps
)

func add(vbs ...uint16) []dcp.RawChange { return changes(dcp.RawAdd, vbs) }

func closing(vbs ...uint16) []dcp.RawChange { return changes(dcp.RawClose, vbs) }

// takeover is what the manager asks for: the stream is closed first.
func takeover(vb uint16) []dcp.RawChange {
	return []dcp.RawChange{{VB: vb, Kind: dcp.RawClose}, {VB: vb, Kind: dcp.RawTakeover}}
}

// bareTakeover forgets the close.
func bareTakeover(vb uint16) []dcp.RawChange { return changes(dcp.RawTakeover, []uint16{vb}) }

func changes(kind dcp.RawKind, vbs []uint16) []dcp.RawChange {
	all := make([]dcp.RawChange, len(vbs))
	for i, vb := range vbs {
		all[i] = dcp.RawChange{VB: vb, Kind: kind}
	}
	return all
}

func both(a, b []dcp.RawChange) []dcp.RawChange { return append(a[:len(a):len(a)], b...) }
