package mcbp

import (
	"bytes"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFrameInfosByHand(t *testing.T) {
	long := bytes.Repeat([]byte{'u'}, 20)
	for name, v := range map[string]struct {
		encoded []byte
		want    FrameInfo
	}{
		"nothing":            {[]byte{0x00}, FrameInfo{ID: FrameInfoBarrier, Data: []byte{}}},
		"stream id":          {[]byte{0x22, 0x01, 0x02}, FrameInfo{ID: FrameInfoStreamID, Data: []byte{1, 2}}},
		"fourteen bytes":     {append([]byte{0x4e}, long[:14]...), FrameInfo{ID: FrameInfoImpersonate, Data: long[:14]}},
		"fifteen bytes":      {append([]byte{0x4f, 0}, long[:15]...), FrameInfo{ID: FrameInfoImpersonate, Data: long[:15]}},
		"twenty bytes":       {append([]byte{0x4f, 5}, long...), FrameInfo{ID: FrameInfoImpersonate, Data: long}},
		"id 14":              {[]byte{0xe0}, FrameInfo{ID: 14, Data: []byte{}}},
		"id 15":              {[]byte{0xf0, 0}, FrameInfo{ID: 15, Data: []byte{}}},
		"id 270":             {[]byte{0xf1, 0xff, 9}, FrameInfo{ID: MaxFrameInfoID, Data: []byte{9}}},
		"both, the id first": {append([]byte{0xff, 1, 2}, long[:17]...), FrameInfo{ID: 16, Data: long[:17]}},
	} {
		got, rest, err := NextFrameInfo(append(bytes.Clone(v.encoded), 0xaa))
		require.NoError(t, err, name)
		assert.Equal(t, v.want, got, name)
		assert.Equal(t, []byte{0xaa}, rest, name)
		assert.Equal(t, v.encoded, got.Append(nil), name)
		for n := range v.encoded {
			_, _, err := NextFrameInfo(v.encoded[:n])
			var framing *FramingError
			assert.ErrorAs(t, err, &framing, "%s, %d bytes", name, n)
		}
	}
}

func TestFrameInfosHaveTheSizeOfTheirID(t *testing.T) {
	for _, v := range []struct {
		id                uint16
		request, response []int // the good lengths up to 4; nil is all
	}{
		{FrameInfoBarrier, []int{0}, []int{2}},
		{FrameInfoDurability, []int{1, 3}, []int{2}},
		{FrameInfoStreamID, []int{2}, []int{2}},
		{3, nil, []int{2}},
		{FrameInfoImpersonate, []int{1, 2, 3, 4}, nil},
		{FrameInfoPreserveTTL, []int{0}, nil},
		{FrameInfoPrivilege, []int{1, 2, 3, 4}, nil},
		{FrameInfoAuthToken, []int{2}, nil},
		{8, nil, nil},
	} {
		for n := range 5 {
			b := FrameInfo{ID: v.id, Data: []byte{1, 1, 1, 1}[:n]}.Append([]byte{0x50}) // behind a good one
			for response, good := range map[bool][]int{false: v.request, true: v.response} {
				want := good == nil || bytes.Contains(lengths(good), []byte{byte(n)})
				err := CheckFrameInfos(b, response)
				if want {
					assert.NoError(t, err, "id %d of %d bytes, response %t", v.id, n, response)
					continue
				}
				var framing *FramingError
				require.ErrorAs(t, err, &framing, "id %d of %d bytes, response %t", v.id, n, response)
				assert.Equal(t, 1, framing.At)
				assert.ErrorContains(t, err, "at byte 1")
			}
		}
	}
	require.NoError(t, CheckFrameInfos(nil, false))
	assert.Error(t, CheckFrameInfos([]byte{0x50, 0x22, 1}, false))
}

func lengths(n []int) []byte {
	b := make([]byte, len(n))
	for i := range n {
		b[i] = byte(n[i])
	}
	return b
}

func TestDurability(t *testing.T) {
	for name, v := range map[string]struct {
		d    Durability
		info string
	}{
		"no timeout":     {Durability{Level: DurabilityMajority}, "\x11\x01"},
		"a second":       {Durability{Level: DurabilityPersistToMajority, Timeout: time.Second}, "\x13\x03\x03\xe8"},
		"the shortest":   {Durability{Level: DurabilityMajority, Timeout: time.Millisecond}, "\x13\x01\x00\x01"},
		"the longest":    {Durability{Level: DurabilityMajority, Timeout: 65534 * time.Millisecond}, "\x13\x01\xff\xfe"},
		"persist active": {Durability{Level: DurabilityMajorityAndPersist, Timeout: 256 * time.Millisecond}, "\x13\x02\x01\x00"},
	} {
		b := v.d.AppendInfo([]byte("x"))
		assert.Equal(t, "x"+v.info, string(b), name)
		got, err := ParseDurability(b[2:])
		require.NoError(t, err, name)
		assert.Equal(t, v.d, got, name)
	}
	assert.Equal(t, "\x13\x01\x00\x01", string(Durability{Level: 1, Timeout: time.Nanosecond}.AppendInfo(nil)), "rounded up")
	assert.Equal(t, "\x13\x01\xff\xfe", string(Durability{Level: 1, Timeout: time.Hour}.AppendInfo(nil)), "cut")
	for _, bad := range []string{"", "\x00", "\x04", "\x01\x00", "\x01\x00\x00", "\x01\xff\xff", "\x01\x00\x01\x00"} {
		_, err := ParseDurability([]byte(bad))
		var framing *FramingError
		assert.ErrorAs(t, err, &framing, "%x", bad)
	}
}

func TestFrameInfosThatDoNotFit(t *testing.T) {
	assert.Panics(t, func() { FrameInfo{ID: MaxFrameInfoID + 1}.Append(nil) })
	assert.Panics(t, func() { FrameInfo{Data: make([]byte, MaxFrameInfoLen+1)}.Append(nil) })
	longest := FrameInfo{ID: MaxFrameInfoID, Data: make([]byte, MaxFrameInfoLen)}
	got, _, err := NextFrameInfo(longest.Append(nil))
	require.NoError(t, err)
	assert.Equal(t, longest, got)
}

func TestCollectionIDsByHand(t *testing.T) {
	for id, want := range map[uint32]string{
		0: "\x00", 8: "\x08", 0x7f: "\x7f", 0x80: "\x80\x01", 0x3fff: "\xff\x7f", 0x4000: "\x80\x80\x01", 0xcafe: "\xfe\x95\x03",
		1<<21 - 1: "\xff\xff\x7f", 1 << 21: "\x80\x80\x80\x01", 1 << 28: "\x80\x80\x80\x80\x01", math.MaxUint32: "\xff\xff\xff\xff\x0f",
	} {
		b := AppendCollectionID([]byte("x"), id)
		assert.Equal(t, "x"+want, string(b), "%#x", id)
		got, rest, err := SplitCollection(append(b[1:], "key"...))
		require.NoError(t, err, "%#x", id)
		assert.Equal(t, id, got)
		assert.Equal(t, "key", string(rest))
		got, rest, err = SplitCollection([]byte(want))
		require.NoError(t, err, "a key may be empty")
		assert.Equal(t, id, got)
		assert.Empty(t, rest)
	}
}

func TestWhatIsNoCollectionID(t *testing.T) {
	for name, key := range map[string]string{
		"nothing":              "",
		"cut short":            "\x80",
		"cut short later":      "\xff\xff\xff\xff",
		"longer than need be":  "\x80\x00",
		"much longer":          "\x88\x80\x80\x80\x00",
		"over 32 bits":         "\xff\xff\xff\xff\x10",
		"over five bytes":      "\x80\x80\x80\x80\x80\x01",
		"over all shifts":      "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
		"without an end":       "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"all bits, five bytes": "\xff\xff\xff\xff\x7f",
	} {
		_, _, err := SplitCollection([]byte(key))
		assert.ErrorIs(t, err, ErrCollectionID, name)
	}
}

func TestDatatypesByName(t *testing.T) {
	for d, want := range map[Datatype]string{
		0: "raw", DatatypeJSON: "json", DatatypeSnappy | DatatypeXattr: "snappy|xattr", 0x81: "json|0x80", 0x08: "0x08", 0x07: "json|snappy|xattr",
	} {
		assert.Equal(t, want, d.String())
		assert.Equal(t, want, fmt.Sprint(d))
	}
}
