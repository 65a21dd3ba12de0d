package dcp

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Errors travel between processes as plain data, so one may come from somebody who has filled in less.
func TestAnIncompleteErrorHasAText(t *testing.T) {
	assert.Equal(t, "add_stream_timeout: ADD_STREAM made no progress: vb=3 add_opaque=- stream_opaque=-", (&AddStreamTimeout{VBs: []uint16{3}}).Error())
	half := &AddStreamTimeout{VBs: []uint16{3, 4}, AddOpaques: []mcbp.Opaque{{0xff, 0, 1, 0xff}}, StreamOpaques: []*mcbp.Opaque{nil}}
	assert.Equal(t, "add_stream_timeout: ADD_STREAM made no progress: vb=3 add_opaque=ff0001ff stream_opaque=-; vb=4 add_opaque=- stream_opaque=-", half.Error())
}
