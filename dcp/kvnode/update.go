package kvnode

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Commands whose new version depends on the present one: APPEND and PREPEND, INCREMENT and DECREMENT, TOUCH and GAT.

// updateAttempts bounds how often such a command starts over because somebody else's change came first. Each time somebody's has
// been made, so it is a busy document indeed that refuses one.
const updateAttempts = 1000

// next is what an update makes of the present version, or of nil if there is none. A nil version with success leaves all as it is;
// next must not change the present one.
type next func(present *item) (*item, mcbp.Status)

// update replaces the present version of a key, if the client's CAS is 0 or that version's. It returns the version that there is
// now, and the UUID of its history, 0 if nothing changed.
func (c *conn) update(v *vbucket, key string, cas uint64, d *mcbp.Durability, revise next) (it *item, uuid uint64, status mcbp.Status) {
	for range updateAttempts {
		now := c.node.opts.Now()
		present, status := v.read(key, now)
		if status != mcbp.StatusSuccess && status != mcbp.StatusKeyNotFound {
			return nil, 0, status
		}
		switch {
		case cas == 0:
		case present == nil:
			return nil, 0, mcbp.StatusKeyNotFound
		case present.cas != cas:
			return nil, 0, mcbp.StatusKeyExists
		}
		it, status := revise(present)
		if status != mcbp.StatusSuccess {
			return nil, 0, status
		}
		if it == nil {
			return present, 0, mcbp.StatusSuccess
		}
		it.key = key
		op, condition := mcbp.OpAdd, uint64(0)
		if present != nil {
			op, condition = mcbp.OpReplace, present.cas
		}
		it, uuid, status := c.put(v, op, it, condition, d, now)
		if status != mcbp.StatusKeyExists && (status != mcbp.StatusKeyNotFound || present == nil) {
			return it, uuid, status
		}
	}
	return nil, 0, mcbp.StatusTemporaryFailure
}

// extend answers APPEND and PREPEND. The document keeps its flags and expiry; what it becomes is no JSON, whatever it was.
func (c *conn) extend(b *bucket, f mcbp.Frame) {
	if f.ExtrasLen() != 0 || f.Datatype()&^c.storable() != 0 {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	more, status := plain(f.Value(), f.Datatype())
	if status != mcbp.StatusSuccess {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	it, uuid := c.change(b, f, func(present *item) (*item, mcbp.Status) {
		if present == nil {
			return nil, mcbp.StatusNotStored
		}
		if present.datatype&mcbp.DatatypeXattr != 0 {
			return nil, mcbp.StatusNotSupported
		}
		value, status := plain(present.value, present.datatype)
		if status != mcbp.StatusSuccess {
			return nil, status
		}
		if len(value)+len(more) > maxValue {
			return nil, mcbp.StatusTooBig
		}
		it := &item{flags: present.flags, expiry: present.expiry}
		if aloud(f.Opcode()) == mcbp.OpAppend {
			it.value = slices.Concat(value, more)
		} else {
			it.value = slices.Concat(more, value)
		}
		return it, mcbp.StatusSuccess
	})
	if it != nil {
		c.stored(f, it, uuid, nil)
	}
}

// plain is a value without compression.
func plain(value []byte, datatype mcbp.Datatype) ([]byte, mcbp.Status) {
	if datatype&mcbp.DatatypeSnappy == 0 {
		return value, mcbp.StatusSuccess
	}
	inflated, err := snappyDecode(value, maxValue)
	if err != nil {
		return nil, mcbp.StatusInternalError
	}
	return inflated, mcbp.StatusSuccess
}

const (
	// countExtras is the length of the extras of INCREMENT and DECREMENT: the difference, the value of a new counter, its expiry.
	countExtras = 20
	// noNewCounter, as an expiry, says that a counter which is not there is not made.
	noNewCounter = math.MaxUint32
)

// count answers INCREMENT and DECREMENT of a document that is a decimal number. One goes round at 64 bits, the other stops at 0.
func (c *conn) count(b *bucket, f mcbp.Frame) {
	if f.ExtrasLen() != countExtras || len(f.Value()) != 0 || f.Datatype() != 0 {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	x := f.Extras()
	by, initial, expiry := binary.BigEndian.Uint64(x), binary.BigEndian.Uint64(x[8:]), binary.BigEndian.Uint32(x[16:])
	number := initial
	it, uuid := c.change(b, f, func(present *item) (*item, mcbp.Status) {
		if present == nil {
			if expiry == noNewCounter {
				return nil, mcbp.StatusKeyNotFound
			}
			number = initial
			return &item{value: strconv.AppendUint(nil, number, 10), expiry: expiryAt(expiry, c.node.opts.Now())}, mcbp.StatusSuccess
		}
		value, status := plain(present.value, present.datatype)
		if status != mcbp.StatusSuccess {
			return nil, status
		}
		var err error
		if number, err = strconv.ParseUint(string(value), 10, 64); err != nil {
			return nil, mcbp.StatusNotANumber
		}
		if aloud(f.Opcode()) == mcbp.OpIncrement {
			number += by
		} else {
			number -= min(by, number)
		}
		return &item{value: strconv.AppendUint(nil, number, 10), flags: present.flags, expiry: present.expiry}, mcbp.StatusSuccess
	})
	if it != nil {
		c.stored(f, it, uuid, binary.BigEndian.AppendUint64(nil, number))
	}
}

// change is update for a request. If there is to be no change, it answers why and returns nil.
func (c *conn) change(b *bucket, f mcbp.Frame, revise next) (it *item, uuid uint64) {
	durability, status := c.durabilityOf(f)
	if status != mcbp.StatusSuccess {
		c.answer(f, status)
		return nil, 0
	}
	v, key, status := c.access(b, f)
	if status == mcbp.StatusSuccess {
		it, uuid, status = c.update(v, key, f.CAS(), durability, revise)
	}
	if status != mcbp.StatusSuccess {
		c.refuse(b, f, status)
		return nil, 0
	}
	return it, uuid
}

// touchExtras is the length of an expiry.
const touchExtras = 4

// touch answers TOUCH and GAT: the document gets another expiry, and is another version then.
func (c *conn) touch(b *bucket, f mcbp.Frame) {
	if f.ExtrasLen() != touchExtras || len(f.Value()) != 0 {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	expiry := expiryAt(binary.BigEndian.Uint32(f.Extras()), c.node.opts.Now())
	it, _ := c.change(b, f, func(present *item) (*item, mcbp.Status) {
		if present == nil {
			return nil, mcbp.StatusKeyNotFound
		}
		if present.expiry == expiry {
			return nil, mcbp.StatusSuccess
		}
		return &item{value: present.value, datatype: present.datatype, flags: present.flags, expiry: expiry}, mcbp.StatusSuccess
	})
	switch {
	case it == nil:
	case f.Opcode() == mcbp.OpTouch:
		p := mcbp.Response(f, mcbp.StatusSuccess)
		p.CAS = it.cas
		c.reply(p)
	default:
		c.replyDocument(f, it)
	}
}
