package kv

import (
	"context"
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

// maxBucketName is the longest name, in bytes, that any engine takes.
const maxBucketName = 100

// handshake is a connection that is being set up. Steps run one after another; each has the whole step timeout, so that a
// peer that accepts and stays silent, or trickles bytes, costs no more than one timeout for each step.
type handshake struct {
	ep     *Endpoint
	conn   net.Conn
	opaque uint32
	unsaid unsaid
	// granted are the features that were asked for and agreed to.
	granted []mcbp.Feature
}

// connect dials, encrypts, authenticates and negotiates, in the order that engines of all versions accept: SASL,
// SELECT_BUCKET (if bucket is not empty), HELLO. On an error nothing stays open.
func connect(ctx context.Context, ep *Endpoint, bucket string, hello hello) (*handshake, error) {
	h := &handshake{ep: ep, unsaid: unsaid{[]byte(ep.Credentials.Password)}}
	type step struct {
		name string
		run  func(context.Context) error
	}
	steps := []step{
		{StepConfig, func(context.Context) error { return h.validate(bucket) }},
		{StepDial, h.dial},
	}
	if ep.encrypted() {
		steps = append(steps, step{StepTLS, h.encrypt})
	}
	if ep.Credentials.User != "" {
		steps = append(steps, step{StepSASL, h.authenticate})
	}
	if bucket != "" {
		steps = append(steps, step{StepSelectBucket, func(context.Context) error { return h.selectBucket(bucket) }})
	}
	steps = append(steps, step{StepHello, func(context.Context) error { return h.hello(hello) }})
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
	intact := func() bool { return within.Err() == nil }
	if conn := h.conn; conn != nil {
		intact = context.AfterFunc(within, func() { interrupt(conn) })
	}
	err := run(within)
	if !intact() && err == nil {
		err = within.Err() // the connection may have been spoilt just after the step's last byte
	}
	if err == nil {
		return nil
	}
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case within.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded):
		err = context.DeadlineExceeded
	case refusedTLS(err):
		name = StepTLS
	}
	if h.conn != nil {
		Abort(h.conn)
	}
	return &ConnectError{Node: h.ep.Node, Addr: h.ep.Addr, Step: name, Err: err}
}

// interrupt ends whatever is being read or written. Connections through proxies may know no deadlines.
func interrupt(conn net.Conn) {
	if err := conn.SetDeadline(time.Unix(1, 0)); err != nil {
		Abort(conn)
	}
}

func (h *handshake) validate(bucket string) error {
	if len(bucket) > maxBucketName {
		return fmt.Errorf("bucket name of %d bytes, want at most %d", len(bucket), maxBucketName)
	}
	return h.ep.Validate()
}

// errNoConn is a dialer that gave neither a connection nor an error.
var errNoConn = errors.New("the dialer gave no connection")

func (h *handshake) dial(ctx context.Context) (err error) {
	dial := h.ep.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	h.conn, err = dial(ctx, "tcp", h.ep.Addr)
	if err == nil && h.conn == nil {
		return errNoConn
	}
	return err
}

func (h *handshake) selectBucket(bucket string) error {
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
	list := answer.Value()
	if len(list)%2 != 0 {
		return &ProtocolError{Answer: answer.String(), Why: "odd length of the feature list"}
	}
	var missing []mcbp.Feature
	for _, f := range ask.want {
		switch {
		case contains(list, f):
			h.granted = append(h.granted, f)
		case !slices.Contains(ask.mayLack, f):
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

// roundTrip is an exchange whose only good answer is success. Another status is a *[StatusError] without the node's words,
// which might repeat ours.
func (h *handshake) roundTrip(p *mcbp.Packet) (mcbp.Frame, error) {
	f, err := h.exchange(p)
	if err != nil {
		return nil, err
	}
	if f.Status() != mcbp.StatusSuccess {
		return nil, &StatusError{Op: p.Opcode, Status: f.Status()}
	}
	return f, nil
}

// exchange sends one request and reads its answer, whatever its status, and not one byte more: what follows belongs to
// whoever uses the connection next.
func (h *handshake) exchange(p *mcbp.Packet) (mcbp.Frame, error) {
	h.opaque++
	p.Opaque = mcbp.OpaqueFromUint32(h.opaque)
	if p.Opcode == mcbp.OpSASLAuth || p.Opcode == mcbp.OpSASLStep {
		h.unsaid = append(h.unsaid, p.Value)
	}
	if _, err := h.conn.Write(p.Frame()); err != nil {
		return nil, err
	}
	f, err := readFrame(h.conn, maxHandshakeBody)
	if err != nil {
		return nil, h.unsaid.withhold(err)
	}
	// The other magics of answers come only after features that are not asked for here.
	if f.Magic() != mcbp.MagicResponse || f.Opcode() != p.Opcode || f.Opaque() != p.Opaque {
		return nil, &ProtocolError{Answer: f.String(), Why: fmt.Sprintf("no answer to %v opaque=%v", p.Opcode, p.Opaque)}
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
