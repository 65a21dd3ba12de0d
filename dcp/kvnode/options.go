package kvnode

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"
)

// Options describe a node. Name is required; every other field has a default. However they are formatted, logged or encoded,
// the password is left out; but package fmt calls no methods on what lies in an unexported field.
type Options struct {
	// Name is the node's identity in topologies, logs and fault records.
	Name string

	// Addr is the TCP address to listen on. The default is a free port of the loopback interface.
	Addr string

	// Listener, if set, is where connections come from, in place of Addr: one in memory, say, for tests in virtual time. It is
	// the node's to close, also if the start fails.
	Listener net.Listener

	// TLS, if set, has the node speak TLS only; it needs a certificate. With ClientAuth, clients need one too, besides the account. It is
	// cloned.
	TLS *tls.Config

	// User and Password are the one account, for SASL PLAIN and SCRAM. If both are empty, clients need not authenticate.
	User, Password string

	// Mechanisms are the SASL mechanisms that the node lists and takes: SCRAM-SHA512, SCRAM-SHA256, SCRAM-SHA1, PLAIN. Empty means
	// all. Without PLAIN clients have to prove that they know the password without sending it.
	Mechanisms []string

	// Version is the real engine that the node behaves like. The default is [Version80].
	Version Version

	// Log receives one line per state change. The default discards them.
	Log *slog.Logger

	// Hooks, if set, is asked about the control frames of replications. It is meant for tests that need a faulty node.
	Hooks Interceptor

	// Faults, if set, is asked about every connection and every access to the disk. Package fault has one that is scripted.
	Faults Faults

	// Dir is the directory that the node keeps its buckets in, made if need be; no other node may have it at the same time.
	// Without one, nothing outlives [Node.Stop] and [Node.Kill], and a seqno counts as persisted as soon as it exists.
	Dir string

	// DiskRate makes the disk slow: so many bytes a second go to it or, in a restart, come from it. 0 is as fast as it can,
	// [DiskStalled] not at all. [Node.SetDiskRate] changes it.
	DiskRate int64

	// DiskNoSync leaves out the fsync: what counts as persisted then survives the end of the process, but not that of the
	// machine. It is meant for tests.
	DiskNoSync bool

	// PersistenceTimeout bounds the wait of a SEQNO_PERSISTENCE, which is then answered with a temporary failure. The
	// default is 30 s, as in real engines.
	PersistenceTimeout time.Duration

	// IdleTimeout ends a DCP connection whose peer neither reads what is sent nor answers a NOOP, and one whose peer does not come to the
	// end of the TLS handshake. The default is 360 s.
	IdleTimeout time.Duration

	// Now tells the time that documents expire by. The default is [time.Now].
	Now func() time.Time

	// ExpiryInterval is how often the node looks for documents that have expired and that nobody has asked for since. The
	// default is 10 minutes, as in real engines.
	ExpiryInterval time.Duration

	// CheckpointItems is how many of a vbucket's newest changes a stream gets as from memory. One that needs more gets
	// them as a disk snapshot, and its estimate is that of a backfill. The default is 10 000.
	CheckpointItems int

	// TakeoverMaxTime is how long a takeover may stream the remaining documents before writes to the vbucket are refused
	// with a temporary failure, so that it can end. The default is 60 s.
	TakeoverMaxTime time.Duration
}

// String names the node, its address and the user.
func (o Options) String() string {
	return fmt.Sprintf("%s (%s, %s:[redacted])", o.Name, o.Addr, o.User)
}

// GoString is [Options.String], for %#v.
func (o Options) GoString() string { return o.String() }

// Format is [Options.String], for every verb.
func (o Options) Format(f fmt.State, _ rune) { fmt.Fprint(f, o.String()) }

// LogValue is [Options.String], for log records.
func (o Options) LogValue() slog.Value { return slog.StringValue(o.String()) }

// MarshalText is [Options.String], for encoders that would otherwise walk the fields.
func (o Options) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

const (
	defaultPersistenceTimeout = 30 * time.Second
	defaultIdleTimeout        = 360 * time.Second
	defaultTakeoverMaxTime    = 60 * time.Second
	defaultExpiryInterval     = 10 * time.Minute
	defaultCheckpointItems    = 10_000
)

// validate checks o and fills in its defaults.
func (o *Options) validate() error {
	if o.Name == "" {
		return errors.New("kvnode: a node needs a name")
	}
	if o.Listener != nil && o.Addr != "" {
		return fmt.Errorf("kvnode: an address, %q, and a listener too", o.Addr)
	}
	if err := validTLS(o.TLS); err != nil {
		return err
	}
	if o.Version > Version72 {
		return fmt.Errorf("kvnode: %v is none that a node can play", o.Version)
	}
	for _, d := range []*time.Duration{&o.PersistenceTimeout, &o.IdleTimeout, &o.TakeoverMaxTime, &o.ExpiryInterval} {
		if *d < 0 {
			return fmt.Errorf("kvnode: %v is not a timeout", *d)
		}
	}
	if o.CheckpointItems < 0 {
		return fmt.Errorf("kvnode: checkpoints of %d items", o.CheckpointItems)
	}
	for _, m := range o.Mechanisms {
		if !slices.Contains(saslMechanisms(), m) {
			return fmt.Errorf("kvnode: Options.Mechanisms: there is no %q", m)
		}
	}
	if o.DiskRate < DiskStalled {
		return fmt.Errorf("kvnode: %d is not a rate", o.DiskRate)
	}
	switch {
	case o.Listener != nil:
		o.Addr = o.Listener.Addr().String()
	case o.Addr == "":
		o.Addr = "127.0.0.1:0"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.TLS != nil {
		o.TLS = o.TLS.Clone()
	}
	setDefault(&o.PersistenceTimeout, defaultPersistenceTimeout)
	setDefault(&o.IdleTimeout, defaultIdleTimeout)
	setDefault(&o.TakeoverMaxTime, defaultTakeoverMaxTime)
	setDefault(&o.ExpiryInterval, defaultExpiryInterval)
	if o.CheckpointItems == 0 {
		o.CheckpointItems = defaultCheckpointItems
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}
