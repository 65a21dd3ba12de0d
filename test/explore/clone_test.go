package explore

import (
	"reflect"
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

type copier struct {
	seen map[unsafe.Pointer]unsafe.Pointer
}

var plans = map[reflect.Type]deepen{}

// deepCopy copies what v points to, with everything below it, once each.
func deepCopy[T any](v *T) *T {
	c := copier{seen: make(map[unsafe.Pointer]unsafe.Pointer, 16)}
	out := new(T)
	*out = *v
	c.seen[unsafe.Pointer(v)] = unsafe.Pointer(out)
	if plan := planFor(reflect.TypeFor[T]()); plan != nil {
		plan(&c, unsafe.Pointer(out))
	}
	return out
}

// planFor says how values of a type are made deep. Interfaces hold errors and effects here, which nobody changes.
func planFor(t reflect.Type) deepen {
	if plan, known := plans[t]; known {
		return plan
	}
	if shared[t] {
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		// A type may lead to itself: the plan of what is pointed to is looked up when it is needed.
		plans[t] = func(c *copier, at unsafe.Pointer) { c.pointer(t.Elem(), at) }
	case reflect.Slice:
		plans[t] = func(c *copier, at unsafe.Pointer) { copySlice(c, t, at) }
	case reflect.Map:
		plans[t] = func(c *copier, at unsafe.Pointer) { copyMap(c, t, at) }
	case reflect.Array:
		plans[t] = nil
		if element := planFor(t.Elem()); element != nil {
			plans[t] = func(c *copier, at unsafe.Pointer) {
				for i := range t.Len() {
					element(c, unsafe.Add(at, uintptr(i)*t.Elem().Size()))
				}
			}
		}
	case reflect.Struct:
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
		plans[t] = nil
		if parts != nil {
			plans[t] = func(c *copier, at unsafe.Pointer) {
				for _, p := range parts {
					p.plan(c, unsafe.Add(at, p.offset))
				}
			}
		}
	default:
		plans[t] = nil
	}
	return plans[t]
}

func (c *copier) pointer(elem reflect.Type, at unsafe.Pointer) {
	slot := (*unsafe.Pointer)(at)
	old := *slot
	if old == nil {
		return
	}
	if made, ok := c.seen[old]; ok {
		*slot = made
		return
	}
	made := reflect.New(elem)
	made.Elem().Set(reflect.NewAt(elem, old).Elem())
	*slot = made.UnsafePointer()
	c.seen[old] = *slot
	if plan := planFor(elem); plan != nil {
		plan(c, *slot)
	}
}

func copySlice(c *copier, t reflect.Type, at unsafe.Pointer) {
	v := reflect.NewAt(t, at).Elem()
	if v.IsNil() {
		return
	}
	made := reflect.MakeSlice(t, v.Len(), v.Len())
	reflect.Copy(made, v)
	v.Set(made)
	if plan := planFor(t.Elem()); plan != nil {
		for i := range made.Len() {
			plan(c, made.Index(i).Addr().UnsafePointer())
		}
	}
}

func copyMap(c *copier, t reflect.Type, at unsafe.Pointer) {
	v := reflect.NewAt(t, at).Elem()
	if v.IsNil() {
		return
	}
	made := reflect.MakeMapWithSize(t, v.Len())
	keys, values := planFor(t.Key()), planFor(t.Elem())
	for entries := v.MapRange(); entries.Next(); {
		made.SetMapIndex(copyEntry(c, entries.Key(), keys), copyEntry(c, entries.Value(), values))
	}
	v.Set(made)
}

func copyEntry(c *copier, v reflect.Value, plan deepen) reflect.Value {
	made := reflect.New(v.Type())
	made.Elem().Set(v)
	if plan != nil {
		plan(c, made.UnsafePointer())
	}
	return made.Elem()
}
