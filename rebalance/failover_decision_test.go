package rebalance

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// copyAt is a copy with a history.
func copyAt(state mcbp.VBucketState, high uint64, log ...kv.FailoverEntry) janitorCopy {
	return janitorCopy{State: state, HighSeqno: high, UUID: log[0].UUID, FailoverLog: log}
}

// The rules by which nodes are given up: F is the one that is.
func TestFailoverTable(t *testing.T) {
	old, mine, other := kv.FailoverEntry{UUID: 1}, kv.FailoverEntry{UUID: 2, Seqno: 50}, kv.FailoverEntry{UUID: 3, Seqno: 50}
	replica := func(high uint64, log ...kv.FailoverEntry) janitorCopy {
		return copyAt(mcbp.VBucketReplica, high, append(log, old)...)
	}
	active := func(high uint64) janitorCopy { return copyAt(mcbp.VBucketActive, high, old) }
	dead := func(high uint64) janitorCopy { return copyAt(mcbp.VBucketDead, high, old) }
	missing := janitorCopy{}
	type copies = map[string]janitorCopy
	for name, row := range map[string]struct {
		chain, forward vbmap.Chain
		copies         copies
		fed            map[string]string
		unfenced       []string
		want           vbmap.Chain
		promoted       bool
		hold           error
		// unsafe is the chain if data may be lost; nil is the same.
		unsafe          vbmap.Chain
		overruled, lost bool
	}{
		"it has no part in the vbucket": {
			chain: vbmap.Chain{"B", "C"}, copies: copies{"B": active(9), "C": replica(9)}, hold: errUntouched,
		},
		"its replica is gone": {
			chain: vbmap.Chain{"B", "F", "C"}, copies: copies{"B": active(9), "C": replica(9)}, want: vbmap.Chain{"B", "C", ""},
		},
		"its replica is gone, and the active is silent": {
			chain: vbmap.Chain{"B", "F"}, copies: copies{"C": missing}, hold: &WaitingForNodes{Nodes: []string{"B"}},
		},
		"the first replica is promoted": {
			chain: vbmap.Chain{"F", "B", "C"}, copies: copies{"B": replica(9), "C": replica(9)}, want: vbmap.Chain{"B", "C", ""}, promoted: true,
		},
		"the one that has more is promoted": {
			chain: vbmap.Chain{"F", "B", "C"}, copies: copies{"B": replica(8), "C": replica(9)}, want: vbmap.Chain{"C", "B", ""}, promoted: true,
		},
		"one that has no copy is not": {
			chain: vbmap.Chain{"F", "B", "C"}, copies: copies{"B": missing, "C": replica(9)}, want: vbmap.Chain{"C", "B", ""}, promoted: true,
		},
		"an empty vbucket": {
			chain: vbmap.Chain{"F", "B", "C"}, copies: copies{"B": missing, "C": replica(0)}, want: vbmap.Chain{"C", "B", ""}, promoted: true,
		},
		"an empty copy is not promoted over data elsewhere": {
			chain: vbmap.Chain{"F", "B"}, copies: copies{"B": replica(0), "C": replica(9)},
			hold: &StrayData{Nodes: []string{"C"}}, unsafe: vbmap.Chain{"", ""}, lost: true,
		},
		"no copy is left": {
			chain: vbmap.Chain{"F", "B"}, copies: copies{"B": missing, "C": missing}, hold: &NoData{}, unsafe: vbmap.Chain{"", ""}, lost: true,
		},
		"it was the only one": {
			chain: vbmap.Chain{"F"}, copies: copies{"B": missing, "C": missing}, hold: &NoData{}, unsafe: vbmap.Chain{""}, lost: true,
		},
		"the survivors contradict each other": {
			chain: vbmap.Chain{"F", "B", "C"}, copies: copies{"B": replica(60, mine), "C": replica(70, other)},
			hold: &Conflict{}, unsafe: vbmap.Chain{"C", "", ""}, overruled: true,
		},
		"a survivor is silent": {
			chain: vbmap.Chain{"F", "B", "C"}, copies: copies{"B": replica(9)}, hold: &WaitingForNodes{Nodes: []string{"C"}},
		},
		"a server is silent that may be the active": {
			chain: vbmap.Chain{"F", "B"}, copies: copies{"B": replica(9)}, hold: &WaitingForNodes{Nodes: []string{"C"}},
		},
		"a survivor's takeover is not fenced": {
			chain: vbmap.Chain{"F", "B"}, forward: vbmap.Chain{"C", "B"}, copies: copies{"B": replica(9), "C": replica(9)},
			unfenced: []string{"C"}, hold: &UnknownVBucket{Nodes: []string{"C"}},
		},
		"a survivor streams from it still": {
			chain: vbmap.Chain{"F", "B"}, copies: copies{"B": replica(9), "C": missing}, fed: map[string]string{"B": "F"},
			hold: &StillReplicating{Producer: "F", Consumer: "B"},
		},
		"a takeover has come to its end": {
			chain: vbmap.Chain{"F", "B"}, forward: vbmap.Chain{"C", "B"}, copies: copies{"B": replica(9), "C": active(9)},
			want: vbmap.Chain{"C", "B"}, promoted: true,
		},
		"a takeover to it has not, and the old active is there": {
			chain: vbmap.Chain{"B", "F"}, forward: vbmap.Chain{"F", "B"}, copies: copies{"B": dead(9), "C": missing},
			want: vbmap.Chain{"B", ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := failoverCase{Fed: row.fed, janitorCase: janitorCase{
				Chain: row.chain, FastForward: row.forward, Servers: []string{"F", "B", "C"}, FailedOver: []string{"F"},
				Unfenced: row.unfenced, Copies: row.copies,
			}}
			got := decideFailover(c)
			if row.hold != nil {
				var conflict *Conflict
				if errors.As(row.hold, &conflict) {
					require.ErrorAs(t, got.Hold, &conflict)
					assert.Len(t, conflict.Copies, 2)
				} else {
					assert.Equal(t, row.hold, got.Hold)
				}
				assert.Equal(t, row.chain, got.Chain)
			} else {
				require.NoError(t, got.Hold)
				assert.Equal(t, row.want, got.Chain)
				assert.Equal(t, row.promoted, got.Promoted)
			}
			c.AllowUnsafe = true
			unsafe := decideFailover(c)
			if row.unsafe == nil {
				assert.Equal(t, got, unsafe, "nothing is lost that need not be")
				return
			}
			require.NoError(t, unsafe.Hold)
			assert.Equal(t, row.unsafe, unsafe.Chain)
			assert.Equal(t, row.overruled, unsafe.Overruled)
			assert.Equal(t, row.lost, unsafe.Lost)
		})
	}
}

// Every state of two survivors is tried, for every chain that the node is in: nothing that a survivor has may be lost,
// nobody may become a second active, and nothing is deleted.
func TestFailoverDecisionExhaustively(t *testing.T) {
	t.Parallel()
	candidates := modelCopies()
	decided := map[string]int{}
	for length := 1; length <= 3; length++ {
		for _, chain := range chainsOf([]string{"F", "B", "C"}, length) {
			for _, b := range candidates {
				for _, c := range candidates {
					for _, unsafe := range []bool{false, true} {
						m := failoverModel{chain: chain, copies: map[string]modelCopy{"B": b, "C": c}, unsafe: unsafe}
						what, err := m.check()
						require.NoErrorf(t, err, "%v with B %v, C %v, unsafe %v", chain, b, c, unsafe)
						decided[what]++
					}
				}
			}
		}
	}
	for _, what := range []string{"untouched", "held", "promoted", "shortened", "lost", "overruled"} {
		assert.Positive(t, decided[what], what)
	}
}

// failoverModel is one vbucket of which F is given up.
type failoverModel struct {
	chain  vbmap.Chain
	copies map[string]modelCopy
	unsafe bool
}

func (m failoverModel) check() (what string, err error) {
	c := failoverCase{AllowUnsafe: m.unsafe, janitorCase: janitorCase{
		Chain: m.chain, Servers: []string{"F", "B", "C"}, FailedOver: []string{"F"}, Copies: map[string]janitorCopy{},
	}}
	actives := 0
	for node, kept := range m.copies {
		c.Copies[node] = kept.janitorCopy
		if kept.State == mcbp.VBucketActive {
			actives++
		}
	}
	d := decideFailover(c)
	for _, a := range d.Actions {
		if a.State == mcbp.VBucketMissing || m.copies[a.Node].State == mcbp.VBucketMissing && a.State == mcbp.VBucketActive {
			return "", fmt.Errorf("%v on %s", a.State, a.Node)
		}
	}
	switch {
	case !m.chain.Contains("F"):
		if !errors.Is(d.Hold, errUntouched) {
			return "", errors.New("touched")
		}
		return "untouched", nil
	case d.Hold != nil:
		if !d.Chain.Equal(m.chain) || len(d.Actions)+len(d.Streams) > 0 {
			return "", errors.New("held and changed")
		}
		return "held", nil
	case d.Chain.Contains("F") || len(d.Chain) != len(m.chain):
		return "", fmt.Errorf("chain %v", d.Chain)
	case d.Lost:
		if !m.unsafe || len(d.Chain.Members()) > 0 {
			return "", errors.New("lost without need")
		}
		return "lost", nil
	case actives > 1:
		return "several actives", nil // the janitor's rule, which is tried elsewhere
	}
	return m.checkActive(d, actives)
}

// checkActive checks who serves from now on.
func (m failoverModel) checkActive(d failoverDecision, actives int) (what string, err error) {
	serving := d.Chain.Active()
	before := m.copies[serving]
	if before.State == mcbp.VBucketMissing {
		return "", fmt.Errorf("%s has no copy and becomes active", serving)
	}
	for node, kept := range m.copies {
		switch {
		case node == serving:
		case kept.State == mcbp.VBucketActive:
			return "", fmt.Errorf("%s is active too", node)
		case actives > 0: // the active that there is decides, as the janitor has it
		case kept.writes&^before.writes != 0 && (!d.Overruled || d.Chain.Contains(node)):
			return "", fmt.Errorf("%s has what %s lacks", node, serving)
		}
	}
	switch {
	case d.Overruled:
		return "overruled", nil
	case d.Promoted:
		return "promoted", nil
	}
	return "shortened", nil
}
