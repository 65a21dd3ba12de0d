package dcp

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
)

// Design 5.2: what we act upon has to be laid out as the protocol demands; anything else crashes the connection, and the
// reason shows the header.
func TestFramesThatAreActedUponAreReadStrictly(t *testing.T) {
	end := func(change func(*mcbp.Packet)) *mcbp.Packet {
		p := &mcbp.Packet{Opcode: mcbp.OpDCPStreamEnd, VBucket: 3, Opaque: streamOpaque(1), Extras: []byte{0, 0, 0, 2}}
		change(p)
		return p
	}
	state := func(change func(*mcbp.Packet)) *mcbp.Packet {
		p := &mcbp.Packet{Opcode: mcbp.OpDCPSetVBucketState, VBucket: 3, Opaque: streamOpaque(1), Extras: []byte{3}}
		change(p)
		return p
	}
	for name, bad := range map[string]*mcbp.Packet{
		"an end of three bytes":       end(func(p *mcbp.Packet) { p.Extras = p.Extras[1:] }),
		"an end of five bytes":        end(func(p *mcbp.Packet) { p.Extras = append(p.Extras, 0) }),
		"an end with a key":           end(func(p *mcbp.Packet) { p.Key = []byte("key") }),
		"an end with a value":         end(func(p *mcbp.Packet) { p.Value = []byte("value") }),
		"an end with a CAS":           end(func(p *mcbp.Packet) { p.CAS = 1 }),
		"an end marked as compressed": end(func(p *mcbp.Packet) { p.Datatype = mcbp.DatatypeSnappy }),
		"no state":                    state(func(p *mcbp.Packet) { p.Extras = nil }),
		"two states":                  state(func(p *mcbp.Packet) { p.Extras = []byte{3, 1} }),
		"a state that is none":        state(func(p *mcbp.Packet) { p.Extras = []byte{0} }),
		"a state after the last":      state(func(p *mcbp.Packet) { p.Extras = []byte{5} }),
		"a state with a key":          state(func(p *mcbp.Packet) { p.Key = []byte("key") }),
		"a state with plain text":     state(func(p *mcbp.Packet) { p.Value = []byte("text") }),
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			id := s.call(opTakeover, 3)
			s.streamReq(3, 1)
			s.reqAnswer(1, mcbp.StatusSuccess)
			assert.Equal(t, relay.Drop, s.frame(relay.Producer, bad))
			var crash *MalformedFrame
			require.ErrorAs(t, s.crash, &crash)
			assert.Equal(t, RoleProducer, crash.Role)
			assert.Equal(t, []byte(bad.Frame()[:mcbp.HeaderLen]), crash.Header[:])
			assert.ErrorContains(t, s.crash, hex.EncodeToString(crash.Header[:]))
			assert.ErrorContains(t, s.crash, bad.Opcode.String())
			assert.NotContains(t, s.crash.Error(), "text")
			s.unanswered(id)
		})
	}
}

// Answers too: a status in a frame that is no answer of its kind would be believed otherwise.
func TestAnswersThatAreActedUponAreReadStrictly(t *testing.T) {
	opaque := func(s *script, op mcbp.Opcode) mcbp.Opaque { return s.last(relay.Consumer, op, 3).Opaque() }
	add := func(s *script) *mcbp.Packet {
		s.call(opAdd, 3)
		return &mcbp.Packet{Opcode: mcbp.OpDCPAddStream, Opaque: opaque(s, mcbp.OpDCPAddStream), Extras: []byte{0, 0, 0, 1}}
	}
	closing := func(s *script) *mcbp.Packet {
		s.live(3, 1)
		s.call(opClose, 3)
		return &mcbp.Packet{Opcode: mcbp.OpDCPCloseStream, Opaque: opaque(s, mcbp.OpDCPCloseStream)}
	}
	state := func(s *script) *mcbp.Packet {
		s.call(opTakeover, 3)
		s.streamReq(3, 1)
		s.reqAnswer(1, mcbp.StatusSuccess)
		s.addAnswer(3, mcbp.StatusSuccess)
		s.frame(relay.Producer, &mcbp.Packet{Opcode: mcbp.OpDCPSetVBucketState, VBucket: 3, Opaque: streamOpaque(1), Extras: []byte{1}})
		return &mcbp.Packet{Opcode: mcbp.OpDCPSetVBucketState, Opaque: streamOpaque(1)}
	}
	both := []relay.Side{relay.Consumer, relay.Producer}
	for name, c := range map[string]struct {
		of     func(*script) *mcbp.Packet
		sides  []relay.Side
		change func(*mcbp.Packet)
	}{
		"an add that names no stream":      {add, both[:1], func(p *mcbp.Packet) { p.Extras = nil }},
		"an add with a short opaque":       {add, both[:1], func(p *mcbp.Packet) { p.Extras = p.Extras[1:] }},
		"an add with a long opaque":        {add, both[:1], func(p *mcbp.Packet) { p.Extras = append(p.Extras, 0) }},
		"an add with a key":                {add, both[:1], func(p *mcbp.Packet) { p.Key = []byte("key") }},
		"an add that explains itself":      {add, both[:1], func(p *mcbp.Packet) { p.Value = []byte("text") }},
		"an add with a CAS":                {add, both[:1], func(p *mcbp.Packet) { p.CAS = 1 }},
		"an add of no datatype":            {add, both[:1], func(p *mcbp.Packet) { p.Datatype = mcbp.DatatypeJSON }},
		"a refused add with extras":        {add, both[:1], func(p *mcbp.Packet) { p.Status, p.Extras = mcbp.StatusNotMyVBucket, make([]byte, 8) }},
		"a refused add with a key":         {add, both[:1], func(p *mcbp.Packet) { p.Status, p.Key = mcbp.StatusNotMyVBucket, []byte("key") }},
		"a close with extras":              {closing, both, func(p *mcbp.Packet) { p.Extras = make([]byte, 4) }},
		"a close with a key":               {closing, both, func(p *mcbp.Packet) { p.Key = []byte("key") }},
		"a close that explains itself":     {closing, both, func(p *mcbp.Packet) { p.Value = []byte("text") }},
		"a missing stream with extras":     {closing, both, func(p *mcbp.Packet) { p.Status, p.Extras = mcbp.StatusStreamNotFound, []byte{1} }},
		"an active with extras":            {state, both[:1], func(p *mcbp.Packet) { p.Extras = []byte{1} }},
		"an active with a key":             {state, both[:1], func(p *mcbp.Packet) { p.Key = []byte("key") }},
		"an active that explains itself":   {state, both[:1], func(p *mcbp.Packet) { p.Value = []byte("text") }},
		"an active that is compressed":     {state, both[:1], func(p *mcbp.Packet) { p.Datatype = mcbp.DatatypeSnappy }},
		"a refused active with more":       {state, both[:1], func(p *mcbp.Packet) { p.Status, p.Extras = mcbp.StatusBusy, []byte{1} }},
		"an add of nobody, without extras": {func(s *script) *mcbp.Packet { p := add(s); p.Opaque = mcbp.Opaque{1}; return p }, both[:1], func(p *mcbp.Packet) { p.Extras = nil }},
	} {
		for _, side := range c.sides {
			t.Run(name+" from the "+roleOf(side), func(t *testing.T) {
				s := newScript(t)
				bad := c.of(s)
				bad.Magic = mcbp.MagicResponse
				c.change(bad)
				require.NoError(t, s.crash)
				assert.Equal(t, relay.Drop, s.frame(side, bad))
				var crash *MalformedFrame
				require.ErrorAs(t, s.crash, &crash)
				assert.Equal(t, roleOf(side), crash.Role)
				assert.Equal(t, []byte(bad.Frame()[:mcbp.HeaderLen]), crash.Header[:])
				assert.ErrorContains(t, s.crash, hex.EncodeToString(crash.Header[:]))
				assert.ErrorContains(t, s.crash, bad.Opcode.String())
				assert.NotContains(t, s.crash.Error(), "text")
				s.unanswered(s.calls)
			})
		}
	}
}

// What real engines were seen to send, and may send: a refusal may name the stream or not, and explain itself.
func TestRefusalsMaySayMore(t *testing.T) {
	for _, extras := range [][]byte{nil, {0, 0, 0, 1}} {
		for _, text := range []string{"", `{"error":{"context":"why"}}`} {
			s := newScript(t)
			id := s.call(opAdd, 3)
			p := &mcbp.Packet{
				Magic: mcbp.MagicResponse, Opcode: mcbp.OpDCPAddStream, Opaque: s.last(relay.Consumer, mcbp.OpDCPAddStream, 3).Opaque(),
				Status: mcbp.StatusNotMyVBucket, Extras: extras, Value: []byte(text),
			}
			if text != "" {
				p.Datatype = mcbp.DatatypeJSON
			}
			s.frame(relay.Consumer, p)
			require.NoError(t, s.crash)
			assert.ErrorIs(t, s.answers[id][3], mcbp.StatusNotMyVBucket)
		}
	}
}
