package bench

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// engines are scripted KV nodes in a process of their own, as quick as they can be: consumer and producer of any number of
// links, and sources and sinks of load. They answer whatever they have read with one write.
type engines struct {
	// victim is the vbucket whose stream the producer ends as soon as it has accepted it; the consumer, as real ones do,
	// leaves the ADD_STREAM unanswered then. -1 is none.
	victim int
	// flood is how many MiB of documents a second the consumer sends of its own accord.
	flood int
	// load is how many MiB a second a source sends.
	load int
}

// A connection to the engines' second address says in its first byte what it wants to be.
const (
	loadSource = 's'
	loadSink   = 'k'
)

// playEngines says the address of the nodes and that of sources and sinks.
func playEngines(args string, out io.Writer) error {
	var e engines
	if _, err := fmt.Sscan(args, &e.victim, &e.flood, &e.load); err != nil {
		return err
	}
	var listeners [2]net.Listener
	for i := range listeners {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		listeners[i] = l
		fmt.Fprintln(out, l.Addr())
	}
	go func() { must(accept(listeners[0], func(conn net.Conn) { (&engine{engines: e, conn: conn}).serve() })) }()
	return accept(listeners[1], func(conn net.Conn) {
		var kind [1]byte
		if _, err := io.ReadFull(conn, kind[:]); err != nil {
			return
		}
		if kind[0] == loadSource {
			trickle(e.load, func(b []byte) error { _, err := conn.Write(b); return err })
			return
		}
		_, _ = io.Copy(struct{ io.Writer }{io.Discard}, conn)
	})
}

func accept(l net.Listener, serve func(net.Conn)) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			serve(conn)
		}()
	}
}

// fullRate is the rate, in MiB per second, of who writes whenever he can.
const fullRate = 1 << 20

// trickle writes documents at a rate in MiB per second, until a write fails.
func trickle(rate int, write func([]byte) error) {
	if rate == 0 {
		return
	}
	b, _ := block(1 << 10)
	if rate >= fullRate {
		for write(b) == nil {
		}
		return
	}
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	for write(b) == nil {
		<-ticker.C
	}
}

// engine is one connection to a node.
type engine struct {
	engines
	conn     net.Conn
	producer bool

	mu  sync.Mutex // writes
	out []byte

	adds    []mcbp.Frame           // by the number in the stream's opaque
	streams map[uint16]mcbp.Opaque // at the producer
}

func (e *engine) serve() {
	e.streams = map[uint16]mcbp.Opaque{}
	buf := make([]byte, 256<<10)
	end := 0
	for {
		n, err := e.conn.Read(buf[end:])
		if err != nil {
			return
		}
		rest := buf[:end+n]
		for {
			f, next, err := mcbp.Parse(rest, uint32(len(buf)))
			if err != nil {
				break
			}
			e.handle(f)
			rest = next
		}
		end = copy(buf, rest)
		if e.write(e.out) != nil {
			return
		}
		e.out = e.out[:0]
	}
}

func (e *engine) write(b []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err := e.conn.Write(b)
	return err
}

func (e *engine) say(p *mcbp.Packet) { e.out = p.Append(e.out) }

func (e *engine) handle(f mcbp.Frame) {
	if f.IsResponse() {
		if f.Opcode() == mcbp.OpDCPStreamReq && !e.producer {
			e.added(f)
		}
		return
	}
	answer := mcbp.Response(f, mcbp.StatusSuccess)
	switch f.Opcode() {
	case mcbp.OpHello:
		answer.Value = f.Value()
	case mcbp.OpDCPOpen:
		e.producer = binary.BigEndian.Uint32(f.Extras()[4:])&mcbp.OpenFlagProducer != 0
		if !e.producer {
			go trickle(e.flood, e.write)
		}
	case mcbp.OpDCPAddStream:
		e.adds = append(e.adds, slices.Clone(f[:mcbp.HeaderLen]))
		answer = &mcbp.Packet{
			Opcode: mcbp.OpDCPStreamReq, VBucket: f.VBucket(), Opaque: streamOpaque(len(e.adds) - 1), Extras: make([]byte, 48),
		}
	case mcbp.OpDCPStreamReq:
		e.accept(f)
		return
	case mcbp.OpDCPCloseStream:
		if opaque, ok := e.streams[f.VBucket()]; ok {
			e.say(answer)
			delete(e.streams, f.VBucket())
			e.end(f.VBucket(), opaque, mcbp.EndClosed)
			return
		}
	case mcbp.OpDCPStreamEnd, mcbp.OpDCPMutation:
		return
	}
	e.say(answer)
}

func streamOpaque(n int) (o mcbp.Opaque) {
	binary.LittleEndian.PutUint32(o[:], uint32(n))
	return o
}

// accept answers a STREAM_REQ at the producer.
func (e *engine) accept(f mcbp.Frame) {
	answer := mcbp.Response(f, mcbp.StatusSuccess)
	answer.Value = make([]byte, 16)
	e.say(answer)
	if int(f.VBucket()) == e.victim {
		e.end(f.VBucket(), f.Opaque(), mcbp.EndStateChanged)
		return
	}
	e.streams[f.VBucket()] = f.Opaque()
}

// added answers an ADD_STREAM at the consumer.
func (e *engine) added(f mcbp.Frame) {
	n := binary.LittleEndian.Uint32(f[12:])
	if add := e.adds[n]; int(add.VBucket()) != e.victim {
		answer := mcbp.Response(add, mcbp.StatusSuccess)
		answer.Extras = binary.BigEndian.AppendUint32(nil, n)
		e.say(answer)
	}
}

func (e *engine) end(vb uint16, opaque mcbp.Opaque, reason mcbp.EndReason) {
	e.out = mcbp.StreamEnd{VBucket: vb, Opaque: opaque, Reason: reason}.Append(e.out)
}
