package kvnode

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

func TestAPauseIsEndedOnce(t *testing.T) {
	n, _ := startInside(t, mcbp.VBucketActive)
	first := n.pause()
	assert.Nil(t, n.pause(), "it is paused already")
	n.Resume()
	n.Pause()
	first()
	assert.True(t, n.paused.Load(), "by another pause")
	n.Resume()
	assert.False(t, n.paused.Load())
}
