package kvnode

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Between what an update reads and what it writes somebody else may come: then it starts over from what is there now.
func TestAnUpdateStartsOverFromWhatIsThere(t *testing.T) {
	n, b := startInside(t, mcbp.VBucketActive)
	c, v := &conn{node: n}, b.vb(1)
	between := func(op mcbp.Opcode, value string) {
		t.Helper()
		_, status := v.write(op, &item{key: "k", value: []byte(value), deleted: op == mcbp.OpDelete}, 0, time.Now())
		require.Equal(t, mcbp.StatusSuccess, status)
	}
	// Each time it is looked at, the next of these happens behind.
	update := func(behind ...func()) (value string, status mcbp.Status) {
		it, uuid, status := c.update(v, "k", 0, nil, func(present *item) (*item, mcbp.Status) {
			if len(behind) > 0 {
				behind[0]()
				behind = behind[1:]
			}
			if present == nil {
				return &item{value: []byte("new")}, mcbp.StatusSuccess
			}
			return &item{value: append([]byte("+"), present.value...)}, mcbp.StatusSuccess
		})
		if status != mcbp.StatusSuccess {
			return "", status
		}
		assert.Equal(t, v.log.uuid(), uuid)
		return string(it.value), status
	}
	value, _ := update()
	assert.Equal(t, "new", value)
	value, _ = update(func() { between(mcbp.OpSet, "a") })
	assert.Equal(t, "+a", value, "changed")
	value, _ = update(func() { between(mcbp.OpDelete, "") })
	assert.Equal(t, "new", value, "deleted")
	value, _ = update(func() { between(mcbp.OpDelete, "") }, func() { between(mcbp.OpAdd, "b") })
	assert.Equal(t, "+b", value, "deleted, and made again")

	always := make([]func(), updateAttempts)
	for i := range always {
		always[i] = func() { between(mcbp.OpSet, "c") }
	}
	_, status := update(always...)
	assert.Equal(t, mcbp.StatusTemporaryFailure, status, "there is an end to it")
	value, _ = update(always[1:]...)
	assert.Equal(t, "+c", value)
}

// The extended attributes of a document are a part of its value that text must not come into.
func TestNothingIsAppendedToExtendedAttributes(t *testing.T) {
	n, b := startInside(t, mcbp.VBucketActive)
	_, status := b.vb(1).write(mcbp.OpSet, &item{key: "k", value: []byte{0, 0, 0, 0}, datatype: mcbp.DatatypeXattr}, 0, time.Now())
	require.Equal(t, mcbp.StatusSuccess, status)

	var out []mcbp.Frame
	for _, op := range []mcbp.Opcode{mcbp.OpAppend, mcbp.OpPrepend} {
		out = append(out, (&mcbp.Packet{Opcode: op, VBucket: 1, Key: []byte("k"), Value: []byte("x")}).Frame())
	}
	r := newFrameReader(say(t, n, out...))
	for _, want := range []mcbp.Status{mcbp.StatusSuccess, mcbp.StatusNotSupported, mcbp.StatusNotSupported} {
		f := nextFrame(t, r)
		assert.Equal(t, want, f.Status(), "%v", f.Opcode())
	}
}
