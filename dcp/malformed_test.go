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
