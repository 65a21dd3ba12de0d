package dcp

import "time"

// Limits are the deadlines and bounds of the replications of one bucket into one node. Deadlines run on lack of progress
// unless said otherwise. What is beyond a bound is refused with an [OverloadedError]. A zero field means its default; nothing
// waits for ever, so a deadline of more than 30 days is one of 30 days.
type Limits struct {
	// Add is for an ADD_STREAM's answer. CONTROL frames of the connection and frames of the vbucket's stream are
	// progress. Default 30 s.
	Add time.Duration
	// AddAfterRollback replaces Add once the producer has asked for a rollback. Default 10 min.
	AddAfterRollback time.Duration
	// Close is for a CLOSE_STREAM's answers, and for an engine to end a stream that an earlier connection has left.
	// Default 30 s.
	Close time.Duration
	// Takeover is for the states that follow a takeover's ADD_STREAM answer. Default 90 s.
	Takeover time.Duration
	// Connect is for one step of a handshake, unless the node's kv.Endpoint says otherwise. Default 10 s.
	Connect time.Duration
	// Join is how long a call waits for its link to be connected. Default 30 s.
	Join time.Duration
	// Stall is how long bytes may wait for a peer that accepts none. Default 6 min.
	Stall time.Duration
	// Grace is how long a newer epoch waits for the calls of older ones before it rebuilds their connections.
	// Default 10 s.
	Grace time.Duration

	// Links bounds the links. Default 4096.
	Links int
	// Calls bounds the calls that wait for their answer, and the fences of one link. Default 65536.
	Calls int
	// Backlog bounds the operations on vbuckets that one link has not answered yet. Default 131072, two for every vbucket
	// that there can be.
	Backlog int
	// Suspects bounds the vbuckets of a link that crashes put on the list of those kept apart. A crash that names more is
	// not about one vbucket; those beyond are restored with the healthy ones. Default 64.
	Suspects int
	// Flight is how many control events a connection remembers, for its crash report and [Manager.Flight]. At most 65 536;
	// each takes 32 bytes. Default 256.
	Flight int
}

// longestLimit bounds the deadlines. Some are multiplied, which must not overflow.
const longestLimit = 30 * 24 * time.Hour

func (l Limits) withDefaults() Limits {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
		*d = min(*d, longestLimit)
	}
	set(&l.Add, 30*time.Second)
	set(&l.AddAfterRollback, 10*time.Minute)
	set(&l.Close, 30*time.Second)
	set(&l.Takeover, 90*time.Second)
	set(&l.Connect, 10*time.Second)
	set(&l.Join, 30*time.Second)
	set(&l.Stall, 6*time.Minute)
	set(&l.Grace, 10*time.Second)
	bound := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	bound(&l.Links, 4096)
	bound(&l.Calls, 1<<16)
	bound(&l.Backlog, 1<<17)
	bound(&l.Suspects, 64)
	bound(&l.Flight, defaultFlight)
	return l
}
