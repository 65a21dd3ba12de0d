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
	arg         any // what StartWith is given
	member      bool
	state       state
	pid         *actors.PID // nil unless alive or stopping
	former      *actors.PID // the process before, of a child that is restarting
	incarnation int
	restarts    int       // successful starts that were automatic restarts
	since       time.Time // of the present state
	lastExit    error
	doomed      bool // among the stops of the job in hand

	// Of a restart that was put off.
	attempt int       // counts them; a retry is for one
	why     error     // it is necessary
	retryAt time.Time // it is due
	counted bool      // against the intensity
	row     int       // so many restarts in a row, for the back-off

	prev, next *child
}

// roster holds the children in the order of their start, and finds them by id and by process. Dynamic children have no id
// of their own.
type roster struct {
	dynamic     bool
	first, last *child
	n           int
	byID        map[string]*child
	byPID       map[*actors.PID]*child
	byFormer    map[*actors.PID]*child // dynamic children that are restarting, which nothing else tells apart
}

func newRoster(dynamic bool) roster {
	return roster{
		dynamic: dynamic, byID: make(map[string]*child), byPID: make(map[*actors.PID]*child),
		byFormer: make(map[*actors.PID]*child),
	}
}

// add appends c.
func (r *roster) add(c *child) {
	c.member = true
	if !r.dynamic {
		r.byID[c.spec.ID] = c
	}
	c.prev = r.last
	if r.last != nil {
		r.last.next = c
	} else {
		r.first = c
	}
	r.last = c
	r.n++
}

// remove forgets c, which must have no process.
func (r *roster) remove(c *child) {
	if !c.member {
		return
	}
	c.member = false
	if !r.dynamic {
		delete(r.byID, c.spec.ID)
	}
	delete(r.byFormer, c.former)
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
	r.n--
}

// hold notes that pid is the process of c.
func (r *roster) hold(c *child, pid *actors.PID) {
	delete(r.byFormer, c.former)
	c.pid, c.former = pid, nil
	r.byPID[pid] = c
}

// release notes that c has no process any more.
func (r *roster) release(c *child) {
	delete(r.byPID, c.pid)
	c.pid, c.former = nil, c.pid
}

// remember makes a dynamic child that is restarting be found by its former process.
func (r *roster) remember(c *child) {
	if r.dynamic {
		r.byFormer[c.former] = c
	}
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
