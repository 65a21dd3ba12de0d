package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Defaults of [Config].
const (
	DefaultStall       = 6 * time.Minute
	DefaultInjectLimit = 1 << 20
)

// Config describes a relay. The two sockets are required; the zero value of everything else is a default.
type Config struct {
	// Consumer and Producer are the sockets after their DCP OPEN, with nothing read beyond its answer. Writes of one must
	// not block those of the other. The relay closes both.
	Consumer, Producer net.Conn
	// Decider judges asked frames; nil passes them all.
	Decider Decider
	// ConsumerTable and ProducerTable say what to do with frames read from that side; nil is [DefaultTable]. They are
	// copied.
	ConsumerTable, ProducerTable *Table
	// MaxBody is the longest body of a frame in bytes; a longer one is a protocol error. 0 means [mcbp.DefaultMaxBody].
	MaxBody uint32
	// Stall is how long a socket may accept no byte while some wait for it. It is noticed at most an eighth late. 0 means
	// [DefaultStall].
	Stall time.Duration
	// InjectLimit bounds the injected bytes that wait for one socket. 0 means [DefaultInjectLimit].
	InjectLimit int
	// Log receives one line when the relay starts and one when it fails or is cancelled. Its attributes, such as part and
	// link, are the caller's. nil discards.
	Log *slog.Logger
}

func (c *Config) fill() {
	if c.ConsumerTable == nil {
		c.ConsumerTable = DefaultTable(Consumer)
	}
	if c.ProducerTable == nil {
		c.ProducerTable = DefaultTable(Producer)
	}
	if c.Decider == nil {
		c.Decider = passAll{}
	}
	if c.MaxBody == 0 {
		c.MaxBody = mcbp.DefaultMaxBody
	}
	if c.Stall <= 0 {
		c.Stall = DefaultStall
	}
	if c.InjectLimit <= 0 {
		c.InjectLimit = DefaultInjectLimit
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

type passAll struct{}

func (passAll) Decide(context.Context, Side, []mcbp.Frame, []Verdict) error { return nil }

// Relay moves frames between two sockets. Make one with [New], start it with [Relay.Run]. All other methods may be called
// from any goroutine, before, during and after Run.
type Relay struct {
	cfg     Config
	log     *slog.Logger
	start   time.Time
	quiet   time.Duration
	outlets [2]*outlet // by the side they write to
	meters  [2]meter   // by the side that is read

	watchMu  sync.Mutex
	watched  atomic.Pointer[watchSet]
	tallySet atomic.Pointer[tallySet]
	tallied  atomic.Uint64
	controls atomic.Uint64

	ran    atomic.Bool
	once   sync.Once
	err    error // the first failure; set by once, before the outlets are closed
	cancel context.CancelFunc
}

// New makes a relay that is not yet running. Injections made before [Relay.Run] are written first.
func New(cfg Config) *Relay {
	cfg.fill()
	r := &Relay{cfg: cfg, log: cfg.Log, start: time.Now(), quiet: quiet}
	r.outlets[Consumer] = newOutlet(Consumer, cfg.Consumer, cfg.Stall, cfg.InjectLimit)
	r.outlets[Producer] = newOutlet(Producer, cfg.Producer, cfg.Stall, cfg.InjectLimit)
	return r
}

// Run moves frames until something fails or ctx ends, closes both sockets, and returns the first failure when every
// goroutine of the relay has ended: a *[Failure], or, when ctx ended first, an error that wraps its cause. It is never nil.
// A peer that stops reading cannot delay it; a [Decider] that ignores its context can. Run may be called once.
func (r *Relay) Run(ctx context.Context) error {
	if !r.ran.CompareAndSwap(false, true) {
		return errors.New("relay: Run called twice")
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	r.cancel = cancel
	cancelled := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cancelled)
		r.fail(fmt.Errorf("relay cancelled: %w", context.Cause(ctx)))
	})
	r.log.Debug("relay_started")

	var wg sync.WaitGroup
	for _, from := range []Side{Consumer, Producer} {
		wg.Go(func() {
			if err := newDirection(r, from).run(inner); err != nil {
				r.fail(err)
			}
		})
		wg.Go(func() {
			if err := r.outlets[from].writeInjected(inner); err != nil {
				r.fail(err)
			}
		})
	}
	wg.Wait()
	if !stop() {
		<-cancelled
	}
	return r.err
}

// fail records the first failure and closes both sockets, which ends whatever the other goroutines are doing.
func (r *Relay) fail(err error) {
	r.once.Do(func() {
		r.err = err
		var failure *Failure
		if errors.As(err, &failure) {
			r.log.Info("relay_failed", "side", failure.Side.String(), "err", failure.Err)
		} else {
			r.log.Debug("relay_cancelled", "err", err)
		}
		for _, o := range r.outlets {
			o.close()
		}
		r.cancel()
	})
}

// Inject queues whole frames, one or several, to be written to the socket of side at the next frame boundary. It never
// blocks and keeps no reference to frame. Frames that are queued while the peer does not read wait in memory, up to
// Config.InjectLimit bytes: [ErrInjectFull] says that there is no space for all of it, [ErrStopped] that the relay has
// ended, and wraps its failure; then nothing was queued. Being queued is no promise of being written: the relay may fail
// first.
func (r *Relay) Inject(side Side, frame []byte) error {
	for rest := frame; len(rest) > 0; {
		var err error
		if _, rest, err = mcbp.Parse(rest, r.cfg.MaxBody); err != nil {
			return fmt.Errorf("relay: injected bytes are no whole frames: %w", err)
		}
	}
	err := r.outlets[side].inject(frame)
	if errors.Is(err, ErrStopped) {
		return fmt.Errorf("%w: %w", ErrStopped, r.err)
	}
	return err
}

// Unwritten is how many injected bytes the socket of side has not accepted yet.
func (r *Relay) Unwritten(side Side) int { return r.outlets[side].unwritten() }
