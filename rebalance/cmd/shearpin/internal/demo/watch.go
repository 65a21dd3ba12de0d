package demo

import (
	"strings"
	"sync"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/supervisor"
)

// eventBuffer is how many events of each kind may wait for the watcher; what does not fit is counted.
const eventBuffer = 1 << 13

// maxExits bounds the exits that are kept; only the first ones are looked at.
const maxExits = 64

// watcher records what a cluster's event streams say while it runs.
type watcher struct {
	streams *actors.Subscription[dcp.Event]
	tree    *actors.Subscription[supervisor.Event]
	wg      sync.WaitGroup

	mu       sync.Mutex
	armed    time.Time
	restarts int
	gaveUp   map[dcp.Link]bool
	links    map[string]dcp.Link
	exits    []supervisor.Event
}

// watch subscribes to both buses until close is called.
func watch(streams *actors.Bus[dcp.Event], tree *actors.Bus[supervisor.Event]) *watcher {
	w := &watcher{
		streams: streams.Subscribe(eventBuffer),
		tree:    tree.Subscribe(eventBuffer),
		gaveUp:  make(map[dcp.Link]bool),
		links:   make(map[string]dcp.Link),
	}
	w.wg.Go(w.run)
	return w
}

func (w *watcher) run() {
	streams, tree := w.streams.C(), w.tree.C()
	for streams != nil || tree != nil {
		select {
		case e, open := <-streams:
			if !open {
				streams = nil
				continue
			}
			w.replication(e)
		case e, open := <-tree:
			if !open {
				tree = nil
				continue
			}
			w.supervision(e)
		}
	}
}

// close ends the subscriptions. What was published before has been recorded when it returns.
func (w *watcher) close() {
	w.streams.Close()
	w.tree.Close()
	w.wg.Wait()
}

// arm makes the exits from now on count.
func (w *watcher) arm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = time.Now()
}

func (w *watcher) replication(e dcp.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := e.(type) {
	case dcp.ConsumerStarted:
		// A link that gave up is opened again as a new one, whose incarnations count from 1.
		if e.Incarnation > 1 || w.gaveUp[e.Link] {
			w.restarts++
		}
		delete(w.gaveUp, e.Link)
		w.links[e.Name()] = e.Link
	case dcp.LinkGaveUp:
		w.gaveUp[e.Link] = true
	}
}

func (w *watcher) supervision(e supervisor.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Kind == supervisor.ChildExited && connectionRole(e) != "" && !actors.IsNormal(e.Reason) && len(w.exits) < maxExits {
		w.exits = append(w.exits, e)
	}
}

// connectionRole is the role of the connection process that e is about, empty if it is about something else.
func connectionRole(e supervisor.Event) string {
	switch e.ID {
	case dcp.RoleConsumer + " connection":
		return dcp.RoleConsumer
	case dcp.RoleProducer + " connection":
		return dcp.RoleProducer
	}
	return ""
}

// abnormalExits are those since arm, oldest first.
func (w *watcher) abnormalExits() []exit {
	w.mu.Lock()
	defer w.mu.Unlock()
	var exits []exit
	for _, e := range w.exits {
		if w.armed.IsZero() || e.At.Before(w.armed) {
			continue
		}
		exits = append(exits, exit{link: w.linkOf(e.Supervisor), role: connectionRole(e), reason: e.Reason, at: e.At})
	}
	return exits
}

// linkOf finds the link whose name ends a supervisor's name.
func (w *watcher) linkOf(supervisor string) dcp.Link {
	for name, link := range w.links {
		if strings.HasSuffix(supervisor, " "+name) {
			return link
		}
	}
	return dcp.Link{}
}

func (w *watcher) restartCount() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.restarts
}

// lost counts events that came faster than they were taken.
func (w *watcher) lost() uint64 { return w.streams.Dropped() + w.tree.Dropped() }
