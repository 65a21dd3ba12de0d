package explore

import (
	"crypto/sha256"
	"strconv"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// A world is written as text, in one form for all that will behave alike: opaques by the order in which they first occur,
// calls by who waits for them, times as ages. An opaque that no engine, no frame and nobody's late end carries can never be
// seen again; it has no name, and where it stands in a list it is left out.

// namer gives out the names.
type namer struct {
	opaques []mcbp.Opaque
	w       *world
}

func (n *namer) give(o mcbp.Opaque) int {
	if i := n.find(o); i >= 0 {
		return i
	}
	n.opaques = append(n.opaques, o)
	return len(n.opaques) - 1
}

func (n *namer) find(o mcbp.Opaque) int {
	for i, known := range n.opaques {
		if known == o {
			return i
		}
	}
	return -1
}

// call names a call by its caller; one that nobody waits for any more has no name.
func (n *namer) call(id dcp.RawCall) int {
	if n.w == nil {
		return -1
	}
	for i, c := range n.w.callers {
		if c.waiting && c.id == id {
			return i
		}
	}
	switch {
	case n.w.stopper.waiting && n.w.stopper.id == id:
		return maxCallers
	case n.w.fencer.waiting && n.w.fencer.id == id:
		return maxCallers + 1
	}
	return -1
}

func (n *namer) names() dcp.RawNames { return dcp.RawNames{Opaque: n.find, Call: n.call} }

func (w *world) appendConn(b []byte, n *namer) []byte {
	return w.conn.AppendState(b, w.time(), w.traffic(false), n.names())
}

// text is the whole world in words.
func (w *world) text() string { return string(w.append(nil)) }

type fingerprint [16]byte

func (w *world) fingerprint(buffer *[]byte) fingerprint {
	*buffer = w.append((*buffer)[:0])
	sum := sha256.Sum256(*buffer)
	return fingerprint(sum[:16])
}

func (w *world) append(b []byte) []byte {
	if w.closed {
		return append(b, "closed"...)
	}
	n := &namer{w: w}
	num := func(i int) { b = strconv.AppendInt(append(b, ' '), int64(i), 10) }
	word := func(s string) { b = append(append(b, ' '), s...) }
	flag := func(on bool, s string) {
		if on {
			word(s)
		}
	}
	if w.faults > 0 {
		word("faults")
		num(w.faults)
	}
	for vb := range w.cfg.vbs {
		if s := w.consumer.streams[vb]; s.state != passiveNone {
			word("passive")
			num(vb)
			num(int(s.state))
			num(n.give(s.opaque))
			if s.state == passiveRequested {
				num(s.rollbacks)
			}
			if s.state != passiveLive {
				num(n.give(s.add.Opaque()))
				num(int(s.add.Extras()[3]))
				flag(s.active, "agreed")
			}
		}
		if s := w.producer.streams[vb]; s.state != activeNone {
			word("active")
			num(vb)
			num(int(s.state))
			num(n.give(s.opaque))
		}
		if f := w.producer.late[vb]; f != nil {
			word("late")
			num(vb)
			num(n.give(f.Opaque()))
		}
		flag(w.seen[vb] != 0, "seen")
	}
	flag(w.consumer.mute, "consumer-mute")
	flag(w.producer.mute, "producer-mute")
	if w.consumer.leftOver {
		word("left-over")
		num(int(w.consumer.leftOf) - int(w.started))
	}
	for side := range 2 {
		for i, queue := range [][]mcbp.Frame{w.to[side], w.from[side], w.held[side]} {
			if len(queue) == 0 {
				continue
			}
			word([...]string{"to", "from", "held"}[i])
			num(side)
			for _, f := range queue {
				b = appendFrame(b, f, n)
			}
		}
	}
	for side, p := range w.procs {
		word([...]string{"consumer", "producer"}[side])
		flag(p.conn != nil, "up")
		flag(p.opened, "open")
		flag(p.conn != nil && p.conn == w.known[side], "known")
	}
	for _, s := range w.restart {
		word("restart")
		num(int(s.role))
		flag(s.start, "start")
	}
	flag(w.lost, "lost")
	flag(w.toldUp, "told-up")
	flag(w.toldLost, "told-lost")
	flag(w.gone[0], "consumer-gone")
	flag(w.gone[1], "producer-gone")
	flag(w.stopped, "stopped")
	for _, mail := range [][]message{w.toConn, w.toReplicator} {
		word("mail")
		for _, m := range mail {
			num(int(m.kind))
			num(int(m.role))
			num(n.call(m.call))
			num(len(m.errs))
			flag(m.kind == mailDown || m.kind == mailStarted || m.kind == mailOpened, w.downEvent(m))
			flag(m.conn != nil && m.conn == w.procs[m.role].conn, "present")
		}
	}
	if w.fencer.waiting {
		num(int(w.fencer.fenced) - int(w.started))
	}
	for _, c := range []caller{w.callers[0], w.callers[1], w.stopper, w.fencer} {
		word("caller")
		if !c.waiting {
			continue
		}
		flag(c.alone, "alone")
		flag(c.told, "told")
		for vb := range w.cfg.vbs {
			num(int(c.causes[vb]))
		}
		for _, change := range c.changes {
			num(int(change.VB))
			num(int(change.Kind))
		}
	}
	b = append(b, " | "...)
	b = w.replicator.AppendState(b, w.time(), n.names())
	if w.conn != nil {
		b = w.appendReferee(append(b, " | "...), n)
		b = w.appendConn(append(b, " | "...), n)
	}
	return b
}

func appendFrame(b []byte, f mcbp.Frame, n *namer) []byte {
	if len(f) == 0 {
		return append(b, " ["...)
	}
	b = append(b, ' ', '[')
	b = append(b, f.Opcode().String()...)
	b = strconv.AppendInt(append(b, ' '), int64(f[0]), 10)
	b = strconv.AppendInt(append(b, ' '), int64(f[6])<<8|int64(f[7]), 10)
	b = strconv.AppendInt(append(b, ' '), int64(n.give(f.Opaque())), 10)
	if !f.IsResponse() && len(f.Extras()) > 0 {
		b = strconv.AppendInt(append(b, ' '), int64(f.Extras()[min(3, len(f.Extras())-1)]), 10)
	}
	return append(b, ']')
}

func (w *world) appendReferee(b []byte, n *namer) []byte {
	r := &w.referee
	num := func(i int) { b = strconv.AppendInt(append(b, ' '), int64(i), 10) }
	flag := func(on bool, s string) {
		if on {
			b = append(append(b, ' '), s...)
		}
	}
	flag(r.stopping, "stopping")
	if w.cfg.repeat {
		flag(r.retired(firstOpaque), "retired")
	}
	asked := w.callers[0].waiting || w.callers[1].waiting
	for vb := range w.cfg.vbs {
		v := &r.vbs[vb]
		b = append(b, " ;"...)
		flag(v.add, "add")
		flag(v.takeover, "takeover")
		if v.add {
			num(n.find(v.addOpaque))
		}
		if v.takeover {
			flag(v.answered, "answered")
			flag(v.acked, "acked")
			flag(v.failed, "failed")
			num(int(v.asked))
		}
		if v.known {
			num(n.find(v.current))
		}
		for _, o := range v.earlier {
			if i := n.find(o); i >= 0 {
				num(i)
			}
		}
		flag(v.live, "live")
		for side, on := range v.closing {
			if on {
				flag(true, "closing")
				num(side)
				num(n.find(v.closeOpaque[side]))
			}
		}
		if r.closing(vb) {
			flag(v.gone, "gone")
			flag(v.refused, "refused")
		}
		flag(asked && v.tookOver, "took-over")
		flag(v.apart, "apart")
		if r.busy(vb) {
			num(w.now - v.moved)
			flag(v.rolled, "rolled")
			flag(v.ticked != w.seen[vb], "moves")
			if v.add && v.isAccepted {
				num(w.now - v.accepted)
			}
		}
	}
	return b
}
