package kvnode

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

const (
	// maxBody bounds a request: a document of [maxValue] and what goes with it.
	maxBody = 22 << 20
	// maxBodyBeforeAuth bounds what somebody may send who has not said who he is.
	maxBodyBeforeAuth = 64 << 10
	// outboxLimit is how many bytes may wait for a peer that does not read before its requests have to wait too.
	outboxLimit = 1 << 20
)

var (
	errInjectedClose = errors.New("kvnode: closed by an interceptor")
	errShut          = errors.New("kvnode: connection was replaced or its bucket is gone")
	errBadMagic      = errors.New("kvnode: a magic that no client sends")
	errStrayAnswer   = errors.New("kvnode: an answer to nothing that was asked")
	errOverrun       = errors.New("kvnode: more documents than the bucket's quota and the buffer hold")
	errNoPrepare     = errors.New("kvnode: a commit of what was not prepared here")
	errQuit          = errors.New("kvnode: the peer quits")
)

// conn is one accepted connection. Its reader goroutine owns it; until it becomes a DCP connection that goroutine writes
// as well, so that a client which does not read is not served. A DCP connection has a second goroutine, the pump, which
// writes: nobody who changes a document ever waits for a replica's socket.
type conn struct {
	node   *Node
	socket net.Conn
	out    *outbox
	bucket atomic.Pointer[bucket]
	dcp    atomic.Pointer[dcpEnd]
	// wake tells the pump that there may be something to do.
	wake chan struct{}
	// done is closed by close.
	done chan struct{}
	news announcements
	// wrote is when the last write began, in Unix nanoseconds.
	wrote atomic.Int64
	once  sync.Once

	// The reader's own.
	authenticated bool
	login         *login
	features      featureSet
	// sent is the cluster configuration that the peer was given last.
	sent *clusterConfig

	tapped
}

// dcpEnd is a connection's role in a replication. All methods may be called from any goroutine.
type dcpEnd interface {
	connection() Connection
	// handle acts on a DCP frame. An error closes the connection.
	handle(f mcbp.Frame) error
	// settle is called when every frame read so far has been handled.
	settle()
	// fill adds what there is to stream, up to a limit, to the outbox. Only the pump calls it.
	fill()
	// shut ends all streams without a word to the peer. When it returns, no frame of this connection has an effect any more.
	shut()
	tick(now time.Time)
	streamCount() int
}

func newConn(n *Node, socket net.Conn) *conn {
	return &conn{
		node:          n,
		socket:        socket,
		out:           newOutbox(),
		wake:          make(chan struct{}, 1),
		done:          make(chan struct{}),
		news:          newAnnouncements(),
		authenticated: n.opts.User == "" && n.opts.Password == "",
	}
}

// end is the connection's DCP end, nil before its OPEN.
func (c *conn) end() dcpEnd {
	if p := c.dcp.Load(); p != nil {
		return *p
	}
	return nil
}

// close closes the socket and releases whoever waits for it. It may be called more than once.
func (c *conn) close() {
	c.once.Do(func() {
		close(c.done)
		underneath(c.socket).Close()
		c.out.abandon()
	})
}

// serve is the reader goroutine.
func (c *conn) serve() {
	c.openTap()
	err := c.secure()
	if err == nil {
		err = c.read()
	}
	if errors.Is(err, errQuit) {
		c.flush()
	}
	if c.finishing.Load() {
		c.linger()
	}
	c.close()
	if end := c.end(); end != nil {
		end.shut()
		c.bucket.Load().closeDCP(c, end)
		c.node.log.Debug("dcp_connection_closed", "conn", end.connection().Name, "role", end.connection().Role.String(), "err", err)
	}
	if c.tap != nil {
		c.tap.Closed()
	}
	c.node.forget(c)
}

func (c *conn) read() error {
	r := newFrameReader(c.socket)
	for {
		limit := uint32(maxBody)
		if !c.authenticated {
			limit = maxBodyBeforeAuth
		}
		f, ok, err := r.next(limit)
		if err != nil {
			c.node.log.Warn("malformed_frame", "peer", c.socket.RemoteAddr().String(), "err", err)
			return err
		}
		if !ok {
			c.settle()
			if err := r.fill(); err != nil {
				return err
			}
			continue
		}
		if c.node.paused.Load() {
			c.node.waitResumed(c.done)
		}
		if err := c.receive(f); err != nil {
			return err
		}
		c.relieve()
	}
}

func (c *conn) handle(f mcbp.Frame) error {
	end := c.end()
	switch f.Magic() {
	case mcbp.MagicRequest, mcbp.MagicFramingRequest:
		if end != nil && isStreamCommand(f.Opcode()) {
			return end.handle(f)
		}
		return c.command(f)
	case mcbp.MagicServerResponse:
		if !c.features.has(mcbp.FeatureDuplex) {
			return errStrayAnswer
		}
		return nil // to an announcement, which needs none
	case mcbp.MagicResponse, mcbp.MagicFramingResponse:
		if end == nil {
			return errStrayAnswer
		}
		return end.handle(f)
	}
	return errBadMagic
}

// isStreamCommand reports whether a request belongs to a DCP end rather than to the node.
func isStreamCommand(op mcbp.Opcode) bool {
	return op > mcbp.OpDCPOpen && op <= mcbp.OpDCPCacheTransferEnd
}

// settle is called when the reader is about to wait for more.
func (c *conn) settle() {
	if end := c.end(); end != nil {
		end.settle()
		c.signal()
		return
	}
	c.flush()
}

// relieve brings the outbox below its limit, if it is not, before the next request is looked at.
func (c *conn) relieve() {
	if c.out.len() < outboxLimit {
		return
	}
	if c.end() == nil {
		c.flush() // does nothing while an announcement is being written
	} else {
		c.signal()
	}
	c.out.waitBelow(outboxLimit)
}

// flush writes what is pending. A failure closes the connection, which the reader notices.
func (c *conn) flush() {
	if err := c.out.flush(c.writer()); err != nil {
		c.close()
	}
}

// socketWriter bounds each write, so that a peer which stopped reading does not hold a goroutine for ever.
type socketWriter struct{ c *conn }

func (w socketWriter) Write(b []byte) (int, error) {
	w.c.node.waitResumed(w.c.done)
	if w.c.mute.Load() {
		return len(b), nil
	}
	now := time.Now()
	w.c.wrote.Store(now.UnixNano())
	if err := w.c.socket.SetWriteDeadline(now.Add(w.c.node.opts.IdleTimeout)); err != nil {
		return 0, err
	}
	return w.c.socket.Write(b)
}

var _ io.Writer = socketWriter{}

func (c *conn) lastWrite() time.Time { return time.Unix(0, c.wrote.Load()) }

// signal wakes the pump. It never blocks.
func (c *conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// pump is the writer goroutine of a DCP connection.
func (c *conn) pump(end dcpEnd) {
	for {
		select {
		case <-c.done:
			return
		case <-c.wake:
		}
		for end.fill(); c.out.len() > 0; end.fill() {
			c.flush()
			c.out.waitIdle()
		}
	}
}

// reply appends an answer.
func (c *conn) reply(p *mcbp.Packet) {
	c.out.end(p.Append(c.out.begin()))
}

// answer appends an answer without a body.
func (c *conn) answer(f mcbp.Frame, status mcbp.Status) { c.reply(mcbp.Response(f, status)) }
