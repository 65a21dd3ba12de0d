package relay

import (
	"sync/atomic"
	"time"
)

// Traffic is what was read from one side so far.
type Traffic struct {
	// Bytes and Frames count what was read, dropped frames included. A frame counts when its header has been read.
	Bytes, Frames uint64
	// Last is when bytes were read last, the zero time if never.
	Last time.Time
}

// Stats is a relay's traffic at one moment. Its figures are each exact but not taken at the same instant.
type Stats struct {
	FromConsumer, FromProducer Traffic
}

// meter counts for one direction. It is written once per read, not per frame.
type meter struct {
	bytes, frames atomic.Uint64
	last          atomic.Int64 // nanoseconds from the relay's start plus one; 0 = never
}

func (m *meter) read(n int, since time.Duration) {
	m.bytes.Add(uint64(n))
	m.last.Store(int64(since) + 1)
}

func (m *meter) traffic(start time.Time) Traffic {
	t := Traffic{Bytes: m.bytes.Load(), Frames: m.frames.Load()}
	if last := m.last.Load(); last > 0 {
		t.Last = start.Add(time.Duration(last - 1))
	}
	return t
}

// Stats may be called from any goroutine, at any time.
func (r *Relay) Stats() Stats {
	return Stats{
		FromConsumer: r.meters[Consumer].traffic(r.start),
		FromProducer: r.meters[Producer].traffic(r.start),
	}
}

// Controls is the number of CONTROL requests and answers seen in both directions: while a connection is still being
// negotiated, its growth is the connection's progress. It may be called from any goroutine.
func (r *Relay) Controls() uint64 { return r.controls.Load() }
