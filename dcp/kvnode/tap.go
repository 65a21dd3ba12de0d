package kvnode

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Faults makes a node go wrong on purpose. Package fault has one that is scripted; a node without any pays nothing for it.
// Methods may be called by several nodes and from many goroutines at once.
type Faults interface {
	// Accepted is told of every connection before anything is read from it. What it returns stands between the node and the
	// socket from then on; nil leaves the connection alone.
	Accepted(s *Session) Tap

	// Disk is called before a node touches its disk, by the goroutine that is about to, with no lock held. The node goes on
	// when it returns. It must return soon after done is closed.
	Disk(op DiskOp, done <-chan struct{})
}

// Tap stands between a connection's frames and the node. Receive and Accepted are never called at once, nor is Send from two
// goroutines; Receive and Send may run side by side. No lock of the node is held while they are called, and both may block:
// the connection stalls meanwhile, as on a slow network, and nothing else does. They must return once [Session.Done] is
// closed.
type Tap interface {
	// Receive gets each whole frame that was read, in order, and acts on it with [Session.Act], or not. The frame may be kept
	// only if it is copied. An error ends the connection.
	Receive(f mcbp.Frame) error

	// Send gets what goes on the wire, whole frames one behind the other, and writes it with [Session.Write], or not. An error
	// ends the connection. The bytes may be changed, but not be kept.
	Send(frames []byte) error

	// Closed is called once, when the connection has ended.
	Closed()
}

// DiskKind is what a node does to its disk.
type DiskKind uint8

// The kinds. A node reads a vbucket at a time while it warms up, and writes changes in batches, each of which survives an
// unclean restart when it is written. Without a disk, the only writes are those that a SEQNO_PERSISTENCE stands for.
const (
	DiskRead DiskKind = iota
	DiskWrite
)

var diskKindNames = [...]string{DiskRead: "read", DiskWrite: "write"}

// String is the kind's name.
func (k DiskKind) String() string {
	if int(k) < len(diskKindNames) {
		return diskKindNames[k]
	}
	return "unknown"
}

// DiskOp is one access to a node's disk.
type DiskOp struct {
	Node, Bucket string
	Kind         DiskKind
}

// beforeDisk lets a pause and the faults hold up an access to the disk until they are over, or done is closed. The caller
// holds no lock.
func (n *Node) beforeDisk(bucket string, kind DiskKind, done <-chan struct{}) {
	n.waitResumed(done)
	if n.opts.Faults != nil {
		n.opts.Faults.Disk(DiskOp{Node: n.opts.Name, Bucket: bucket, Kind: kind}, done)
	}
}

// Session is a connection as a [Tap] has it in hand. Its methods may be called from any goroutine, but for Act and Settle,
// which only Receive may call, and Write, which only Send may call.
type Session struct{ c *conn }

// Node is the node's name.
func (s *Session) Node() string { return s.c.node.opts.Name }

// Peer is the address of the other end.
func (s *Session) Peer() string { return s.c.socket.RemoteAddr().String() }

// Done is closed when the connection has ended.
func (s *Session) Done() <-chan struct{} { return s.c.done }

// Act makes the node act on a frame as if it had just been read, once there is room for the answer.
func (s *Session) Act(f mcbp.Frame) error {
	s.c.node.waitResumed(s.c.done)
	s.c.relieve()
	return s.c.handle(f)
}

// Settle sends the answers to all that was acted on. Receive calls it before it waits for something.
func (s *Session) Settle() { s.c.settle() }

// Write puts bytes on the wire. What is written after HalfClose or Finish is discarded without an error.
func (s *Session) Write(b []byte) error {
	_, err := socketWriter{s.c}.Write(b)
	return err
}

// Reply makes a frame the next that the node sends. It comes to Send like any other.
func (s *Session) Reply(f mcbp.Frame) { s.c.out.append(f) }

// HalfClose ends the node's half of the connection: the peer reads the end of the stream, and may go on writing.
func (s *Session) HalfClose() {
	s.c.mute.Store(true)
	if half, ok := s.c.socket.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // a socket that is broken already has ended both halves
	}
}

// Finish closes the connection so that all that was written arrives: the peer reads the end of the stream behind it, and
// what it still sends is read and thrown away, for ten seconds at most.
func (s *Session) Finish() {
	s.c.finishing.Store(true)
	s.HalfClose()
	_ = s.c.socket.SetReadDeadline(time.Now()) // wakes the reader, which does the rest
}

// Reset closes the connection without a word: the peer reads an error.
func (s *Session) Reset() {
	if tcp, ok := underneath(s.c.socket).(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	s.c.close()
}

// DropStream makes a producer forget a vbucket's stream without a STREAM_END, and returns the stream's opaque. It reports
// false if there is no such stream. Frames of it that are on their way to Send already still come there.
func (s *Session) DropStream(vb uint16) (mcbp.Opaque, bool) {
	if p, ok := s.c.end().(*producer); ok {
		return p.dropStream(vb)
	}
	return mcbp.Opaque{}, false
}

// Sent corrects a producer's count of the bytes that its consumer has to acknowledge, for frames that went on the wire
// beside it, or did not.
func (s *Session) Sent(bytes int64) {
	if p, ok := s.c.end().(*producer); ok {
		p.outstanding.Add(bytes)
		p.c.signal()
	}
}

// Pause is [Node.Pause] of the connection's node. It returns what ends this pause, and no other; nil if the node was paused
// already.
func (s *Session) Pause() (resume func()) { return s.c.node.pause() }

// EndStream makes a producer end a vbucket's stream with a STREAM_END, behind what it has sent of it. It reports false if
// there is no such stream. The vbucket's state stays as it is.
func (s *Session) EndStream(vb uint16, reason mcbp.EndReason) bool {
	p, ok := s.c.end().(*producer)
	return ok && p.endStream(vb, reason)
}

func (p *producer) endStream(vb uint16, reason mcbp.EndReason) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.streams[vb]
	if s == nil || s.ending() {
		return false
	}
	s.vb.removeStream(s)
	s.end(reason)
	return true
}

// dropStream is closeStream without a word to the consumer.
func (p *producer) dropStream(vb uint16) (mcbp.Opaque, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.streams[vb]
	if s == nil || s.ending() {
		return mcbp.Opaque{}, false
	}
	s.vb.removeStream(s)
	s.abandon()
	delete(p.streams, vb)
	return s.request.Opaque, true
}

// tapped is what a conn knows about its tap.
type tapped struct {
	tap Tap
	// mute discards what the node has to say: its half of the connection is closed. finishing has the reader throw away what
	// the peer still says.
	mute, finishing atomic.Bool
}

func (c *conn) openTap() {
	if faults := c.node.opts.Faults; faults != nil {
		c.tap = faults.Accepted(&Session{c})
	}
}

// receive acts on a frame, through the tap if there is one.
func (c *conn) receive(f mcbp.Frame) error {
	if c.tap == nil {
		return c.handle(f)
	}
	if c.finishing.Load() {
		return errInjectedFinish
	}
	return c.tap.Receive(f)
}

// tapWriter is what a tapped connection's outbox writes to.
type tapWriter struct{ tap Tap }

func (w tapWriter) Write(frames []byte) (int, error) {
	if err := w.tap.Send(frames); err != nil {
		return 0, err
	}
	return len(frames), nil
}

func (c *conn) writer() io.Writer {
	if c.tap != nil {
		return tapWriter{c.tap}
	}
	return socketWriter{c}
}

// lingerLimit is how long a connection that was finished waits for its peer to close too.
const lingerLimit = 10 * time.Second

// linger waits for the peer's end of a connection that was finished. Closed at once, with bytes of the peer unread, it would
// be reset, and on some systems the peer would lose what was written last.
func (c *conn) linger() {
	deadline := time.Now().Add(lingerLimit)
	scrap := make([]byte, 4<<10)
	for c.socket.SetReadDeadline(deadline) == nil {
		_, err := c.socket.Read(scrap)
		woken := errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(deadline) // by Finish, just now
		if err != nil && !woken {
			return
		}
	}
}

// errInjectedFinish ends the reader of a connection that was finished.
var errInjectedFinish = errors.New("kvnode: finished by a fault")
