package mcbp

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// encoded is a decoded message's Append, whether it has a pointer receiver or not.
func encoded[M any, P interface {
	*M
	Append(b []byte) []byte
}](f Frame, parse func(Frame) (M, error),
) (Frame, error) {
	m, err := parse(f)
	if err != nil {
		return nil, err
	}
	return P(&m).Append(nil), nil
}

// requestDecoders and answerDecoders hold, for each DCP opcode, the way through its decoder and back.
var requestDecoders = map[Opcode]func(Frame) (Frame, error){
	OpDCPOpen:              func(f Frame) (Frame, error) { return encoded(f, ParseOpen) },
	OpDCPAddStream:         func(f Frame) (Frame, error) { return encoded(f, ParseAddStream) },
	OpDCPCloseStream:       func(f Frame) (Frame, error) { return encoded(f, ParseCloseStream) },
	OpDCPStreamReq:         func(f Frame) (Frame, error) { return encoded(f, ParseStreamRequest) },
	OpDCPGetFailoverLog:    func(f Frame) (Frame, error) { return encoded(f, ParseFailoverLogRequest) },
	OpDCPStreamEnd:         func(f Frame) (Frame, error) { return encoded(f, ParseStreamEnd) },
	OpDCPSnapshotMarker:    func(f Frame) (Frame, error) { return encoded(f, ParseSnapshotMarker) },
	OpDCPMutation:          func(f Frame) (Frame, error) { return encoded(f, ParseMutation) },
	OpDCPDeletion:          func(f Frame) (Frame, error) { return encoded(f, ParseDeletion) },
	OpDCPExpiration:        func(f Frame) (Frame, error) { return encoded(f, ParseDeletion) },
	OpDCPSetVBucketState:   func(f Frame) (Frame, error) { return encoded(f, ParseSetVBucketState) },
	OpDCPNoop:              func(f Frame) (Frame, error) { return encoded(f, ParseNoop) },
	OpDCPBufferAck:         func(f Frame) (Frame, error) { return encoded(f, ParseBufferAck) },
	OpDCPControl:           func(f Frame) (Frame, error) { return encoded(f, ParseControl) },
	OpDCPSystemEvent:       func(f Frame) (Frame, error) { return encoded(f, ParseSystemEvent) },
	OpDCPPrepare:           func(f Frame) (Frame, error) { return encoded(f, ParsePrepare) },
	OpDCPSeqnoAcknowledged: func(f Frame) (Frame, error) { return encoded(f, ParseSeqnoMessage) },
	OpDCPCommit:            func(f Frame) (Frame, error) { return encoded(f, ParseCompletion) },
	OpDCPAbort:             func(f Frame) (Frame, error) { return encoded(f, ParseCompletion) },
	OpDCPSeqnoAdvanced:     func(f Frame) (Frame, error) { return encoded(f, ParseSeqnoMessage) },
	OpDCPOSOSnapshot:       func(f Frame) (Frame, error) { return encoded(f, ParseOSOSnapshot) },
	OpDCPCacheTransfer:     func(f Frame) (Frame, error) { return encoded(f, ParseCacheTransfer) },
	OpDCPCacheTransferEnd:  func(f Frame) (Frame, error) { return encoded(f, ParseCacheTransferEnd) },
	OpGetFailoverLog:       func(f Frame) (Frame, error) { return encoded(f, ParseFailoverLogRequest) },
}

var answerDecoders = func() map[Opcode]func(Frame) (Frame, error) {
	all := map[Opcode]func(Frame) (Frame, error){
		OpDCPAddStream:      func(f Frame) (Frame, error) { return encoded(f, ParseAddStreamAnswer) },
		OpDCPStreamReq:      func(f Frame) (Frame, error) { return encoded(f, ParseStreamRequestAnswer) },
		OpDCPGetFailoverLog: func(f Frame) (Frame, error) { return encoded(f, ParseFailoverLogAnswer) },
		OpGetFailoverLog:    func(f Frame) (Frame, error) { return encoded(f, ParseFailoverLogAnswer) },
	}
	for op := OpDCPOpen; op <= OpDCPCacheTransferEnd; op++ {
		if _, more := all[op]; !more && op != OpDCPFlush {
			all[op] = func(f Frame) (Frame, error) { return encoded(f, ParseStatusAnswer) }
		}
	}
	return all
}()

// reencode decodes a DCP frame by its layout and encodes it again. ok is false if no layout belongs to the frame.
func reencode(f Frame) (again Frame, ok bool, err error) {
	decoders := requestDecoders
	if f.IsResponse() {
		decoders = answerDecoders
	}
	decode := decoders[f.Opcode()]
	if decode == nil {
		return nil, false, nil
	}
	again, err = decode(f)
	return again, true, err
}

// Every opcode of dcp-wire §6 but the obsolete one has a decoder in the direction in which it is sent, and one for its
// answer.
func TestEveryDCPFrameHasADecoder(t *testing.T) {
	for op := OpDCPOpen; op <= OpDCPCacheTransferEnd; op++ {
		for _, magic := range []Magic{MagicRequest, MagicResponse} {
			f := (&Packet{Magic: magic, Opcode: op}).Frame()
			_, decoded, _ := reencode(f)
			known, _ := CheckLayout(f)
			assert.Equal(t, op != OpDCPFlush, decoded, "%v", f)
			assert.Equal(t, op != OpDCPFlush, known, "%v", f)
		}
	}
}

// CheckLayout says about a DCP frame what its decoder says.
func TestCheckLayoutAgreesWithTheDecoders(t *testing.T) {
	for name, good := range allLayouts() {
		for _, f := range append(broken(good), good) {
			_, ok, want := reencode(f)
			require.True(t, ok, name)
			known, err := CheckLayout(f)
			assert.True(t, known, name)
			assert.Equal(t, want, err, name)
		}
	}
}

func TestNoDecoderTakesTheFramesOfAnother(t *testing.T) {
	decoders := []map[Opcode]func(Frame) (Frame, error){requestDecoders, answerDecoders}
	for name, f := range allLayouts() {
		own := 0
		for i, all := range decoders {
			for op, decode := range all {
				_, err := decode(f)
				if err == nil {
					own++
					sameKind := f.IsResponse() == (i == 1)
					assert.True(t, sameKind, "%s as a %v", name, op)
					continue
				}
				var layout *LayoutError
				assert.ErrorAs(t, err, &layout, "%s as a %v", name, op)
			}
		}
		assert.Positive(t, own, name)
	}
}

// Frames that a decoder has no business with: other magics, and framing extras where none are understood.
func TestDecodersRefuseOtherForms(t *testing.T) {
	inStream := []string{
		"close stream", "stream end", "marker v1", "marker v2.0", "marker v2.2", "mutation", "deletion v1", "deletion v2",
		"expiration", "set vbucket state", "system event", "scope drop", "flat system event", "prepare", "prepared deletion",
		"seqno acknowledged", "commit", "abort", "seqno advanced", "oso start", "cache transfer", "cache transfer end",
	}
	for name, f := range allLayouts() {
		for form, change := range map[string]func(*Packet){
			"server":               func(p *Packet) { p.Magic = MagicServerRequest + p.Magic&1 },
			"no framing extras":    func(p *Packet) { p.Magic = framed(p.Magic) },
			"a barrier":            func(p *Packet) { p.Magic, p.FramingExtras = framed(p.Magic), []byte{0x00} },
			"stream id 0":          func(p *Packet) { p.Magic, p.FramingExtras = framed(p.Magic), []byte{0x22, 0, 0} },
			"two stream ids":       func(p *Packet) { p.Magic, p.FramingExtras = framed(p.Magic), []byte{0x22, 0, 1, 0x22, 0, 1} },
			"a stream id cut off":  func(p *Packet) { p.Magic, p.FramingExtras = framed(p.Magic), []byte{0x22, 1} },
			"a durability instead": func(p *Packet) { p.Magic, p.FramingExtras = framed(p.Magic), []byte{0x12, 0, 1} },
		} {
			_, _, err := reencode(rebuilt(f, change))
			var layout *LayoutError
			assert.ErrorAs(t, err, &layout, "%s: %s", name, form)
		}
		withID := rebuilt(f, func(p *Packet) { p.Magic, p.FramingExtras = framed(p.Magic), []byte{0x22, 0x01, 0x02} })
		again, _, err := reencode(withID)
		if !slices.Contains(inStream, name) {
			assert.Error(t, err, name)
			continue
		}
		require.NoError(t, err, name)
		assert.Equal(t, []byte(withID), []byte(again), name)
	}
}

func framed(m Magic) Magic {
	if m.IsResponse() {
		return MagicFramingResponse
	}
	return MagicFramingRequest
}

// A decoder that drops a part of the header would let a relay, or a test, send on something else than it got.
func TestDecodersKeepOrRefuseTheWholeHeader(t *testing.T) {
	for name, f := range allLayouts() {
		for what, change := range map[string]func(*Packet){
			"cas":      func(p *Packet) { p.CAS = 0x0123456789abcdef },
			"json":     func(p *Packet) { p.Datatype ^= DatatypeJSON },
			"snappy":   func(p *Packet) { p.Datatype ^= DatatypeSnappy },
			"xattr":    func(p *Packet) { p.Datatype ^= DatatypeXattr },
			"no type":  func(p *Packet) { p.Datatype = 0x80 },
			"vbucket":  func(p *Packet) { p.VBucket ^= 0x0102 },
			"opaque":   func(p *Packet) { p.Opaque = Opaque{0xff, 0, 0, 0xff} },
			"unlikely": func(p *Packet) { p.Status = 0xbeef },
		} {
			changed := rebuilt(f, change)
			again, _, err := reencode(changed)
			if err != nil {
				var layout *LayoutError
				require.ErrorAs(t, err, &layout, "%s: %s", name, what)
				continue
			}
			assert.Equal(t, []byte(changed), []byte(again), "%s: %s", name, what)
		}
	}
}

// broken are frames like f that are not laid out as it is, each in one way. Some may still be good.
func broken(f Frame) []Frame {
	return []Frame{
		rebuilt(f, func(p *Packet) { p.Extras = append(p.Extras, 0) }),
		rebuilt(f, func(p *Packet) { p.Extras = nil }),
		rebuilt(f, func(p *Packet) { p.Key = append(p.Key, 'k') }),
		rebuilt(f, func(p *Packet) { p.Key = nil }),
		rebuilt(f, func(p *Packet) { p.Value = append(p.Value, 1) }),
		rebuilt(f, func(p *Packet) { p.Value = nil }),
		rebuilt(f, func(p *Packet) { p.Datatype = 0xff }),
		rebuilt(f, func(p *Packet) { p.CAS = 1 }),
	}
}

func TestStatusAnswersAreThoseOfDCP(t *testing.T) {
	for _, op := range []Opcode{OpGet, OpSelectBucket, OpDCPFlush, OpDCPAddStream, OpDCPStreamReq, OpDCPGetFailoverLog} {
		_, err := ParseStatusAnswer((&Packet{Magic: MagicResponse, Opcode: op}).Frame())
		var layout *LayoutError
		assert.ErrorAs(t, err, &layout, "%v", op)
	}
}

// The column "Ext" of dcp-wire §6.
func TestExtrasHaveTheLengthsOfTheWirePage(t *testing.T) {
	requests := map[Opcode][]int{
		OpDCPOpen: {8}, OpDCPAddStream: {4}, OpDCPCloseStream: {0}, OpDCPStreamReq: {48}, OpDCPGetFailoverLog: {0},
		OpDCPStreamEnd: {4}, OpDCPSnapshotMarker: {20, 1}, OpDCPMutation: {31}, OpDCPDeletion: {18, 21}, OpDCPExpiration: {20},
		OpDCPSetVBucketState: {1}, OpDCPNoop: {0}, OpDCPBufferAck: {4}, OpDCPControl: {0}, OpDCPSystemEvent: {13},
		OpDCPPrepare: {31}, OpDCPSeqnoAcknowledged: {8}, OpDCPCommit: {16}, OpDCPAbort: {16}, OpDCPSeqnoAdvanced: {8},
		OpDCPOSOSnapshot: {4}, OpDCPCacheTransfer: {0}, OpDCPCacheTransferEnd: {0}, OpGetFailoverLog: {0},
	}
	for op := range requestDecoders {
		for n := range 256 {
			f := (&Packet{Opcode: op, Extras: make([]byte, n)}).Frame()
			_, _, err := reencode(f)
			if slices.Contains(requests[op], n) {
				if err != nil {
					assert.NotContains(t, err.Error(), "extras are", "%v", f)
				}
				continue
			}
			assert.ErrorContains(t, err, "extras are", "%v", f)
		}
	}
	for op := range answerDecoders {
		for n := range 256 {
			f := (&Packet{Magic: MagicResponse, Opcode: op, Status: StatusInvalid, Extras: make([]byte, n)}).Frame()
			_, _, err := reencode(f)
			if n == 0 || n == 4 && op == OpDCPAddStream {
				assert.NoError(t, err, "%v", f)
				continue
			}
			assert.ErrorContains(t, err, "extras are", "%v", f)
		}
	}
}
