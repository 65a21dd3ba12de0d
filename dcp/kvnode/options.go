package kvnode

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Options describe a node. Name is required; every other field has a default.
type Options struct {
	// Name is the node's identity in topologies, logs and fault records.
	Name string

	// Addr is the TCP address to listen on. The default is a free port of the loopback interface.
	Addr string

	// User and Password are the one account, for SASL PLAIN. If both are empty, clients need not authenticate.
	User, Password string

	// Log receives one line per state change. The default discards them.
	Log *slog.Logger

	// Hooks, if set, is asked about the control frames of replications. It is meant for tests that need a faulty node.
	Hooks Interceptor

	// PersistenceTimeout bounds the wait of a SEQNO_PERSISTENCE, which is then answered with a temporary failure. The
	// default is 30 s, as in real engines.
	PersistenceTimeout time.Duration

	// IdleTimeout ends a DCP connection whose peer neither reads what is sent nor answers a NOOP. The default is 360 s.
	IdleTimeout time.Duration

	// TakeoverMaxTime is how long a takeover may stream the remaining documents before writes to the vbucket are refused
	// with a temporary failure, so that it can end. The default is 60 s.
	TakeoverMaxTime time.Duration
}

const (
	defaultPersistenceTimeout = 30 * time.Second
	defaultIdleTimeout        = 360 * time.Second
	defaultTakeoverMaxTime    = 60 * time.Second
)

// validate checks o and fills in its defaults.
func (o *Options) validate() error {
	if o.Name == "" {
		return errors.New("kvnode: a node needs a name")
	}
	for _, d := range []*time.Duration{&o.PersistenceTimeout, &o.IdleTimeout, &o.TakeoverMaxTime} {
		if *d < 0 {
			return fmt.Errorf("kvnode: %v is not a timeout", *d)
		}
	}
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	setDefault(&o.PersistenceTimeout, defaultPersistenceTimeout)
	setDefault(&o.IdleTimeout, defaultIdleTimeout)
	setDefault(&o.TakeoverMaxTime, defaultTakeoverMaxTime)
	return nil
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}
