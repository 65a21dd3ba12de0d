package rebalance

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// onAll rebalances to all active members.
func (i *interrupted) onAll() *Report {
	i.t.Helper()
	run, err := i.cluster.Rebalance(i.t.Context(), Request{})
	require.NoError(i.t, err)
	report, err := run.Wait(i.t.Context())
	require.NoError(i.t, err)
	return report
}

// back lets a node that was failed over come up again, and adds it back.
func (i *interrupted) back(node string, options ...AddBackOption) {
	i.t.Helper()
	i.world.mu.Lock()
	i.world.down[node] = false
	i.world.mu.Unlock()
	require.NoError(i.t, i.cluster.AddBack(i.t.Context(), node, options...))
	i.world.mu.Lock()
	defer i.world.mu.Unlock()
	for _, c := range i.world.nodes[node].copies { // whoever adds a node back has it calmed
		require.NotEqual(i.t, mcbp.VBucketActive, c.state)
	}
	i.world.failedOver[node] = false
}

// rebalance.md §9.8: the copies of a node that comes back are taken up again, and go on where they ended.
func TestANodeThatIsAddedBackKeepsItsCopies(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		old := i.chains()
		had := map[uint16]*fakeCopy{}
		for vb, c := range i.world.nodes["n0"].copies {
			had[vb] = c
		}
		require.NoError(t, i.failOver(giveUp("n0")).Err)
		i.world.write(50)
		i.before = i.world.data()
		i.world.setDown("n0", false)
		require.NoError(t, i.janitor().Problem(), "it calms the node")
		i.back("n0")
		assert.Equal(t, Active, i.members()[0].Membership)
		var deleted []fakeOp
		i.world.setGate(func(_ context.Context, op fakeOp) error {
			i.world.mu.Lock()
			defer i.world.mu.Unlock()
			if op.What == "delete" && op.Node == "n0" {
				deleted = append(deleted, op)
			}
			return nil
		})
		report := i.onAll()
		require.NoError(t, report.Err)
		assert.True(t, i.chains().Balanced("n0", "n1", "n2", "n3"))
		kept := 0
		for vb, c := range had {
			if now := i.world.nodes["n0"].copies[vb]; now != nil {
				assert.Same(t, c, now, "vb %d was built anew", vb)
				kept++
			}
		}
		assert.Positive(t, kept, "%v, then %v; deleted: %v", old, i.chains(), deleted)
		i.requireServed()
	})
}

// diverge makes a node have acknowledged writes that were never replicated.
func (i *interrupted) diverge(node string) (vb uint16) {
	for n, chain := range i.chains() {
		if chain.Active() == node {
			vb = uint16(n)
		}
	}
	i.world.nodes[node].copies[vb].high += 5
	return vb
}

// A copy that has what its active lacks is neither overwritten nor deleted, unless whoever adds it back says so.
func TestADivergedCopyIsKept(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.world.giveUp("n0")
		vb := i.diverge("n0")
		diverged := i.world.nodes["n0"].copies[vb]
		require.NoError(t, i.failOver(giveUp("n0")).Err)
		i.world.setDown("n0", false)
		require.NoError(t, i.janitor().Problem())
		i.back("n0")
		require.NoError(t, i.cluster.RemoveNode(t.Context(), "n3"))
		report := i.onAll() // three nodes: n0 is to have it again
		if report.Err != nil {
			var kept *KeptCopies
			require.ErrorAs(t, report.Err, &kept)
			assert.Equal(t, map[uint16][]string{vb: {"n0"}}, kept.ByVB)
		}
		assert.Same(t, diverged, i.world.nodes["n0"].copies[vb])
		assert.EqualValues(t, 105, diverged.high)
		assert.Equal(t, map[uint16][]string{vb: {"n0"}}, i.janitor().Buckets[0].Kept)
		assert.Equal(t, i.before, i.world.data())
		assert.Empty(t, i.world.wrong)

		i.world.giveUp("n0")
		require.NoError(t, i.failOver(giveUp("n0")).Err)
		i.world.setDown("n0", false)
		require.NoError(t, i.janitor().Problem())
		i.back("n0", DiscardDiverged())
		assert.True(t, i.members()[0].DiscardDiverged)
		require.NoError(t, i.onAll().Err)
		assert.NotSame(t, diverged, i.world.nodes["n0"].copies[vb])
		assert.False(t, i.members()[0].DiscardDiverged, "once")
		assert.Empty(t, i.janitor().Buckets[0].Kept)
		i.requireServed()
	})
}

// Vbuckets of which no copy survived come back with the node that has them. Before that, nothing is made in their place.
func TestLostVBucketsComeBackWithTheirNode(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		report := i.failOver(FailoverRequest{Nodes: []string{"n0", "n1"}, AllowUnsafe: true})
		require.NoError(t, report.Err)
		lost := report.Buckets[0].Lost
		require.NotEmpty(t, lost)
		failed := i.onAll()
		var refused *LostVBuckets
		require.ErrorAs(t, failed.Err, &refused)
		assert.Equal(t, &LostVBuckets{Bucket: "orders", VBs: lost, FailedOver: []string{"n0", "n1"}}, refused)

		i.world.setDown("n0", false)
		require.Error(t, i.janitor().Problem())
		i.back("n0")
		report2 := i.onAll()
		if report2.Err != nil {
			require.ErrorAs(t, report2.Err, &refused, "n1 may have some")
		}
		i.world.setDown("n1", false)
		i.janitor()
		i.back("n1")
		require.NoError(t, i.onAll().Err)
		assert.Len(t, i.world.data(), 8)
		i.requireServed()
	})
}

// When nobody is left who might have them they are made anew.
func TestLostVBucketsAreMadeAnewWhenTheirNodesAreForgotten(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		report := i.failOver(FailoverRequest{Nodes: []string{"n0", "n1"}, AllowUnsafe: true})
		require.NoError(t, report.Err)
		require.NoError(t, i.cluster.RemoveNode(t.Context(), "n0"))
		require.NoError(t, i.cluster.RemoveNode(t.Context(), "n1"))
		for _, vb := range report.Buckets[0].Lost {
			i.before[vb] = 0
		}
		for _, node := range []string{"n0", "n1"} { // they are somebody else's now
			i.world.nodes[node].copies = map[uint16]*fakeCopy{}
		}
		require.NoError(t, i.onAll().Err)
		i.requireServed()
	})
}

func TestReadmissionTable(t *testing.T) {
	log := func(entries ...kv.FailoverEntry) []kv.FailoverEntry { return entries }
	first, promoted := kv.FailoverEntry{UUID: 1}, kv.FailoverEntry{UUID: 2, Seqno: 100}
	serving := janitorCopy{State: mcbp.VBucketActive, HighSeqno: 150, UUID: 2, FailoverLog: log(promoted, first)}
	behind := janitorCopy{State: mcbp.VBucketDead, HighSeqno: 100, UUID: 1, FailoverLog: log(first)}
	ahead := janitorCopy{State: mcbp.VBucketDead, HighSeqno: 105, UUID: 1, FailoverLog: log(first)}
	unreadLog := janitorCopy{State: mcbp.VBucketDead, HighSeqno: 100, UUID: 1}
	empty := janitorCopy{State: mcbp.VBucketDead, UUID: 1, FailoverLog: log(first)}
	for name, row := range map[string]struct {
		chain  vbmap.Chain
		copies map[string]janitorCopy
		want   vbmap.Chain
	}{
		"its history is the active's":         {vbmap.Chain{"B", ""}, map[string]janitorCopy{"B": serving, "X": behind}, vbmap.Chain{"B", "X"}},
		"it has what the active lacks":        {vbmap.Chain{"B", ""}, map[string]janitorCopy{"B": serving, "X": ahead}, vbmap.Chain{"B", ""}},
		"no place is free":                    {vbmap.Chain{"B", "C"}, map[string]janitorCopy{"B": serving, "X": behind}, vbmap.Chain{"B", "C"}},
		"one place for two":                   {vbmap.Chain{"B", ""}, map[string]janitorCopy{"B": serving, "X": behind, "Y": behind}, vbmap.Chain{"B", "X"}},
		"two places for two":                  {vbmap.Chain{"B", "", ""}, map[string]janitorCopy{"B": serving, "X": behind, "Y": behind}, vbmap.Chain{"B", "X", "Y"}},
		"there is nothing in it":              {vbmap.Chain{"B", ""}, map[string]janitorCopy{"B": serving, "X": empty}, vbmap.Chain{"B", ""}},
		"it is in the chain":                  {vbmap.Chain{"B", "X", ""}, map[string]janitorCopy{"B": serving, "X": behind}, vbmap.Chain{"B", "X", ""}},
		"the active is not active":            {vbmap.Chain{"B", ""}, map[string]janitorCopy{"B": behind, "X": behind}, vbmap.Chain{"B", ""}},
		"the active does not answer":          {vbmap.Chain{"B", ""}, map[string]janitorCopy{"X": behind}, vbmap.Chain{"B", ""}},
		"the vbucket was lost":                {vbmap.Chain{"", ""}, map[string]janitorCopy{"X": behind}, vbmap.Chain{"X", ""}},
		"it was lost, and two have it":        {vbmap.Chain{"", ""}, map[string]janitorCopy{"X": behind, "Y": ahead}, vbmap.Chain{"Y", "X"}},
		"it was lost, and they contradict":    {vbmap.Chain{"", ""}, map[string]janitorCopy{"X": ahead, "Y": serving}, vbmap.Chain{"", ""}},
		"it was lost, and there is no data":   {vbmap.Chain{"", ""}, map[string]janitorCopy{"X": empty}, vbmap.Chain{"", ""}},
		"histories that cannot be told apart": {vbmap.Chain{"B", ""}, map[string]janitorCopy{"B": serving, "X": {State: mcbp.VBucketDead, HighSeqno: 100, UUID: 1, FailoverLog: []kv.FailoverEntry{}}}, vbmap.Chain{"B", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decideReadmission(readmitCase{Chain: row.chain, Joining: []string{"X", "Y"}, Copies: row.copies})
			require.NoError(t, err)
			assert.Equal(t, row.want, got)
		})
	}
	_, err := decideReadmission(readmitCase{
		Chain: vbmap.Chain{"B", ""}, Joining: []string{"X"}, Copies: map[string]janitorCopy{"B": serving, "X": unreadLog},
	})
	var need *HistoryNeeded
	require.ErrorAs(t, err, &need)
	assert.Equal(t, []string{"X"}, need.Nodes)
}

// A node that does not answer may take itself for an active yet.
func TestANodeThatIsSilentIsNotAddedBack(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		require.NoError(t, i.failOver(giveUp("n0")).Err)
		err := i.cluster.AddBack(t.Context(), "n0")
		var silent *NodeError
		require.ErrorAs(t, err, &silent)
		assert.Equal(t, "n0", silent.Node)
		members, err := i.cluster.Members(t.Context())
		require.NoError(t, err)
		assert.Equal(t, FailedOver, members[0].Membership)
	})
}

// A node that is added back although it takes itself for an active yet is calmed first.
func TestANodeThatIsAddedBackAtOnceIsCalmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterrupted(t, 8)
		defer func() { i.close() }()
		require.NoError(t, i.failOver(giveUp("n0")).Err)
		i.world.setDown("n0", false)
		require.NoError(t, i.cluster.AddBack(t.Context(), "n0"))
		i.world.mu.Lock()
		for vb, c := range i.world.nodes["n0"].copies {
			assert.NotEqual(t, mcbp.VBucketActive, c.state, "vb %d", vb)
		}
		i.world.mu.Unlock()
		require.NoError(t, i.onAll().Err)
		i.world.failedOver["n0"] = false
		i.requireServed()
	})
}
