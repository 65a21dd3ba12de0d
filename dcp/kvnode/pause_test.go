package kvnode

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAPauseIsEndedOnce(t *testing.T) {
	n, err := Start(Options{Name: "n0"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	first := n.pause()
	assert.Nil(t, n.pause(), "it is paused already")
	n.Resume()
	n.Pause()
	first()
	assert.True(t, n.paused.Load(), "by another pause")
	n.Resume()
	assert.False(t, n.paused.Load())
}
