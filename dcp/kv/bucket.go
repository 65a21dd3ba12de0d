package kv

import (
	"context"
	"encoding/binary"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// engine is the storage engine of the buckets we create.
const engine = "ep.so"

// CreateBucket creates a bucket. config is the engine's `key=value;…` list (kv-observed, Administration). A bucket that
// exists is a [StatusError] with mcbp.StatusKeyExists.
func (c *Client) CreateBucket(ctx context.Context, name, config string) error {
	_, err := c.request(ctx, &mcbp.Packet{
		Opcode: mcbp.OpCreateBucket, Key: []byte(name), Value: []byte(engine + "\x00" + config),
	})
	return err
}

// SelectBucket changes the bucket that all later requests of this connection are about, also those of other goroutines.
func (c *Client) SelectBucket(ctx context.Context, name string) error {
	_, err := c.request(ctx, &mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte(name)})
	return err
}

// EnableTraffic lets clients in. While the bucket warms up that is a [StatusError] with mcbp.StatusTemporaryFailure.
func (c *Client) EnableTraffic(ctx context.Context) error {
	_, err := c.request(ctx, &mcbp.Packet{Opcode: mcbp.OpEnableTraffic})
	return err
}

// SetClusterConfig publishes a bucket's cluster map, as JSON, for the node to hand to clients. Nodes do not compare
// revisions, so whoever publishes must see to it that (epoch, rev) grows.
func (c *Client) SetClusterConfig(ctx context.Context, bucket string, epoch, rev int64, config []byte) error {
	extras := binary.BigEndian.AppendUint64(nil, uint64(epoch))
	extras = binary.BigEndian.AppendUint64(extras, uint64(rev))
	_, err := c.request(ctx, &mcbp.Packet{
		Opcode: mcbp.OpSetClusterConfig, Datatype: mcbp.DatatypeJSON, Key: []byte(bucket), Extras: extras, Value: config,
	})
	return err
}

// ClusterConfig is the cluster map that was published last on the node.
func (c *Client) ClusterConfig(ctx context.Context) ([]byte, error) {
	f, err := c.request(ctx, &mcbp.Packet{Opcode: mcbp.OpGetClusterConfig})
	if err != nil {
		return nil, err
	}
	return f.Value(), nil
}
