package kvnode_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

func TestReplicationCarriesDocumentsAndTakesOver(t *testing.T) {
	n0, n1 := startNode(t, "n0"), startNode(t, "n1")
	a, b := login(t, n0), login(t, n1)
	a.setVBucket(7, mcbp.VBucketActive)
	b.setVBucket(7, mcbp.VBucketReplica)
	for i := range 100 {
		a.set(7, fmt.Sprintf("key-%d", i%60), fmt.Sprintf("value-%d", i))
	}
	r := join(t, n0, n1, testLink)
	r.open(7, 0)
	a.set(7, "live", "1")
	a.del(7, "key-3")
	same := func() bool {
		return a.stat("vbucket-digest", 7, "high_seqno") == b.stat("vbucket-digest", 7, "high_seqno") &&
			a.stat("vbucket-digest", 7, "digest") == b.stat("vbucket-digest", 7, "digest")
	}
	eventually(t, "replica equals active", same)

	r.shutStream(7)
	a.set(7, "tail", "1")
	r.open(7, mcbp.StreamFlagTakeover)
	eventually(t, "takeover", func() bool { return b.stat("vbucket", 7, "") == "active" })
	require.Equal(t, "dead", a.stat("vbucket", 7, ""))
	require.Equal(t, "1", string(b.get(7, "tail").Value()))
	require.Equal(t, mcbp.StatusNotMyVBucket, a.get(7, "tail").Status())
	require.True(t, same())
}
