package integration

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// handshakes watches what is agreed on with one node, and may take Snappy out of what it grants.
type handshakes struct {
	refuse bool          // Snappy
	hold   chan struct{} // DCP_OPEN is answered when it is closed; nil: at once

	mu    sync.Mutex
	asked [][]mcbp.Feature // by each DCP connection
}

func (h *handshakes) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &shaken{Conn: conn, of: h}, nil
}

// asks are the features that the DCP connections so far have asked for.
func (h *handshakes) asks() [][]mcbp.Feature {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([][]mcbp.Feature(nil), h.asked...)
}

// shaken is a connection whose answers pass one frame at a time, until it has been opened.
type shaken struct {
	net.Conn
	of     *handshakes
	ready  []byte
	opened bool
}

func (s *shaken) Write(b []byte) (int, error) {
	if f := mcbp.Frame(b); !s.opened && f.Opcode() == mcbp.OpHello && len(f.Key()) > 0 && string(f.Key()[:min(15, f.KeyLen())]) == "shearpin:proxy-" {
		var features []mcbp.Feature
		for v := f.Value(); len(v) >= 2; v = v[2:] {
			features = append(features, mcbp.Feature(binary.BigEndian.Uint16(v)))
		}
		s.of.mu.Lock()
		s.of.asked = append(s.of.asked, features)
		s.of.mu.Unlock()
	}
	return s.Conn.Write(b)
}

func (s *shaken) Read(b []byte) (int, error) {
	if len(s.ready) == 0 {
		if s.opened {
			return s.Conn.Read(b)
		}
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(b, s.ready)
	s.ready = s.ready[n:]
	return n, nil
}

func (s *shaken) next() error {
	header := make(mcbp.Frame, mcbp.HeaderLen)
	if _, err := io.ReadFull(s.Conn, header); err != nil {
		return err
	}
	f := make(mcbp.Frame, mcbp.HeaderLen+int(header.BodyLen()))
	copy(f, header)
	if _, err := io.ReadFull(s.Conn, f[mcbp.HeaderLen:]); err != nil {
		return err
	}
	switch {
	case f.Opcode() == mcbp.OpHello && s.of.refuse:
		for v := f.Value(); len(v) >= 2; v = v[2:] {
			if mcbp.Feature(binary.BigEndian.Uint16(v)) == mcbp.FeatureSnappy {
				binary.BigEndian.PutUint16(v, uint16(mcbp.FeatureJSON)) // once more: it is a set
			}
		}
	case f.Opcode() == mcbp.OpDCPOpen:
		if s.of.hold != nil {
			<-s.of.hold
		}
		s.opened = true
	}
	s.ready = f
	return nil
}

var (
	withSnappy    = []mcbp.Feature{mcbp.FeatureXattr, mcbp.FeatureCollections, mcbp.FeatureSnappy, mcbp.FeatureJSON}
	withoutSnappy = []mcbp.Feature{mcbp.FeatureXattr, mcbp.FeatureCollections, mcbp.FeatureJSON}
)

// openLog is a log that tells when the producer's end of a link is open in the manager's own eyes.
type openLog struct {
	slog.Handler
	once *sync.Once
	open chan struct{}
}

func newOpenLog() openLog { return openLog{slog.DiscardHandler, new(sync.Once), make(chan struct{})} }

func (openLog) Enabled(context.Context, slog.Level) bool { return true }
func (l openLog) WithAttrs([]slog.Attr) slog.Handler     { return l }
func (l openLog) WithGroup(string) slog.Handler          { return l }

func (l openLog) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if r.Message == "connection_open" && a.Key == "role" && a.Value.String() == dcp.RoleProducer {
			l.once.Do(func() { close(l.open) })
		}
		return true
	})
	return nil
}

// If the producer's end was open first, the link begins anew, once, and says why.
func TestTwoEndsThatAgreedOnDifferentFeaturesAreNotJoined(t *testing.T) {
	log := newOpenLog()
	p := newPair(t, healthy, dcp.Limits{}, func(p *pair) { p.tune = func(o *dcp.Options) { o.Log = slog.New(log) } })
	c, d := new(handshakes), new(handshakes)
	c.refuse, c.hold = true, log.open
	p.dialBy(consumer, c.dial)
	p.dialBy(producer, d.dial)
	_ = p.apply(1, 2) // may be told of the crash, or come after it
	p.eventually("the crash is published", func() bool { return len(p.crashes()) > 0 })
	var mismatch *dcp.FeatureMismatch
	require.ErrorAs(t, p.crashes()[0].Reason, &mismatch)
	assert.Equal(t, dcp.FeatureMismatch{Feature: mcbp.FeatureSnappy, Producer: producer, Consumer: consumer}, *mismatch)
	require.NoError(t, p.apply(1, 2))
	p.write(1, 10)
	p.requireReplicated(1)
	assert.Len(t, p.crashes(), 1)
	assert.Equal(t, [][]mcbp.Feature{withSnappy, withoutSnappy}, d.asks())
}
