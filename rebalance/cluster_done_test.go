package rebalance

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
)

func TestAClosedClusterIsDoneWithoutAnError(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		require.NoError(t, i.cluster.Err())
		select {
		case <-i.cluster.Done():
			assert.Fail(t, "it is open")
		default:
		}
		i.close()
		<-i.cluster.Done()
		assert.NoError(t, i.cluster.Err())
		i.open(3)
	})
}

func TestAClusterWhoseRootWasKilledIsDone(t *testing.T) {
	inFakeCluster(t, func(t *testing.T, i *interrupted) {
		i.cluster.root.Exit(actors.Killed)
		<-i.cluster.Done()
		assert.ErrorIs(t, i.cluster.Err(), actors.Killed)
	})
}
