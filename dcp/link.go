package dcp

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/supervisor"
)

// Restart limits of the connections of a link: more crashes than this, and the link gives up (design §5.1).
const (
	connRestarts      = 3
	connRestartPeriod = 10 * time.Second
)

// linkEnv is what the processes of one link share. It is written while the link's supervisor starts them, in order, and
// only read afterwards; snappy guards itself.
type linkEnv struct {
	link      Link
	limits    Limits
	endpoints func(node string) (kv.Endpoint, bool)
	log       *slog.Logger
	events    *actors.Bus[Event]
	tree      *actors.Bus[supervisor.Event]
	manager   *actors.PID
	// jitter is Options.Jitter; heard is told of each relay.
	jitter func(time.Duration) time.Duration
	heard  *hearing
	snappy compression
	// meter counts for the metrics, carriage for the manager; nil counts nothing.
	meter    *linkMeter
	carriage *carriage
	// replicator is set before the connections start.
	replicator atomic.Pointer[actors.PID]
	// flight is the recorder of the consumer connection's latest incarnation.
	flight atomic.Pointer[flightRecorder]
}

func (e *linkEnv) logger(part string) *slog.Logger {
	return e.log.With("part", part, "bucket", e.link.Bucket, "producer", e.link.Producer, "consumer", e.link.Consumer, "conn", e.link.Conn)
}

// linkSpec is the supervision of one link:
//
//	link supervisor              rest_for_one, intensity 0
//	├── replicator               permanent
//	└── connection supervisor    permanent, one_for_all, 3 restarts in 10 s
//	    ├── producer connection  permanent
//	    └── consumer connection  permanent
//
// A connection that crashes takes its sibling along, because their byte streams belong together; the replicator outlives
// both and sees why. When the connection supervisor gives up, so does the link.
func linkSpec(env *linkEnv) supervisor.Spec {
	name := env.link.Name()
	connections := supervisor.Spec{
		Name:      "connections " + name,
		Strategy:  supervisor.OneForAll,
		Intensity: connRestarts,
		Period:    connRestartPeriod,
		Log:       env.log,
		Events:    env.tree,
		Children: []supervisor.ChildSpec{
			{ID: "producer connection", Start: func(c *actors.Context) (*actors.PID, error) {
				return c.StartLink(&producerConn{env: env}, actors.WithKind("producer connection"))
			}},
			{ID: "consumer connection", Start: func(c *actors.Context) (*actors.PID, error) {
				return c.StartLink(newConsumerConn(env), actors.WithKind("consumer connection"))
			}},
		},
	}
	return supervisor.Spec{
		Name:      "link " + name,
		Strategy:  supervisor.RestForOne,
		Intensity: supervisor.Never,
		Log:       env.log,
		Events:    env.tree,
		Children: []supervisor.ChildSpec{
			{ID: "replicator", Start: func(c *actors.Context) (*actors.PID, error) {
				pid, err := c.StartLink(newReplicator(env), actors.WithKind("replicator"))
				if err == nil {
					env.replicator.Store(pid)
				}
				return pid, err
			}},
			{ID: "connection supervisor", Type: supervisor.TypeSupervisor, Start: func(c *actors.Context) (*actors.PID, error) {
				return c.StartLink(supervisor.New(connections), actors.WithKind("supervisor"))
			}},
		},
	}
}

// linkChild is a link as a child of the replication supervisor: temporary, because the manager decides when to try again.
func linkChild(env *linkEnv) supervisor.ChildSpec {
	return supervisor.ChildSpec{
		ID:      env.link.Name(),
		Restart: supervisor.Temporary,
		Type:    supervisor.TypeSupervisor,
		Start: func(c *actors.Context) (*actors.PID, error) {
			return c.StartLink(supervisor.New(linkSpec(env)), actors.WithKind("supervisor"))
		},
	}
}
