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
}

// LinkStatus is what a manager knows of one link.
type LinkStatus struct {
	Producer string
	Conn     int
	// State is connecting, up or down.
	State       string
	Incarnation uint64
	// Streams are the vbuckets with a live stream, sorted.
	Streams []uint16
	// LastError is why the link is not up, or what its last crash was; nil after it came up.
	LastError error
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
		if r.failures > 0 {
			s.KeptApart[r.vb] = r.notBefore
		}
		if r.has {
			streams[r.on] = append(streams[r.on], r.vb)
		}
	}
	for _, key := range m.sortedLinks() {
		l := m.links[key]
		s.Links = append(s.Links, LinkStatus{
			Producer: key.producer, Conn: key.conn, State: l.phase.String(), Incarnation: l.incarnation,
			Streams: streams[key], LastError: l.lastErr,
		})
	}
	return s
}
