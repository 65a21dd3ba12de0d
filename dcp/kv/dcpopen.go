package kv

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Role is which end of a DCP connection the node is to be.
type Role uint8

// The roles.
const (
	// Consumer: the node receives documents.
	Consumer Role = iota
	// Producer: the node sends documents.
	Producer
)

func (r Role) String() string {
	if r == Producer {
		return "producer"
	}
	return "consumer"
}

// DCPOpen describes a DCP connection.
type DCPOpen struct {
	Bucket string
	// Name is the connection's name, 1 to [mcbp.MaxConnectionNameLen] bytes. Opening a name that is in use on the node
	// closes the older connection, and ends its streams before the open is answered.
	Name string
	Role Role
	// WithoutSnappy leaves compression out of what is asked for. Both ends of a replication must speak the same.
	WithoutSnappy bool
	// ConsumerName is sent with the role Consumer: the node's identity in topologies, by which its acknowledgements of
	// durable writes are counted. Empty leaves it out.
	ConsumerName string
}

// dcpFeatures are what both ends of a replication must agree on; only compression may be refused.
var dcpFeatures = []mcbp.Feature{mcbp.FeatureXattr, mcbp.FeatureCollections, mcbp.FeatureSnappy, mcbp.FeatureJSON}

// Granted is what a node has agreed to beyond what is always needed.
type Granted struct {
	// Snappy: documents may be compressed.
	Snappy bool
}

// OpenDCP connects and opens a DCP connection. On the connection it returns, nothing beyond the answer to DCP_OPEN has been
// read, and no deadline is set. Errors are *[ConnectError]; nothing stays open then.
func OpenDCP(ctx context.Context, ep Endpoint, open DCPOpen) (net.Conn, error) {
	conn, _, err := NegotiateDCP(ctx, ep, open)
	return conn, err
}

// NegotiateDCP is [OpenDCP], and also tells what the node has agreed to.
func NegotiateDCP(ctx context.Context, ep Endpoint, open DCPOpen) (net.Conn, Granted, error) {
	ask := hello{
		agent:   "shearpin:proxy-" + open.Role.String() + "/" + open.Name,
		want:    dcpFeatures,
		mayLack: []mcbp.Feature{mcbp.FeatureSnappy},
	}
	if open.WithoutSnappy {
		ask.want = slices.DeleteFunc(slices.Clone(dcpFeatures), func(f mcbp.Feature) bool { return f == mcbp.FeatureSnappy })
	}
	h, err := connect(ctx, &ep, open.Bucket, ask)
	if err != nil {
		return nil, Granted{}, err
	}
	if err := h.step(ctx, StepDCPOpen, func(context.Context) error { return h.openDCP(open) }); err != nil {
		return nil, Granted{}, err
	}
	return h.conn, Granted{Snappy: slices.Contains(h.granted, mcbp.FeatureSnappy)}, nil
}

var errBadName = errors.New("connection name")

func (h *handshake) openDCP(open DCPOpen) error {
	if n := len(open.Name); n == 0 || n > mcbp.MaxConnectionNameLen {
		return fmt.Errorf("%w of %d bytes, want 1 to %d", errBadName, n, mcbp.MaxConnectionNameLen)
	}
	p := &mcbp.Packet{Opcode: mcbp.OpDCPOpen, Key: []byte(open.Name)}
	flags := mcbp.OpenFlagsReplicaConsumer
	switch {
	case open.Role == Producer:
		flags = mcbp.OpenFlagsReplicaProducer
	case open.ConsumerName != "":
		value, err := json.Marshal(map[string]string{"consumer_name": open.ConsumerName})
		if err != nil {
			return err
		}
		p.Value, p.Datatype = value, mcbp.DatatypeJSON
	}
	p.Extras = binary.BigEndian.AppendUint32(make([]byte, 4, 8), flags)
	_, err := h.roundTrip(p)
	return err
}

// Nuke makes the node forget the DCP connection of that name, with all its streams, whoever holds it: it opens a consumer of
// the name, which closes the older connection before it is answered, and closes it again.
//
// Nil says that the older connection can do nothing any more. If the OPEN is sent and not answered, because somebody opens the
// name again at the same time for example, the error wraps [ErrNukeUnanswered]: only an answer is proof. Nuke does not try
// again, since whoever has the name by then may have it by right. Errors wrap a *[ConnectError].
func Nuke(ctx context.Context, ep Endpoint, bucket, name string) error {
	conn, err := OpenDCP(ctx, ep, DCPOpen{Bucket: bucket, Name: name, Role: Consumer})
	if err != nil {
		if unanswered(err) {
			return fmt.Errorf("%w: %w", ErrNukeUnanswered, err)
		}
		return err
	}
	Abort(conn)
	return nil
}

// unanswered reports whether an OPEN was sent, and what came back was no answer.
func unanswered(err error) bool {
	var failed *ConnectError
	var refused *StatusError
	return errors.As(err, &failed) && failed.Step == StepDCPOpen && !errors.As(err, &refused) && !errors.Is(err, errBadName)
}
