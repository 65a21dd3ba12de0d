package integration

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// garbler is an engine that once, when it is armed and asked for a stream of a vbucket, says something else first.
type garbler struct {
	vb    uint16
	role  kvnode.Role
	frame mcbp.Frame
	armed atomic.Bool
}

func (g *garbler) Received(c kvnode.Connection, vb uint16, f mcbp.Frame) kvnode.Action {
	asked := f.Opcode() == mcbp.OpDCPAddStream || f.Opcode() == mcbp.OpDCPStreamReq
	if vb != g.vb || c.Role != g.role || f.IsResponse() || !asked || !g.armed.CompareAndSwap(true, false) {
		return kvnode.Action{}
	}
	return kvnode.Action{Send: []mcbp.Frame{g.frame}}
}

func (*garbler) Sending(kvnode.Connection, uint16, mcbp.Frame) kvnode.Action { return kvnode.Action{} }

// A malformed frame crashes the connection that it came over, with a reason that shows its header. Nothing else notices: the
// links beside it, between the same two nodes and under traffic all the time, keep their incarnation and their streams.
func TestAMalformedFrameCrashesOneConnection(t *testing.T) {
	const (
		links  = 4
		struck = 1 // the link
		vb     = 13
	)
	changed := func(p *mcbp.Packet, change func(mcbp.Frame)) mcbp.Frame {
		f := p.Frame()
		change(f)
		return f
	}
	end := &mcbp.Packet{Opcode: mcbp.OpDCPStreamEnd, VBucket: 1, Opaque: mcbp.Opaque{1}, Extras: make([]byte, 4)}
	for name, v := range map[string]struct {
		role  kvnode.Role
		frame mcbp.Frame
	}{
		"a magic that is none, from the producer": {
			kvnode.RoleProducer, changed(end, func(f mcbp.Frame) { f[0] = 0x42 }),
		},
		"a magic that is none, from the consumer": {
			kvnode.RoleConsumer, changed(&mcbp.Packet{Opcode: mcbp.OpDCPControl, Key: []byte("k")}, func(f mcbp.Frame) { f[0] = 0 }),
		},
		"a body of 4 GiB": {
			kvnode.RoleProducer, changed(&mcbp.Packet{Opcode: mcbp.OpDCPMutation, Key: []byte("k")}, func(f mcbp.Frame) { copy(f[8:], "\xff\xff\xff\xff") }),
		},
		"a key longer than the body": {
			kvnode.RoleProducer, changed(end, func(f mcbp.Frame) { f[3] = 1 }),
		},
		"framing extras longer than the body": {
			kvnode.RoleProducer, changed(end, func(f mcbp.Frame) { f[0], f[2] = byte(mcbp.MagicFramingRequest), 1 }),
		},
		"an answer too long to be one": {
			kvnode.RoleConsumer, changed(&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: mcbp.OpDCPAddStream}, func(f mcbp.Frame) { f[8] = 1 }),
		},
		"an end of five bytes": {
			kvnode.RoleProducer, (&mcbp.Packet{Opcode: mcbp.OpDCPStreamEnd, VBucket: 1, Opaque: mcbp.Opaque{1}, Extras: make([]byte, 5)}).Frame(),
		},
		"an end with a key": {
			kvnode.RoleProducer, (&mcbp.Packet{Opcode: mcbp.OpDCPStreamEnd, VBucket: 9, Extras: make([]byte, 4), Key: []byte("key")}).Frame(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			bad := &garbler{vb: vb, role: v.role, frame: v.frame}
			p := newPair(t, healthy, dcp.Limits{}, func(p *pair) {
				p.hooks = bad
				p.tune = func(opts *dcp.Options) { opts.Connections = links }
			})
			before := make([]uint16, 12)
			for i := range before {
				before[i] = uint16(i)
			}
			require.NoError(t, p.apply(before...))
			neighbours := []uint16{0, 2, 3}
			traffic := p.traffic(neighbours...)

			bad.armed.Store(true)
			err := p.apply(vb)
			traffic.more(p, "after the crash")
			traffic.stop()
			for _, neighbour := range neighbours {
				p.requireReplicated(neighbour)
			}

			header := hex.EncodeToString(v.frame[:mcbp.HeaderLen])
			var crash *dcp.CrashError
			require.ErrorAs(t, err, &crash)
			var malformed *dcp.MalformedFrame
			if errors.As(err, &malformed) { // what the machine refuses, the consumer's process crashes with
				assert.Equal(t, v.role.String(), malformed.Role)
				assert.Equal(t, dcp.RoleConsumer, crash.Role)
			} else {
				assert.Equal(t, v.role.String(), crash.Role)
			}
			require.ErrorContains(t, err, "malformed frame")
			require.ErrorContains(t, err, header)
			p.eventually("the crash is published", func() bool { return len(p.crashes()) == 1 })
			published := p.crashes()[0]
			assert.Equal(t, struck, published.Conn)
			assert.ErrorContains(t, published.Reason, header)

			p.eventually("its streams come back", func() bool { return len(p.streams()) >= len(before) })
			require.NoError(t, p.apply(vb), "the fault is over")
			for _, link := range p.status().Links {
				want := uint64(1)
				if link.Conn == struck {
					want = 2
				}
				assert.Equal(t, want, link.Incarnation, "link %d", link.Conn)
			}
			for _, e := range p.exited() {
				assert.True(t, strings.HasSuffix(e.Supervisor, fmt.Sprintf("/%d", struck)), "%s of %s exited too", e.ID, e.Supervisor)
			}
			for _, at := range []uint16{0, 1, 2, 3, vb} {
				p.write(at, 5)
				p.requireReplicated(at)
			}
			assert.Len(t, p.crashes(), 1)
		})
	}
}

// traffic keeps writing to some vbuckets of the producer.
type traffic struct {
	t       *testing.T
	written atomic.Int64
	quit    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup
}

func (p *pair) traffic(vbs ...uint16) *traffic {
	tr := &traffic{t: p.t, quit: make(chan struct{})}
	tr.wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-tr.quit:
				return
			default:
			}
			vb := vbs[i%len(vbs)]
			if _, err := p.clients[producer].Set(p.ctx, vb, fmt.Sprintf("key-%d", i%100), []byte("value"), 0, 0, 0); err != nil {
				assert.NoError(p.t, err)
				return
			}
			tr.written.Add(1)
		}
	})
	p.t.Cleanup(tr.stop)
	return tr
}

// more waits until something has been written that had not been when it was called.
func (tr *traffic) more(p *pair, when string) {
	n := tr.written.Load()
	p.eventually("writes go on "+when, func() bool { return tr.written.Load() > n+1 })
}

func (tr *traffic) stop() {
	tr.once.Do(func() { close(tr.quit) })
	tr.wg.Wait()
}
