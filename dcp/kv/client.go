package kv

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

const (
	// maxAnswerBody is the longest body of an answer in bytes: a document of 20 MiB with its metadata, and room.
	maxAnswerBody = 32 << 20
	// maxBacklog bounds the answers, in bytes, that one call has received and not taken.
	maxBacklog = 64 << 20
	// maxAbandoned bounds the calls that were given up and are still unanswered. A node with more is not answering at all.
	maxAbandoned = 4096
	// sendQueue is how many requests may wait for the socket; further callers wait themselves.
	sendQueue = 256
	// sendStall is how long the socket may take for one request.
	sendStall = 30 * time.Second
	ioBuffer  = 32 << 10
)

// clientFeatures are what a [Client] asks for. JSON it cannot do without: topologies are sent as JSON.
var clientFeatures = hello{
	agent:   "shearpin:manager",
	want:    []mcbp.Feature{mcbp.FeatureMutationSeqno, mcbp.FeatureXerror, mcbp.FeatureSelectBucket, mcbp.FeatureJSON},
	mayLack: []mcbp.Feature{mcbp.FeatureMutationSeqno, mcbp.FeatureXerror, mcbp.FeatureSelectBucket},
}

// Client is one connection for commands. All methods may be called from any goroutine; requests are pipelined and their
// answers matched by opaque.
//
// Every call ends when its context does. The request may have been sent by then and be carried out; its late answer is
// dropped, and its opaque not used again before. When the connection breaks or is closed, all calls fail at once with an
// error that wraps [ErrClosed] and the cause. A client does not connect again: see [Session].
type Client struct {
	node string
	conn net.Conn
	send chan []byte
	done chan struct{}
	wg   sync.WaitGroup
	// withhold is applied to why reading ended.
	withhold func(error) error

	mu        sync.Mutex
	calls     map[mcbp.Opaque]*call
	abandoned int
	next      uint32
	err       error
}

// call is a request that waits for its answer or answers.
type call struct {
	op    mcbp.Opcode
	multi bool // STAT: many answers, the last one with an empty key

	// Guarded by Client.mu.
	answers   []mcbp.Frame
	bytes     int
	abandoned bool
	overrun   bool // there were too many answers; they are lost

	ready chan struct{} // holds a token when there is something new in answers
}

// Connect connects to a node and selects bucket; an empty name selects none. Errors are *[ConnectError].
func Connect(ctx context.Context, ep Endpoint, bucket string) (*Client, error) {
	h, err := connect(ctx, &ep, bucket, clientFeatures)
	if err != nil {
		return nil, err
	}
	c := &Client{
		node:  ep.Node,
		conn:  h.conn,
		send:  make(chan []byte, sendQueue),
		done:  make(chan struct{}),
		calls: make(map[mcbp.Opaque]*call),
		// A function: formatting does not find what it keeps.
		withhold: h.unsaid.withhold,
	}
	c.wg.Go(func() { c.fail(c.read()) })
	c.wg.Go(func() { c.fail(c.write()) })
	return c, nil
}

// Close closes the connection and waits for its goroutines to end. It returns nil, also if the connection had broken.
func (c *Client) Close() error {
	c.fail(nil)
	c.wg.Wait()
	return nil
}

// Done is closed when the connection has been closed or has broken.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is why the connection has ended: an error that wraps [ErrClosed]; nil while it lives.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// fail ends the connection; the first cause counts. A nil cause is an orderly close.
func (c *Client) fail(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = &closedError{node: c.node, cause: cause}
	c.calls = nil
	close(c.done)
	Abort(c.conn)
}

// Do sends one request and returns its answer, whatever its status. The request's opaque is set by Do. It is for commands
// with exactly one answer.
func (c *Client) Do(ctx context.Context, p *mcbp.Packet) (mcbp.Frame, error) {
	call, opaque, err := c.begin(ctx, p, false)
	if err != nil {
		return nil, err
	}
	answers, err := c.wait(ctx, call, opaque)
	if err != nil {
		return nil, err
	}
	return answers[0], nil
}

// begin registers a call and hands its request to the writer.
func (c *Client) begin(ctx context.Context, p *mcbp.Packet, multi bool) (*call, mcbp.Opaque, error) {
	if err := ctx.Err(); err != nil {
		return nil, mcbp.Opaque{}, context.Cause(ctx)
	}
	call := &call{op: p.Opcode, multi: multi, ready: make(chan struct{}, 1)}
	opaque, err := c.register(call)
	if err != nil {
		return nil, opaque, err
	}
	request := *p
	request.Opaque = opaque
	select {
	case c.send <- request.Frame():
		return call, opaque, nil
	case <-c.done:
		return nil, opaque, c.Err()
	case <-ctx.Done():
		c.forget(opaque) // it was never sent: no answer will come
		return nil, opaque, context.Cause(ctx)
	}
}

func (c *Client) register(call *call) (mcbp.Opaque, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return mcbp.Opaque{}, c.err
	}
	for {
		c.next++
		opaque := mcbp.OpaqueFromUint32(c.next)
		if _, taken := c.calls[opaque]; !taken {
			c.calls[opaque] = call
			return opaque, nil
		}
	}
}

func (c *Client) forget(opaque mcbp.Opaque) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, opaque)
}

// wait returns what has arrived for a call, at least one answer. If ctx ends first, the call is abandoned.
func (c *Client) wait(ctx context.Context, call *call, opaque mcbp.Opaque) ([]mcbp.Frame, error) {
	for {
		var ended error
		select {
		case <-call.ready:
		case <-c.done:
			ended = c.Err()
		case <-ctx.Done():
			c.abandon(call, opaque)
			return nil, context.Cause(ctx)
		}
		answers, err := c.take(call)
		if err != nil || len(answers) > 0 {
			return answers, err
		}
		if ended != nil {
			return nil, ended
		}
	}
}

func (c *Client) take(call *call) ([]mcbp.Frame, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if call.overrun {
		return nil, ErrBacklog
	}
	answers := call.answers
	call.answers, call.bytes = nil, 0
	return answers, nil
}

// abandon gives a call up: its opaque stays taken until its last answer has come.
func (c *Client) abandon(call *call, opaque mcbp.Opaque) {
	c.mu.Lock()
	if c.calls[opaque] != call {
		c.mu.Unlock()
		return
	}
	call.abandoned, call.answers = true, nil
	c.abandoned++
	tooMany := c.abandoned > maxAbandoned
	c.mu.Unlock()
	if tooMany {
		c.fail(fmt.Errorf("more than %d calls given up and never answered", maxAbandoned))
	}
}

// read is the reader goroutine. It returns why reading ended.
func (c *Client) read() error {
	in := bufio.NewReaderSize(c.conn, ioBuffer)
	for {
		f, err := readFrame(in, maxAnswerBody)
		if err != nil {
			return c.withhold(err)
		}
		if err := c.answer(f); err != nil {
			return err
		}
	}
}

// answer hands an answer to its call.
func (c *Client) answer(f mcbp.Frame) error {
	if !f.IsResponse() {
		return &ProtocolError{Answer: f.String(), Why: "a request on a connection for answers"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	call := c.calls[f.Opaque()]
	switch {
	case call == nil:
		return &ProtocolError{Answer: f.String(), Why: "answer to no request"}
	case call.op != f.Opcode():
		return &ProtocolError{Answer: f.String(), Why: fmt.Sprintf("answer to %v", call.op)}
	}
	if !call.multi || last(f) {
		delete(c.calls, f.Opaque())
		if call.abandoned {
			c.abandoned--
		}
	}
	if call.abandoned || call.overrun {
		return nil
	}
	call.answers = append(call.answers, f)
	call.bytes += len(f)
	if call.bytes > maxBacklog {
		call.answers, call.overrun = nil, true
	}
	select {
	case call.ready <- struct{}{}:
	default:
	}
	return nil
}

// last reports whether f ends the answers to a STAT: an empty key, or an error, which can only come first.
func last(f mcbp.Frame) bool {
	return f.KeyLen() == 0 || f.Status() != mcbp.StatusSuccess
}

// write is the writer goroutine: it writes requests, those that wait at the same time together. It returns why writing ended.
func (c *Client) write() error {
	out := bufio.NewWriterSize(c.conn, ioBuffer)
	for {
		var request []byte
		select {
		case <-c.done:
			return nil
		case request = <-c.send:
		}
		for more := true; more; {
			if err := c.conn.SetWriteDeadline(time.Now().Add(sendStall)); err != nil {
				return err
			}
			if _, err := out.Write(request); err != nil {
				return err
			}
			select {
			case request = <-c.send:
			default:
				more = false
			}
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

// request is Do for commands whose only good answer is success.
func (c *Client) request(ctx context.Context, p *mcbp.Packet) (mcbp.Frame, error) {
	f, err := c.Do(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", p.Opcode, err)
	}
	if f.Status() != mcbp.StatusSuccess {
		return nil, statusError(p, f)
	}
	return f, nil
}
