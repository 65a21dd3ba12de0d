package kvnode

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

func TestReaderCutsFrames(t *testing.T) {
	small := (&mcbp.Packet{Opcode: mcbp.OpNoop}).Frame()
	large := (&mcbp.Packet{Opcode: mcbp.OpSet, Value: bytes.Repeat([]byte("v"), 5*readBufferSize)}).Frame()
	stream := bytes.Join([][]byte{small, large, small, small}, nil)
	for name, in := range map[string]io.Reader{
		"at once":      bytes.NewReader(stream),
		"byte by byte": iotest.OneByteReader(bytes.NewReader(stream)),
		"halves":       iotest.HalfReader(bytes.NewReader(stream)),
	} {
		r := newFrameReader(in)
		var got []byte
		for {
			f, ok, err := r.next(maxBody)
			require.NoError(t, err, name)
			if ok {
				got = append(got, f...)
				continue
			}
			if err := r.fill(); err != nil {
				require.ErrorIs(t, err, io.EOF, name)
				break
			}
		}
		assert.True(t, bytes.Equal(stream, got), name)
		assert.LessOrEqual(t, len(r.buf), 16*readBufferSize, name)
	}
}

func TestReaderDoesNotGrowOnTheWordOfAHeader(t *testing.T) {
	f := (&mcbp.Packet{Opcode: mcbp.OpSet, Value: make([]byte, maxBody)}).Frame()
	r := newFrameReader(bytes.NewReader(f[:mcbp.HeaderLen]))
	_, ok, err := r.next(maxBody)
	require.NoError(t, err)
	require.False(t, ok)
	require.NoError(t, r.fill())
	_, ok, err = r.next(maxBody)
	require.NoError(t, err)
	require.False(t, ok)
	assert.Len(t, r.buf, readBufferSize)
}

func TestReaderGivesALargeBufferBack(t *testing.T) {
	large := (&mcbp.Packet{Opcode: mcbp.OpSet, Value: make([]byte, 2*readBufferKeep)}).Frame()
	r := newFrameReader(bytes.NewReader(append(large, (&mcbp.Packet{Opcode: mcbp.OpNoop}).Frame()...)))
	for frames := 0; frames < 2; {
		_, ok, err := r.next(maxBody)
		require.NoError(t, err)
		if ok {
			frames++
		} else if err := r.fill(); err != nil {
			require.ErrorIs(t, err, io.EOF)
		}
	}
	_ = r.fill()
	assert.Len(t, r.buf, readBufferSize)
}

// gate is a writer that stands still until told to go on.
type gate struct {
	started, release chan struct{}
	written          bytes.Buffer
	err              error
}

func newGate() *gate {
	return &gate{started: make(chan struct{}, 10), release: make(chan struct{}, 10)}
}

func (g *gate) Write(b []byte) (int, error) {
	g.started <- struct{}{}
	<-g.release
	if g.err != nil {
		return 0, g.err
	}
	return g.written.Write(b)
}

func TestOutboxGathersWhileItWrites(t *testing.T) {
	o, w := newOutbox(), newGate()
	o.append([]byte("a"))
	done := make(chan error)
	go func() { done <- o.flush(w) }()
	<-w.started
	o.append([]byte("b"))
	o.append([]byte("c"))
	require.NoError(t, o.flush(w), "somebody else is writing")
	w.release <- struct{}{}
	<-w.started
	assert.Equal(t, "a", w.written.String())
	w.release <- struct{}{}
	require.NoError(t, <-done)
	assert.Equal(t, "abc", w.written.String())
	assert.Zero(t, o.len())
}

func TestOutboxFailureLetsEverybodyGo(t *testing.T) {
	o, w := newOutbox(), newGate()
	w.err = errors.New("broken")
	o.append(make([]byte, 100))
	waited := make(chan struct{})
	go func() { o.waitBelow(10); close(waited) }()
	w.release <- struct{}{}
	require.ErrorIs(t, o.flush(w), w.err)
	<-waited
	o.append([]byte("x"))
	assert.Zero(t, o.len(), "nothing is kept for a broken socket")
}

func TestOutboxWaitEndsWhenItIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, w := newOutbox(), newGate()
		o.append(make([]byte, 100))
		waited := make(chan struct{})
		go func() { o.waitBelow(10); close(waited) }()
		synctest.Wait()
		select {
		case <-waited:
			assert.Fail(t, "nothing has been written")
		default:
		}
		w.release <- struct{}{}
		require.NoError(t, o.flush(w))
		<-waited
	})
}

func TestSnappy(t *testing.T) {
	run := append([]byte{0x0c}, 0x08, 'a', 'b', 'c', 0x01|5<<2, 3) // abc, then nine bytes from three back
	for name, c := range map[string]struct {
		in   []byte
		want string
		ok   bool
	}{
		"empty":                    {[]byte{0}, "", true},
		"literal":                  {[]byte{5, 4 << 2, 'h', 'e', 'l', 'l', 'o'}, "hello", true},
		"literal with a length":    {append([]byte{61, 60 << 2, 60}, bytes.Repeat([]byte("x"), 61)...), string(bytes.Repeat([]byte("x"), 61)), true},
		"overlapping copy":         {run, "abcabcabcabc", true},
		"copy with two bytes":      {[]byte{6, 0x08, 'a', 'b', 'c', 2 | 2<<2, 3, 0}, "abcabc", true},
		"copy with four bytes":     {[]byte{6, 0x08, 'a', 'b', 'c', 3 | 2<<2, 3, 0, 0, 0}, "abcabc", true},
		"no length":                {nil, "", false},
		"too long":                 {[]byte{0xff, 0xff, 0xff, 0x7f}, "", false},
		"shorter than it says":     {[]byte{5, 1 << 2, 'h', 'e'}, "", false},
		"longer than it says":      {[]byte{1, 1 << 2, 'h', 'e'}, "", false},
		"literal cut off":          {[]byte{5, 4 << 2, 'h'}, "", false},
		"literal length cut off":   {[]byte{5, 60 << 2}, "", false},
		"copy from before":         {[]byte{6, 0x08, 'a', 'b', 'c', 2 | 2<<2, 4, 0}, "", false},
		"copy from nowhere":        {[]byte{6, 0x08, 'a', 'b', 'c', 2 | 2<<2, 0, 0}, "", false},
		"copy of one byte cut off": {[]byte{6, 0x08, 'a', 'b', 'c', 1}, "", false},
		"copy of two cut off":      {[]byte{6, 0x08, 'a', 'b', 'c', 2 | 2<<2, 3}, "", false},
		"copy of four cut off":     {[]byte{6, 0x08, 'a', 'b', 'c', 3 | 2<<2, 3, 0, 0}, "", false},
		"a huge literal":           {[]byte{5, 63 << 2, 0xff, 0xff, 0xff, 0xff}, "", false},
	} {
		got, err := snappyDecode(c.in, 1<<20)
		assert.Equal(t, c.ok, err == nil, "%s: %v", name, err)
		assert.Equal(t, c.want, string(got), name)
	}
}

func FuzzSnappy(f *testing.F) {
	f.Add([]byte{12, 0x08, 'a', 'b', 'c', 0x01 | 5<<2, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		if out, err := snappyDecode(data, 1<<16); err == nil && len(out) > 1<<16 {
			t.Fatalf("%d bytes", len(out))
		}
	})
}

func TestNegotiationAsksOneThingAtATime(t *testing.T) {
	var n negotiation
	var counter byte
	next := func() mcbp.Opaque { counter++; return mcbp.Opaque{counter} }
	require.Empty(t, n.next(next), "silent until it is started")
	require.False(t, n.finished())

	n.start(Version80, "b", 1000)
	var asked []string
	for group := n.next(next); group != nil; group = n.next(next) {
		require.Len(t, group, 1)
		require.Empty(t, n.next(next), "one at a time")
		require.False(t, n.finishedOnce)
		f := group[0]
		require.False(t, n.answered(mcbp.Opaque{0xee}, mcbp.StatusSuccess), "an answer to somebody else")
		status := mcbp.StatusSuccess
		if string(f.Value()) == "0.100000" {
			status = mcbp.StatusInvalid
		}
		asked = append(asked, string(f.Key())+"="+string(f.Value()))
		require.True(t, n.answered(f.Opaque(), status))
	}
	assert.Equal(t, "=\x00\x00", asked[0])
	assert.Equal(t, []string{"enable_noop=true", "set_noop_interval=0.100000", "set_noop_interval=1", "set_priority=high"}, asked[1:5])
	assert.Equal(t, "connection_buffer_size=1000", asked[len(asked)-1])
	assert.Contains(t, asked, "enable_sync_writes=true")
	assert.True(t, n.finished())
	assert.True(t, n.v7Status)
	assert.True(t, n.noop)
	assert.EqualValues(t, 1000, n.buffer)

	n.resize(2000)
	again := n.next(next)
	require.Len(t, again, 1)
	assert.True(t, n.finishedOnce, "streams may be requested meanwhile")
	assert.False(t, n.finished())
	n.answered(again[0].Opaque(), mcbp.StatusInvalid)
	assert.EqualValues(t, 1000, n.buffer, "the producer still counts by the old one")
	n.resize(3000)
	n.resize(4000)
	n.answered(n.next(next)[0].Opaque(), mcbp.StatusSuccess)
	assert.EqualValues(t, 3000, n.buffer)
	assert.False(t, n.finished())
	assert.True(t, n.finishedOnce)
}

func TestNegotiationOfAConsumerWithoutAName(t *testing.T) {
	var n negotiation
	n.start(Version80, "", 1000)
	for _, group := range n.rest {
		for _, s := range group {
			assert.NotContains(t, []string{"enable_sync_writes", "consumer_name"}, s.key)
		}
	}
}

func TestBucketConfig(t *testing.T) {
	s, ok := parseBucketConfig("max_size=1000;max_vbuckets=64;data_traffic_enabled=false;dbname=/x;")
	require.True(t, ok)
	assert.Equal(t, bucketSettings{vbuckets: 64, quota: 1000}, s)
	s, ok = parseBucketConfig("")
	require.True(t, ok)
	assert.Equal(t, bucketSettings{vbuckets: defaultVBuckets, quota: defaultQuota, traffic: true}, s)
	for _, bad := range []string{"max_size", "max_size=x", "max_vbuckets=1.5", "data_traffic_enabled=perhaps"} {
		_, ok = parseBucketConfig(bad)
		assert.False(t, ok, bad)
	}
}

func TestDurabilityIsFoundAmongFramingExtras(t *testing.T) {
	for name, c := range map[string]struct {
		frames []byte
		level  mcbp.DurabilityLevel
		status mcbp.Status
	}{
		"none":                     {nil, 0, mcbp.StatusSuccess},
		"durability":               {[]byte{0x11, 1}, 1, mcbp.StatusSuccess},
		"behind a stream id":       {[]byte{0x22, 0, 1, 0x13, 3, 0, 9}, 3, mcbp.StatusSuccess},
		"only a stream id":         {[]byte{0x22, 0, 1}, 0, mcbp.StatusSuccess},
		"escaped id":               {[]byte{0xf1, 1, 1}, 0, mcbp.StatusSuccess},
		"escaped size, then it":    {append(append([]byte{0x4f, 1}, make([]byte, 16)...), 0x11, 1), 1, mcbp.StatusSuccess},
		"escape cut off":           {[]byte{0xff}, 0, mcbp.StatusInvalid},
		"payload cut off":          {[]byte{0x2f, 200, 1}, 0, mcbp.StatusInvalid},
		"barrier, then durability": {[]byte{0x00, 0x11, 2}, 2, mcbp.StatusSuccess},
		"no such level":            {[]byte{0x11, 4}, 0, mcbp.StatusDurabilityInvalidLevel},
		"a reserved timeout":       {[]byte{0x13, 1, 0xff, 0xff}, 0, mcbp.StatusDurabilityInvalidLevel},
		"of two bytes":             {[]byte{0x12, 1, 1}, 0, mcbp.StatusInvalid},
	} {
		d, status := durabilityIn(c.frames)
		assert.Equal(t, c.status, status, name)
		if c.level == 0 {
			assert.Nil(t, d, name)
		} else if assert.NotNil(t, d, name) {
			assert.Equal(t, c.level, d.Level, name)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := Start(Options{})
	require.ErrorContains(t, err, "name")
	_, err = Start(Options{Name: "n", IdleTimeout: -1})
	require.ErrorContains(t, err, "timeout")
	_, err = Start(Options{Name: "n", Addr: "256.0.0.1:1"})
	require.Error(t, err)
}
