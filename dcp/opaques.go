package dcp

import (
	"encoding/binary"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// maxOutstanding bounds the requests that wait for an answer on one connection; more of them queue.
const maxOutstanding = 32768

// opaqueRest is how long a value stays unused after its answer, so that a late duplicate cannot meet a new request.
const opaqueRest = 60 * time.Second

// opaqueTable hands out our opaques, ff nnnn ff. A stream opaque is a small counter that the engine writes in its host's
// byte order; with 0xff at both ends none of them can equal one of ours in either order (kv-observed, Opaques).
type opaqueTable struct {
	last        uint16
	wrapped     bool
	outstanding map[uint16]pendingAnswer
	resting     map[uint16]struct{}
	restQueue   []restingOpaque
}

// pendingAnswer is what an outstanding opaque stands for.
type pendingAnswer struct {
	op     *streamOp
	opcode mcbp.Opcode
	role   string
}

type restingOpaque struct {
	value uint16
	since time.Time
}

// opaqueFate says what an answer's opaque is to us.
type opaqueFate uint8

const (
	opaqueNeverIssued opaqueFate = iota
	opaqueOutstanding
	opaqueRetired
)

func newOpaqueTable() opaqueTable {
	return opaqueTable{outstanding: map[uint16]pendingAnswer{}, resting: map[uint16]struct{}{}}
}

// issue takes the next free value. It reports false when none may be used now; resting values free up with time,
// outstanding ones with their answers.
func (t *opaqueTable) issue(p pendingAnswer, now time.Time) (mcbp.Opaque, bool) {
	if !t.room(1, now) {
		return mcbp.Opaque{}, false
	}
	for {
		t.last++
		if t.last == 0 {
			t.wrapped = true
		}
		if _, busy := t.outstanding[t.last]; busy {
			continue
		}
		if _, rests := t.resting[t.last]; rests {
			continue
		}
		t.outstanding[t.last] = p
		return encodeOpaque(t.last), true
	}
}

// room reports whether n values may be issued now. It does not search for them: while none is free, many may ask.
func (t *opaqueTable) room(n int, now time.Time) bool {
	t.wake(now)
	return len(t.outstanding)+n <= maxOutstanding && len(t.outstanding)+len(t.resting)+n <= 1<<16
}

// lookup says what o stands for. The answer counts only if its opcode and role are those of the request.
func (t *opaqueTable) lookup(o mcbp.Opaque, opcode mcbp.Opcode, role string) (*streamOp, opaqueFate) {
	value, ours := decodeOpaque(o)
	if !ours {
		return nil, opaqueNeverIssued
	}
	if p, ok := t.outstanding[value]; ok {
		if p.opcode != opcode || p.role != role {
			return nil, opaqueNeverIssued
		}
		return p.op, opaqueOutstanding
	}
	if t.wrapped || value != 0 && value <= t.last {
		return nil, opaqueRetired
	}
	return nil, opaqueNeverIssued
}

// retire ends the use of o; its value rests before it is issued again.
func (t *opaqueTable) retire(o mcbp.Opaque, now time.Time) {
	value, ours := decodeOpaque(o)
	if _, ok := t.outstanding[value]; !ours || !ok {
		return
	}
	delete(t.outstanding, value)
	t.wake(now)
	t.resting[value] = struct{}{}
	t.restQueue = append(t.restQueue, restingOpaque{value: value, since: now})
}

func (t *opaqueTable) wake(now time.Time) {
	n := 0
	for n < len(t.restQueue) && now.Sub(t.restQueue[n].since) >= opaqueRest {
		delete(t.resting, t.restQueue[n].value)
		n++
	}
	t.restQueue = t.restQueue[n:]
	if len(t.restQueue) == 0 {
		t.restQueue = nil
	}
}

func encodeOpaque(value uint16) mcbp.Opaque {
	o := mcbp.Opaque{0: 0xff, 3: 0xff}
	binary.BigEndian.PutUint16(o[1:], value)
	return o
}

func decodeOpaque(o mcbp.Opaque) (uint16, bool) {
	return binary.BigEndian.Uint16(o[1:3]), o[0] == 0xff && o[3] == 0xff
}
