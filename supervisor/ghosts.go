package supervisor

import (
	"slices"

	"github.com/shearpin/shearpin/actors"
)

// ghosts are the processes of children that died while a callback or goroutine of theirs was running, and it still is. A
// supervisor keeps them for its listings only.
type ghosts struct {
	all   []ghost
	limit int // when to look who has gone
}

type ghost struct {
	pid   *actors.PID
	child *child
}

// add takes a dead process in if it lingers. Of a death that waits for its turn the supervisor may hear twice.
func (g *ghosts) add(pid *actors.PID, of *child) {
	if pid.Lingering() == 0 || slices.ContainsFunc(g.all, func(x ghost) bool { return x.pid == pid }) {
		return
	}
	if len(g.all) >= g.limit {
		g.total()
		g.limit = 2*len(g.all) + 8
	}
	g.all = append(g.all, ghost{pid, of})
}

// total forgets those who have gone and counts the others.
func (g *ghosts) total() int {
	g.all = slices.DeleteFunc(g.all, func(x ghost) bool { return x.pid.Lingering() == 0 })
	return len(g.all)
}

// of counts those of one child.
func (g *ghosts) of(c *child) (n int) {
	for _, x := range g.all {
		if x.child == c && x.pid.Lingering() > 0 {
			n++
		}
	}
	return n
}
