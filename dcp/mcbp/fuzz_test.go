package mcbp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime/metrics"
	"slices"
	"testing"
)

// FuzzParse feeds anything to the parser and, if it is a frame, to the accessors and decoders: nothing may panic or allocate
// more than the input is worth, and a frame is always the same as its parts and as what it means.
func FuzzParse(f *testing.F) {
	for _, frames := range recordedFrames(f) {
		for _, frame := range frames[:min(len(frames), 60)] {
			f.Add([]byte(frame))
		}
	}
	for _, frame := range allLayouts() {
		f.Add([]byte(frame))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		inBounds(t, len(data), func() { checkFrame(t, data) })
	})
}

func checkFrame(t *testing.T, data []byte) {
	t.Helper()
	frame, rest, err := Parse(data, 1<<20)
	if err != nil {
		var malformed *MalformedError
		if !errors.Is(err, ErrShortHeader) && !errors.As(err, &malformed) {
			t.Fatalf("an error of no kind: %v", err)
		}
		return
	}
	if len(frame)+len(rest) != len(data) {
		t.Fatalf("%d bytes became %d and %d", len(data), len(frame), len(rest))
	}
	if again := packetOf(frame).Frame(); !bytes.Equal(again, frame) {
		t.Fatalf("%x became %x", []byte(frame), []byte(again))
	}
	_ = frame.String()
	checkFrameInfos(t, frame.FramingExtras())
	checkDecoders(t, frame)
}

// checkDecoders holds a frame against its layout. What is accepted is the same frame after encoding, to the last byte.
func checkDecoders(t *testing.T, frame Frame) {
	t.Helper()
	known, err := CheckLayout(frame)
	if err != nil {
		var layout *LayoutError
		if !known || !errors.As(err, &layout) || !bytes.Equal(layout.Header[:], frame[:HeaderLen]) {
			t.Fatalf("known %t, an error of no kind: %v", known, err)
		}
		_ = err.Error()
	}
	again, ok, encodeErr := reencode(frame)
	if !ok {
		return
	}
	if (encodeErr == nil) != (err == nil) && known {
		t.Fatalf("%x: the check says %v, the decoder %v", []byte(frame), err, encodeErr)
	}
	if encodeErr == nil && !bytes.Equal(again, frame) {
		t.Fatalf("%x became %x", []byte(frame), []byte(again))
	}
}

func checkFrameInfos(t *testing.T, b []byte) {
	t.Helper()
	sound := true
	for rest := b; len(rest) > 0 && sound; {
		info, next, err := NextFrameInfo(rest)
		if sound = err == nil; !sound {
			break
		}
		if n := len(rest) - len(next); !bytes.Equal(info.Append(nil), rest[:n]) {
			t.Fatalf("%x became %x", rest[:n], info.Append(nil))
		}
		d, err := ParseDurability(info.Data)
		if err == nil && !bytes.Equal(d.AppendInfo(nil)[1:], info.Data) {
			t.Fatalf("%x became %x", info.Data, d.AppendInfo(nil)[1:])
		}
		rest = next
	}
	for _, response := range []bool{false, true} {
		if err := CheckFrameInfos(b, response); err == nil && !sound {
			t.Fatalf("%x is no list of frame infos, but the check says so", b)
		}
	}
}

// inBounds fails the test if do allocates far more than n bytes of input are worth: a length that a peer sent must not.
func inBounds(t *testing.T, n int, do func()) {
	t.Helper()
	before := allocatedBytes()
	do()
	if got, limit := allocatedBytes()-before, uint64(4<<20+64*n); got > limit {
		t.Fatalf("%d bytes of input allocated %d", n, got)
	}
}

// allocatedBytes counts large objects at once, small ones sooner or later.
func allocatedBytes() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// fuzzFamily fuzzes the frames of some opcodes. The lengths in their headers are right, so that what is looked at is what
// the layouts make of the parts.
func fuzzFamily(f *testing.F, magics []Magic, opcodes []Opcode, seeds []Frame) {
	f.Helper()
	for _, s := range seeds {
		op := slices.Index(opcodes, s.Opcode())
		if op < 0 || slices.Index(magics, s.Magic()) < 0 {
			f.Fatalf("a seed of another family: %v", s)
		}
		f.Add(byte(slices.Index(magics, s.Magic())), byte(op), byte(s.Datatype()), binary.BigEndian.Uint16(s[6:]),
			binary.BigEndian.Uint32(s[12:]), s.CAS(), s.FramingExtras(), s.Extras(), s.Key(), s.Value())
	}
	f.Fuzz(func(t *testing.T, magic, op, datatype byte, six uint16, opaque uint32, cas uint64, framing, extras, key, value []byte) {
		p := &Packet{
			Magic: magics[int(magic)%len(magics)], Opcode: opcodes[int(op)%len(opcodes)], Datatype: Datatype(datatype),
			Opaque: OpaqueFromUint32(opaque), CAS: cas, Extras: cut(extras, 255), Key: cut(key, 255), Value: value,
		}
		if p.Magic.hasFraming() {
			p.FramingExtras = cut(framing, 255)
		}
		if p.Magic.IsResponse() {
			p.Status = Status(six)
		} else {
			p.VBucket = six
		}
		frame := p.Frame()
		inBounds(t, len(frame), func() { checkFrame(t, frame) })
	})
}

func cut(b []byte, n int) []byte { return b[:min(len(b), n)] }

// seedsOf are the frames of allLayouts and the recorded ones with one of these magics and opcodes; and each of the former
// that is a request once more with a stream id.
func seedsOf(f *testing.F, magics []Magic, opcodes []Opcode) []Frame {
	f.Helper()
	var seeds []Frame
	add := func(frame Frame) {
		if slices.Contains(magics, frame.Magic()) && slices.Contains(opcodes, frame.Opcode()) {
			seeds = append(seeds, frame)
		}
	}
	for _, frame := range allLayouts() {
		add(frame)
		add(rebuilt(frame, func(p *Packet) { p.Magic, p.FramingExtras = framed(p.Magic), []byte{0x22, 0, 1} }))
	}
	for _, p := range commands() {
		add(p.Frame())
	}
	seen := map[string]bool{}
	for _, frames := range recordedFrames(f) {
		for _, frame := range frames {
			if shape := string(frame[:6]) + string(frame[8:12]); !seen[shape] {
				seen[shape] = true
				add(frame)
			}
		}
	}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	return seeds
}

// FuzzStreamMessages: what producers and consumers say within a stream.
func FuzzStreamMessages(f *testing.F) {
	magics := []Magic{MagicRequest, MagicFramingRequest}
	opcodes := []Opcode{
		OpDCPStreamEnd, OpDCPSnapshotMarker, OpDCPMutation, OpDCPDeletion, OpDCPExpiration, OpDCPSetVBucketState, OpDCPSystemEvent,
		OpDCPPrepare, OpDCPSeqnoAcknowledged, OpDCPCommit, OpDCPAbort, OpDCPSeqnoAdvanced, OpDCPOSOSnapshot, OpDCPCacheTransfer,
		OpDCPCacheTransferEnd,
	}
	fuzzFamily(f, magics, opcodes, seedsOf(f, magics, opcodes))
}

// FuzzConnectionMessages: what opens connections and streams, and keeps them going.
func FuzzConnectionMessages(f *testing.F) {
	magics := []Magic{MagicRequest, MagicFramingRequest, MagicServerRequest}
	opcodes := []Opcode{
		OpDCPOpen, OpDCPAddStream, OpDCPCloseStream, OpDCPStreamReq, OpDCPGetFailoverLog, OpDCPNoop, OpDCPBufferAck, OpDCPControl,
		OpDCPFlush, OpGetFailoverLog,
	}
	fuzzFamily(f, magics, opcodes, seedsOf(f, magics, opcodes))
}

// FuzzAnswers: the answers of DCP and of commands.
func FuzzAnswers(f *testing.F) {
	magics := []Magic{MagicResponse, MagicFramingResponse, MagicServerResponse}
	fuzzFamily(f, magics, everyOpcode(), seedsOf(f, magics, everyOpcode()))
}

// FuzzCommands: what managers and clients ask outside of DCP.
func FuzzCommands(f *testing.F) {
	magics := []Magic{MagicRequest, MagicFramingRequest}
	var opcodes []Opcode
	for op := range commandRules {
		opcodes = append(opcodes, op)
	}
	slices.Sort(opcodes)
	fuzzFamily(f, magics, opcodes, seedsOf(f, magics, opcodes))
}

func everyOpcode() []Opcode {
	all := make([]Opcode, 256)
	for i := range all {
		all[i] = Opcode(i)
	}
	return all
}

// FuzzParts: what is coded inside the parts of a frame.
func FuzzParts(f *testing.F) {
	f.Add([]byte{0x22, 0, 1, 0x13, 1, 0, 9, 0x4f, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0xf0, 7})
	f.Add([]byte("\xff\xff\xff\xff\x0fkey"))
	f.Add(cacheRecords())
	f.Add(AppendFailoverLog(nil, []FailoverEntry{{1, 2}, {3, 4}}))
	f.Add(AppendVBSeqnos(nil, []VBSeqno{{1, 2}, {3, 4}}))
	f.Add(AppendFeatures(nil, []Feature{FeatureXattr, FeatureJSON}))
	f.Fuzz(func(t *testing.T, data []byte) {
		inBounds(t, len(data), func() { checkParts(t, data) })
	})
}

func checkParts(t *testing.T, data []byte) {
	t.Helper()
	same := func(what string, got, want []byte) {
		if !bytes.Equal(got, want) {
			t.Fatalf("%s: %x became %x", what, want, got)
		}
	}
	checkFrameInfos(t, data)
	if id, rest, err := SplitCollection(data); err == nil {
		same("collection", append(AppendCollectionID(nil, id), rest...), data)
	}
	if log, err := ParseFailoverLog(data); err == nil {
		same("failover log", AppendFailoverLog(nil, log), data)
	}
	if seqnos, err := ParseVBSeqnos(data); err == nil {
		same("seqnos", AppendVBSeqnos(nil, seqnos), data)
	}
	if features, err := ParseFeatures(data); err == nil {
		same("features", AppendFeatures(nil, features), data)
	}
	for rest := data; len(rest) > 0; {
		r, next, err := NextCacheRecord(rest)
		if err != nil {
			break
		}
		same("cache record", r.Append(nil), rest[:len(rest)-len(next)])
		rest = next
	}
}
