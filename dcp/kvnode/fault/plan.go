package fault

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// AnyVBucket lets a plan strike whichever vbucket comes first.
const AnyVBucket = -1

// Options say what shall go wrong.
type Options struct {
	Kind Kind
	// VB is the vbucket to strike, or [AnyVBucket].
	VB int
	// Log receives one line, fault_injected, just before the faulty frame goes on the wire. The default discards it.
	Log *slog.Logger
}

// Record is what has gone wrong.
type Record struct {
	Kind Kind
	VB   uint16
	// Producer and Consumer are the names of the nodes at the two ends.
	Producer, Consumer string
	// Connection is the name that both DCP connections have.
	Connection string
	// At is just before the faulty frame went on the wire, or the ADD_STREAM was swallowed, or the socket closed. It has a
	// monotonic reading.
	At time.Time
	// AddOpaque is the ADD_STREAM's. StreamOpaque is the stream's, if Requested: for [StaleStreamEnd] that of the stream that
	// was closed.
	AddOpaque    mcbp.Opaque
	StreamOpaque mcbp.Opaque
	Requested    bool
	// MadeUp is the opaque of the answer to nothing, for [UnknownOpaque].
	MadeUp mcbp.Opaque
}

// Plan is one fault, shared by the nodes of a cluster. Its methods may be called from any goroutine.
type Plan struct {
	opts     Options
	log      *slog.Logger
	happened chan struct{}

	mu     sync.Mutex
	armed  bool
	fired  bool
	record Record
	// target is the set-up that was chosen, until the fault has run its course.
	target *setup
	// nodes knows which node opened which end of a connection.
	nodes map[link]*ends
	stale staleEnds
	// issued marks the opaques of the form ff nnnn ff that managers have used, by nnnn.
	issued [1 << 16 / 64]uint64
}

// link is a replication: both its connections have the same name.
type link struct {
	bucket, name string
}

type stream struct {
	link link
	vb   uint16
}

// ends are the names of a link's nodes, by role.
type ends [2]string

// setup is the ADD_STREAM that a plan has chosen.
type setup struct {
	stream stream
	add    mcbp.Opaque
	// opaque is the stream's, once requested.
	opaque    mcbp.Opaque
	requested bool
	// answer is the ADD_STREAM's answer, kept back for [LateAnswer].
	answer mcbp.Frame
}

// New makes a plan, not armed yet. It panics if the kind does not exist, which only a mistake in the caller can bring about.
func New(opts Options) *Plan {
	if opts.Kind < EarlyStreamEnd || opts.Kind > StaleStreamEnd {
		panic(fmt.Sprintf("fault: no such kind: %d", opts.Kind))
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Plan{
		opts:     opts,
		log:      opts.Log.With("part", "node"),
		happened: make(chan struct{}),
		nodes:    map[link]*ends{},
		stale:    newStaleEnds(),
	}
}

// For is the interceptor for the node of that name.
func (p *Plan) For(node string) kvnode.Interceptor { return &interceptor{plan: p, node: node} }

// Arm lets the fault strike from now on. It can strike once only, however often it is armed.
func (p *Plan) Arm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = true
}

// Happened is closed when the fault has struck.
func (p *Plan) Happened() <-chan struct{} { return p.happened }

// Record tells what has gone wrong, and whether it has.
func (p *Plan) Record() (Record, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.record, p.fired
}

// strikes says whether a vbucket is one that the plan is for.
func (p *Plan) strikes(vb uint16) bool { return p.opts.VB < 0 || int(vb) == p.opts.VB }

// fits says whether a set-up may be chosen. The caller holds mu.
func (p *Plan) fits(s stream, flags uint32) bool {
	if !p.armed || p.fired || p.target != nil || !p.strikes(s.vb) {
		return false
	}
	takeover := flags&mcbp.StreamFlagTakeover != 0
	if p.opts.Kind != StaleStreamEnd {
		return !takeover
	}
	return takeover && p.stale.keeps(s)
}

// strike records the fault: it happens now, to the target. The caller holds mu.
func (p *Plan) strike(node string, streamOpaque mcbp.Opaque, requested bool, madeUp mcbp.Opaque) {
	s := p.target.stream
	p.fired = true
	p.record = Record{
		Kind: p.opts.Kind, VB: s.vb, Connection: s.link.name, At: time.Now(), AddOpaque: p.target.add,
		StreamOpaque: streamOpaque, Requested: requested, MadeUp: madeUp,
	}
	if e := p.nodes[s.link]; e != nil {
		p.record.Producer, p.record.Consumer = e[kvnode.RoleProducer], e[kvnode.RoleConsumer]
	}
	shown := "-"
	if requested {
		shown = streamOpaque.String()
	}
	p.log.Info("fault_injected", "node", node, "kind", p.opts.Kind.String(), "vb", s.vb, "conn", s.link.name,
		"producer", p.record.Producer, "consumer", p.record.Consumer, "add_opaque", p.record.AddOpaque.String(), "stream_opaque", shown)
	close(p.happened)
}

// note remembers an opaque that a manager has used. The caller holds mu.
func (p *Plan) note(o mcbp.Opaque) {
	if o[0] == 0xff && o[3] == 0xff {
		n := int(o[1])<<8 | int(o[2])
		p.issued[n/64] |= 1 << (n % 64)
	}
}

// firstMadeUp is where the search for an unused opaque begins, far from a counter's start.
const firstMadeUp = 0x7e7e

// makeUp returns an opaque of the managers' form that none has used. If they have used all, it returns one of another form.
// The caller holds mu.
func (p *Plan) makeUp() mcbp.Opaque {
	for i := range len(p.issued) * 64 {
		n := (firstMadeUp + i) & 0xffff
		if p.issued[n/64]&(1<<(n%64)) == 0 {
			return mcbp.Opaque{0xff, byte(n >> 8), byte(n), 0xff}
		}
	}
	return mcbp.Opaque{0xfe, 0x7e, 0x7e, 0xff}
}
