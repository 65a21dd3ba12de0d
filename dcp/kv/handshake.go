package kv

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// maxHandshakeBody is the longest body, in bytes, of an answer during the handshake. Those of the protocol have a few dozen.
const maxHandshakeBody = 64 << 10

// handshake is a connection that is being set up. Steps run one after another; each has the whole step timeout, so that a
// peer that accepts and stays silent, or trickles bytes, costs no more than one timeout for each step.
type handshake struct {
	ep     *Endpoint
	conn   net.Conn
	opaque uint32
}

// connect dials, encrypts, authenticates and negotiates, in the order that engines of all versions accept: SASL,
// SELECT_BUCKET (if bucket is not empty), HELLO. On an error nothing stays open.
func connect(ctx context.Context, ep *Endpoint, bucket string, hello hello) (*handshake, error) {
	h := &handshake{ep: ep}
	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{StepDial, h.dial},
		{StepTLS, h.encrypt},
		{StepSASL, h.authenticate},
		{StepSelectBucket, func(context.Context) error { return h.selectBucket(bucket) }},
		{StepHello, func(context.Context) error { return h.hello(hello) }},
	}
	for _, s := range steps {
		if err := h.step(ctx, s.name, s.run); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// step runs one step under its deadline. If it fails, the connection is closed.
func (h *handshake) step(ctx context.Context, name string, run func(context.Context) error) error {
	within, cancel := context.WithTimeout(ctx, h.ep.stepTimeout())
	defer cancel()
	stop := func() bool { return true }
	if conn := h.conn; conn != nil {
		stop = context.AfterFunc(within, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	}
	err := run(within)
	if !stop() && err == nil {
		err = within.Err() // the connection may have been spoilt just after the step's last byte
	}
	if err == nil {
		return nil
	}
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = context.DeadlineExceeded
	}
	if h.conn != nil {
		closeNow(h.conn)
	}
	return &ConnectError{Node: h.ep.Node, Addr: h.ep.Addr, Step: name, Err: err}
}

func (h *handshake) dial(ctx context.Context) (err error) {
	dial := h.ep.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	h.conn, err = dial(ctx, "tcp", h.ep.Addr)
	return err
}

func (h *handshake) encrypt(ctx context.Context) error {
	if h.ep.TLS == nil {
		return nil
	}
	config := h.ep.TLS
	if config.ServerName == "" && !config.InsecureSkipVerify {
		host, _, err := net.SplitHostPort(h.ep.Addr)
		if err != nil {
			return err
		}
		config = config.Clone()
		config.ServerName = host
	}
	conn := tls.Client(h.conn, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	h.conn = conn
	return nil
}

func (h *handshake) authenticate(context.Context) error {
	if h.ep.Credentials.User == "" {
		return nil
	}
	if !h.ep.AllowPlainAuth && !private(h.conn) {
		return ErrPlainRefused
	}
	_, err := h.roundTrip(&mcbp.Packet{
		Opcode: mcbp.OpSASLAuth,
		Key:    []byte("PLAIN"),
		Value:  []byte("\x00" + h.ep.Credentials.User + "\x00" + h.ep.Credentials.Password),
	})
	return err
}

// private reports whether nobody but the peer can read what is sent over conn: it is encrypted, or stays on this machine.
func private(conn net.Conn) bool {
	if _, ok := conn.(*tls.Conn); ok {
		return true
	}
	switch addr := conn.RemoteAddr().(type) {
	case *net.TCPAddr:
		return addr.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	default:
		return addr != nil && addr.Network() == "pipe"
	}
}

func (h *handshake) selectBucket(bucket string) error {
	if bucket == "" {
		return nil
	}
	_, err := h.roundTrip(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte(bucket)})
	return err
}

// hello is what is asked for in HELLO.
type hello struct {
	agent string
	want  []mcbp.Feature
	// mayLack are those of want whose refusal is tolerated.
	mayLack []mcbp.Feature
}

// hello compares features as sets: engines list them in an order of their own (kv-observed, Connecting).
func (h *handshake) hello(ask hello) error {
	value := make([]byte, 0, 2*len(ask.want))
	for _, f := range ask.want {
		value = binary.BigEndian.AppendUint16(value, uint16(f))
	}
	agent := ask.agent[:min(len(ask.agent), mcbp.MaxAgentNameLen)]
	answer, err := h.roundTrip(&mcbp.Packet{Opcode: mcbp.OpHello, Key: []byte(agent), Value: value})
	if err != nil {
		return err
	}
	granted := answer.Value()
	if len(granted)%2 != 0 {
		return &ProtocolError{Answer: answer.String(), Why: "odd length of the feature list"}
	}
	var missing []mcbp.Feature
	for _, f := range ask.want {
		if !contains(granted, f) && !slices.Contains(ask.mayLack, f) {
			missing = append(missing, f)
		}
	}
	if len(missing) > 0 {
		return &FeatureError{Missing: missing}
	}
	return nil
}

// contains reports whether a HELLO answer lists f.
func contains(list []byte, f mcbp.Feature) bool {
	for ; len(list) >= 2; list = list[2:] {
		if mcbp.Feature(binary.BigEndian.Uint16(list)) == f {
			return true
		}
	}
	return false
}

// roundTrip sends one request and reads its answer, and not one byte more: what follows belongs to whoever uses the
// connection next. A status other than success is a *[StatusError] without the node's words, which might repeat ours.
func (h *handshake) roundTrip(p *mcbp.Packet) (mcbp.Frame, error) {
	h.opaque++
	p.Opaque = mcbp.OpaqueFromUint32(h.opaque)
	if _, err := h.conn.Write(p.Frame()); err != nil {
		return nil, err
	}
	f, err := readFrame(h.conn, maxHandshakeBody)
	if err != nil {
		return nil, err
	}
	if !f.IsResponse() || f.Opcode() != p.Opcode || f.Opaque() != p.Opaque {
		return nil, &ProtocolError{Answer: f.String(), Why: fmt.Sprintf("no answer to %v opaque=%v", p.Opcode, p.Opaque)}
	}
	if f.Status() != mcbp.StatusSuccess {
		return nil, &StatusError{Op: p.Opcode, Status: f.Status()}
	}
	return f, nil
}

// firstRead is how much of a frame, in bytes, is read into memory that its header alone has asked for.
const firstRead = 64 << 10

// readFrame reads exactly one frame into new memory, which doubles with what has been read: a peer that only promises a long
// body gets little of it.
func readFrame(r io.Reader, maxBody uint32) (mcbp.Frame, error) {
	header := make([]byte, mcbp.HeaderLen)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	n, err := mcbp.FrameLen(header, maxBody)
	if err != nil {
		return nil, err
	}
	f := make(mcbp.Frame, min(n, firstRead))
	for have := copy(f, header); ; {
		if _, err := io.ReadFull(r, f[have:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		have = len(f)
		if have == n {
			return f, nil
		}
		more := min(n-have, have)
		f = slices.Grow(f, more)[:have+more]
	}
}

// closeNow closes conn without waiting for a peer that does not read: under TLS the plain connection goes first.
func closeNow(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		_ = t.NetConn().Close()
	}
	_ = conn.Close()
}
