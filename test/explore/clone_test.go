package explore

import (
	"maps"
	"reflect"
	"sync"
	"time"
	"unsafe"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// To follow every branch, a world is copied before each step, with the machines that ship in it. They have no method for that
// and need none: reflection copies whatever fields they have, so that a field added tomorrow is copied too.
// TestACopyIsAWorldOfItsOwn guards it.

// shared are the types of which a copy keeps the original: they are never written to, or compared by address.
var shared = map[reflect.Type]bool{
	reflect.TypeFor[time.Time]():       true,
	reflect.TypeFor[mcbp.Frame]():      true,
	reflect.TypeFor[*actors.PID]():     true,
	reflect.TypeFor[*dcp.RawConn]():    true,
	reflect.TypeFor[[]dcp.RawChange](): true,
}

// deepen makes a flat copy at an address deep. It is nil for types that have nothing below them.
type deepen func(c *copier, at unsafe.Pointer)

// copier remembers what was copied to where. It is a handful, so a list is faster than a map.
type copier struct {
	seen []moved
}

type moved struct{ from, to unsafe.Pointer }

// plans are made once for each type, by searches that run side by side.
var plans sync.Map

// deepCopy copies what v points to, with everything below it, once each.
func deepCopy[T any](v *T) *T {
	out := new(T)
	*out = *v
	c := copier{seen: append(make([]moved, 0, 16), moved{unsafe.Pointer(v), unsafe.Pointer(out)})}
	if plan := planFor(reflect.TypeFor[T]()); plan != nil {
		plan(&c, unsafe.Pointer(out))
	}
	return out
}

// planFor says how values of a type are made deep. Interfaces hold errors and effects here, which nobody changes.
func planFor(t reflect.Type) deepen {
	if plan, known := plans.Load(t); known {
		return plan.(deepen)
	}
	plan := newPlan(t)
	plans.Store(t, plan)
	return plan
}

// later is a plan that is looked up when it is needed first: a type may lead to itself.
func later(t reflect.Type) func() deepen {
	return sync.OnceValue(func() deepen { return planFor(t) })
}

func newPlan(t reflect.Type) deepen {
	if shared[t] {
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		elem := later(t.Elem())
		return func(c *copier, at unsafe.Pointer) { c.pointer(t.Elem(), elem(), at) }
	case reflect.Slice:
		elem := later(t.Elem())
		return func(c *copier, at unsafe.Pointer) { copySlice(c, t, elem(), at) }
	case reflect.Map:
		keys, values := later(t.Key()), later(t.Elem())
		return func(c *copier, at unsafe.Pointer) { copyMap(c, t, keys(), values(), at) }
	case reflect.Array:
		if element := planFor(t.Elem()); element != nil {
			return func(c *copier, at unsafe.Pointer) {
				for i := range t.Len() {
					element(c, unsafe.Add(at, uintptr(i)*t.Elem().Size()))
				}
			}
		}
	case reflect.Struct:
		return planForStruct(t)
	}
	return nil
}

func planForStruct(t reflect.Type) deepen {
	type part struct {
		offset uintptr
		plan   deepen
	}
	var parts []part
	for i := range t.NumField() {
		if plan := planFor(t.Field(i).Type); plan != nil {
			parts = append(parts, part{t.Field(i).Offset, plan})
		}
	}
	if parts == nil {
		return nil
	}
	return func(c *copier, at unsafe.Pointer) {
		for _, p := range parts {
			p.plan(c, unsafe.Add(at, p.offset))
		}
	}
}

func (c *copier) pointer(elem reflect.Type, plan deepen, at unsafe.Pointer) {
	slot := (*unsafe.Pointer)(at)
	old := *slot
	if old == nil {
		return
	}
	for _, m := range c.seen {
		if m.from == old {
			*slot = m.to
			return
		}
	}
	made := reflect.New(elem)
	made.Elem().Set(reflect.NewAt(elem, old).Elem())
	*slot = made.UnsafePointer()
	c.seen = append(c.seen, moved{old, *slot})
	if plan != nil {
		plan(c, *slot)
	}
}

func copySlice(c *copier, t reflect.Type, plan deepen, at unsafe.Pointer) {
	v := reflect.NewAt(t, at).Elem()
	if v.IsNil() {
		return
	}
	made := reflect.MakeSlice(t, v.Len(), v.Len())
	reflect.Copy(made, v)
	v.Set(made)
	if plan != nil {
		for i := range made.Len() {
			plan(c, made.Index(i).Addr().UnsafePointer())
		}
	}
}

func copyMap(c *copier, t reflect.Type, keys, values deepen, at unsafe.Pointer) {
	v := reflect.NewAt(t, at).Elem()
	if v.IsNil() {
		return
	}
	if flat, ok := v.Interface().(map[uint16]struct{}); ok {
		v.Set(reflect.ValueOf(maps.Clone(flat)))
		return
	}
	made := reflect.MakeMapWithSize(t, v.Len())
	if v.Len() == 0 {
		v.Set(made)
		return
	}
	key, value := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
	for entries := v.MapRange(); entries.Next(); {
		key.SetIterKey(entries)
		value.SetIterValue(entries)
		if keys != nil {
			keys(c, key.Addr().UnsafePointer())
		}
		if values != nil {
			values(c, value.Addr().UnsafePointer())
		}
		made.SetMapIndex(key, value)
	}
	v.Set(made)
}
