package supervisor

import (
	"iter"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// state is where a child stands.
type state uint8

const (
	stopped    state = iota // no process; the spec is kept
	alive                   // has a process
	stopping                // has a process that has been told to stop
	restarting              // no process; a failed restart will be tried again
)

func (s state) String() string { return name(s, "stopped", "running", "stopping", "restarting") }

// child is a ChildSpec and what has become of it.
type child struct {
	spec        ChildSpec
	state       state
	pid         *actors.PID // nil unless alive or stopping
	incarnation int
	restarts    int       // successful starts that were automatic restarts
	since       time.Time // of the present state
	lastExit    error
	attempt     int   // counts failed restarts; a retry is for one attempt
	startErr    error // of the last failed restart
	doomed      bool  // among the stops of the job in hand

	prev, next *child
}

// roster holds the children in the order of their start, and finds them by id and by process.
type roster struct {
	first, last *child
	byID        map[string]*child
	byPID       map[*actors.PID]*child
}

func newRoster() roster {
	return roster{byID: make(map[string]*child), byPID: make(map[*actors.PID]*child)}
}

// add appends c.
func (r *roster) add(c *child) {
	r.byID[c.spec.ID] = c
	c.prev = r.last
	if r.last != nil {
		r.last.next = c
	} else {
		r.first = c
	}
	r.last = c
}

// remove forgets c, which must have no process.
func (r *roster) remove(c *child) {
	if r.byID[c.spec.ID] != c {
		return
	}
	delete(r.byID, c.spec.ID)
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		r.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		r.last = c.prev
	}
	c.prev, c.next = nil, nil
}

// from yields c and the children after it, in the order of start; from(nil) yields nothing.
func (r *roster) from(c *child) iter.Seq[*child] {
	return func(yield func(*child) bool) {
		for c != nil {
			next := c.next
			if !yield(c) {
				return
			}
			c = next
		}
	}
}

// newest yields all children, the last one first.
func (r *roster) newest() iter.Seq[*child] {
	return func(yield func(*child) bool) {
		for c := r.last; c != nil; {
			prev := c.prev
			if !yield(c) {
				return
			}
			c = prev
		}
	}
}
