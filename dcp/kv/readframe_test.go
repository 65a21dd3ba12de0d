package kv

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

func TestFramesOfEveryLengthAreReadWhole(t *testing.T) {
	for _, n := range []int{0, 1, firstRead - mcbp.HeaderLen - 1, firstRead - mcbp.HeaderLen, firstRead, 3*firstRead + 7, 3 << 20} {
		value := make([]byte, n)
		for i := range value {
			value[i] = byte(i >> 8)
		}
		want := (&mcbp.Packet{Opcode: mcbp.OpGet, Value: value}).Frame()
		in := bytes.NewReader(append(bytes.Clone(want), "next"...))
		got, err := readFrame(iotest.HalfReader(in), maxAnswerBody)
		require.NoError(t, err, "%d bytes", n)
		assert.True(t, bytes.Equal(want, got), "%d bytes", n)
		rest, _ := io.ReadAll(in)
		assert.Equal(t, "next", string(rest), "not one byte more, %d bytes", n)

		_, err = readFrame(bytes.NewReader(want[:len(want)-1]), maxAnswerBody)
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF, "%d bytes, one less", n)
	}
}

// A header that promises a long body is no reason to hold memory for it.
func TestALengthAloneTakesLittleMemory(t *testing.T) {
	header := (&mcbp.Packet{Opcode: mcbp.OpGet}).Frame()
	binary.BigEndian.PutUint32(header[8:], maxAnswerBody)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := readFrame(bytes.NewReader(append(header, make([]byte, 100)...)), maxAnswerBody)
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}
