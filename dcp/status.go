package dcp

import "time"

// Status is what a manager knows of its links and vbuckets.
type Status struct {
	Bucket, Consumer string
	Epoch            uint64
	Links            []LinkStatus
	// Desired is the wanted producer of each vbucket.
	Desired map[uint16]string
	// KeptApart are the vbuckets that crashed a connection or could not be restored, with the time of the next try.
	KeptApart map[uint16]time.Time
	// Heard is when a byte was last read on a replication of this bucket, by the node that sent it: evidence that the engine
	// of that node lives, whatever else fails to reach it. It never goes back. A node is in it once something was heard
	// and as long as there is a link with it. Idle connections carry a NOOP every second or so.
	Heard map[string]time.Time
}

// LinkStatus is what a manager knows of one link.
type LinkStatus struct {
	Producer string
	Conn     int
	// State is starting, connecting, up, stopping or down.
	State       string
	Incarnation uint64
	// Streams are the vbuckets with a live stream, sorted. One that is being closed is not in it.
	Streams []uint16
	// LastError is why the link is not up, or what its last crash was; nil after it came up.
	LastError error
	// RetryAt is when a link that is down will be started again.
	RetryAt time.Time
	// Outdated says that the connections were opened before [Manager.Refresh] and will be opened anew.
	Outdated bool
	// Backlog is the number of operations that wait for an answer.
	Backlog int
}

// status is the machine's knowledge as a value of its own.
func (m *managerMachine) status() Status {
	s := Status{
		Bucket: m.bucket, Consumer: m.consumer, Epoch: m.epoch,
		Desired: map[uint16]string{}, KeptApart: map[uint16]time.Time{},
	}
	streams := map[linkKey][]uint16{}
	for _, r := range m.sortedReplicas() {
		if r.desired != "" {
			s.Desired[r.vb] = r.desired
		}
		if r.apart() {
			s.KeptApart[r.vb] = r.notBefore
		}
		if r.has && !r.ending() {
			streams[r.on] = append(streams[r.on], r.vb)
		}
	}
	for _, key := range m.sortedLinks() {
		l := m.links[key]
		status := LinkStatus{
			Producer: key.producer, Conn: key.conn, State: l.phase.String(), Incarnation: l.incarnation,
			Streams: streams[key], LastError: l.lastErr, Outdated: l.outdated, Backlog: l.backlog,
		}
		if l.phase == linkDown {
			status.RetryAt = l.retryAt
		}
		s.Links = append(s.Links, status)
	}
	return s
}

// ending reports whether the vbucket's stream is being closed, maybe for a takeover.
func (r *replica) ending() bool {
	return r.work != nil && (r.work.closing || r.work.kind == workTakeover)
}
