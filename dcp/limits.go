package dcp

import "time"

// Limits are the deadlines of a replication. They run on lack of progress unless said otherwise. A zero field means its
// default; nothing waits for ever.
type Limits struct {
	// Add is for an ADD_STREAM's answer. CONTROL frames of the connection and frames of the vbucket's stream are
	// progress. Default 30 s.
	Add time.Duration
	// AddAfterRollback replaces Add once the producer has asked for a rollback. Default 10 min.
	AddAfterRollback time.Duration
	// Close is for a CLOSE_STREAM's answers. Default 30 s.
	Close time.Duration
	// Takeover is for the states that follow a takeover's ADD_STREAM answer. Default 90 s.
	Takeover time.Duration
	// Connect is for one step of a handshake. Default 10 s.
	Connect time.Duration
	// Join is how long a call waits for its link to be connected. Default 30 s.
	Join time.Duration
	// Stall is how long bytes may wait for a peer that accepts none. Default 6 min.
	Stall time.Duration
	// Grace is how long a newer epoch waits for the calls of older ones before it rebuilds their connections.
	// Default 10 s.
	Grace time.Duration
}

func (l Limits) withDefaults() Limits {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&l.Add, 30*time.Second)
	set(&l.AddAfterRollback, 10*time.Minute)
	set(&l.Close, 30*time.Second)
	set(&l.Takeover, 90*time.Second)
	set(&l.Connect, 10*time.Second)
	set(&l.Join, 30*time.Second)
	set(&l.Stall, 6*time.Minute)
	set(&l.Grace, 10*time.Second)
	return l
}
