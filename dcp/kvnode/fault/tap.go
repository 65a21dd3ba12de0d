package fault

import (
	"sync/atomic"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// tap is a script at work on one connection.
type tap struct {
	script *Script
	s      *kvnode.Session
	who    atomic.Pointer[identity]
	cache  atomic.Pointer[table]
	memory memory
}

func newTap(script *Script, s *kvnode.Session) *tap {
	t := &tap{script: script, s: s, memory: newMemory()}
	t.who.Store(&identity{node: s.Node(), peer: s.Peer(), role: Client})
	return t
}

// table is what the rules mean for this connection now.
func (t *tap) table() *table {
	of, who := t.script.rules.Load(), t.who.Load()
	cached := t.cache.Load()
	if cached == nil || cached.of != of || cached.who != who {
		cached = newTable(of, who)
		t.cache.Store(cached)
	}
	return cached
}

// maxName is the longest of the names that nodes take. Others are refused, and would only fill the records.
const maxName = mcbp.MaxAgentNameLen

// identify learns from a request who it is that asks.
func (t *tap) identify(f mcbp.Frame) {
	if f.KeyLen() > maxName {
		return
	}
	who := *t.who.Load()
	switch f.Opcode() {
	case mcbp.OpHello:
		if who.role == Client {
			who.name = string(f.Key())
		}
	case mcbp.OpSelectBucket:
		who.bucket = string(f.Key())
	case mcbp.OpDCPOpen:
		open, err := mcbp.ParseOpen(f)
		if err != nil {
			return
		}
		who.name, who.role = open.Name, Consumer
		if open.Flags&mcbp.OpenFlagProducer != 0 {
			who.role = Producer
		}
	}
	t.who.Store(&who)
}

// Receive implements [kvnode.Tap].
func (t *tap) Receive(f mcbp.Frame) error {
	switch f.Opcode() {
	case mcbp.OpHello, mcbp.OpSelectBucket, mcbp.OpDCPOpen:
		if !f.IsResponse() {
			t.identify(f)
		}
	}
	table := t.table()
	if !table.looks(Received, f) {
		return t.s.Act(f)
	}
	s := t.look(table, Received, f)
	if struck := table.strike(s); struck != nil {
		return struck.rule.Do.received(t, struck, s)
	}
	return t.pass(s)
}

// Send implements [kvnode.Tap].
func (t *tap) Send(b []byte) error {
	table := t.table()
	if table.idle[Sent-Received] && !t.memory.filters.Load() {
		return t.s.Write(b)
	}
	written := 0 // b[written:at] has been looked at and waits, to leave with one write
	for at := 0; at < len(b); {
		n := mcbp.HeaderLen + int(mcbp.Frame(b[at:]).BodyLen())
		special := t.judge(table, b[at:at+n:at+n])
		if special == nil {
			at += n
			continue
		}
		if at > written {
			if err := t.s.Write(b[written:at]); err != nil {
				return err
			}
		}
		if err := special(); err != nil {
			return err
		}
		at += n
		written = at
		table = t.table()
	}
	if written == len(b) {
		return nil
	}
	return t.s.Write(b[written:])
}

// judge returns what is done with a frame that is to be sent, or nil if it is just written.
func (t *tap) judge(table *table, f mcbp.Frame) func() error {
	if t.memory.filters.Load() && t.withheld(f) {
		return func() error { return nil }
	}
	if !table.looks(Sent, f) {
		return nil
	}
	s := t.look(table, Sent, f)
	struck := table.strike(s)
	switch {
	case struck != nil:
		return func() error { return struck.rule.Do.sent(t, struck, s) }
	case table.watched:
		return func() error { return t.pass(s) }
	}
	return nil
}

// Closed implements [kvnode.Tap].
func (t *tap) Closed() {
	t.script.mu.Lock()
	defer t.script.mu.Unlock()
	delete(t.script.taps, t)
}

// look finds out what there is to know about a frame.
func (t *tap) look(table *table, way Direction, f mcbp.Frame) *sight {
	s := &sight{who: table.who, way: way, frame: f, vb: -1}
	t.memory.know(s)
	if table.stale {
		t.memory.opaques(s)
	}
	return s
}

// pass lets a frame go on its way.
func (t *tap) pass(s *sight) error { return t.passAs(s, s.frame) }

// passAs lets another frame go in a frame's place.
func (t *tap) passAs(s *sight, f mcbp.Frame) error {
	var err error
	if s.way == Received {
		err = t.s.Act(f)
	} else {
		err = t.s.Write(f)
	}
	t.table().passed(s)
	return err
}

// withheld reports whether a frame must not be sent: its request is to stay without an answer, or its stream was ended. A
// producer does not count it as sent.
func (t *tap) withheld(f mcbp.Frame) bool {
	if f.IsResponse() {
		return t.memory.muted(f)
	}
	if !t.memory.over(f.VBucket(), f.Opaque()) {
		return false
	}
	t.s.Sent(-int64(mcbp.FlowControlCost(f)))
	return true
}
