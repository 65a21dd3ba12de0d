package rebalance

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// nodeKV is what this package asks of one KV node, for one bucket. Its methods may be called from any goroutine; a
// connection that breaks fails the calls on it and is made again by the next one.
type nodeKV interface {
	SetVBucket(ctx context.Context, vb uint16, state mcbp.VBucketState, topology [][]string) error
	VBucketState(ctx context.Context, vb uint16) (mcbp.VBucketState, error)
	DeleteVBucket(ctx context.Context, vb uint16) error
	VBuckets(ctx context.Context) (map[uint16]kv.VBucketInfo, error)
	VBucketSeqno(ctx context.Context, vb uint16) (kv.SeqnoInfo, error)
	SeqnoPersistence(ctx context.Context, vb uint16, seqno uint64) error
	TakeoverEstimate(ctx context.Context, vb uint16, conn string) (kv.Estimate, error)
	Stats(ctx context.Context, group string, each func(key, value string)) error
	FailoverLog(ctx context.Context, vb uint16) ([]kv.FailoverEntry, error)
	CreateBucket(ctx context.Context, name, config string) error
	EnableTraffic(ctx context.Context) error
	// Admits reports whether EnableTraffic has succeeded on the present connection. It says nothing about what others did, and
	// an engine that was started again admits nobody.
	Admits(ctx context.Context) (bool, error)
	SetClusterConfig(ctx context.Context, bucket string, epoch, rev int64, config []byte) error
	// ClusterConfig is the configuration of the bucket that was published last.
	ClusterConfig(ctx context.Context) ([]byte, error)
	// Reset closes the connection, so that every call on it fails.
	Reset()
	Close() error
}

// sessionKV is a nodeKV over a session: one connection, made when it is needed.
type sessionKV struct {
	session *kv.Session
	// admitted is the connection on which clients were let in.
	admitted *atomic.Pointer[kv.Client]
}

func newSessionKV(endpoint kv.Endpoint, bucket string, log *slog.Logger) nodeKV {
	return sessionKV{kv.NewSession(endpoint, bucket, log), new(atomic.Pointer[kv.Client])}
}

// through calls f with the live client.
func through[T any](ctx context.Context, s *kv.Session, f func(*kv.Client) (T, error)) (value T, err error) {
	client, err := s.Client(ctx)
	if err != nil {
		return value, err
	}
	return f(client)
}

func (s sessionKV) do(ctx context.Context, f func(*kv.Client) error) error {
	_, err := through(ctx, s.session, func(c *kv.Client) (struct{}, error) { return struct{}{}, f(c) })
	return err
}

func (s sessionKV) SetVBucket(ctx context.Context, vb uint16, state mcbp.VBucketState, topology [][]string) error {
	return s.do(ctx, func(c *kv.Client) error { return c.SetVBucket(ctx, vb, state, topology) })
}

func (s sessionKV) VBucketState(ctx context.Context, vb uint16) (mcbp.VBucketState, error) {
	return through(ctx, s.session, func(c *kv.Client) (mcbp.VBucketState, error) { return c.VBucketState(ctx, vb) })
}

func (s sessionKV) DeleteVBucket(ctx context.Context, vb uint16) error {
	return s.do(ctx, func(c *kv.Client) error { return c.DeleteVBucket(ctx, vb) })
}

func (s sessionKV) VBuckets(ctx context.Context) (map[uint16]kv.VBucketInfo, error) {
	return through(ctx, s.session, func(c *kv.Client) (map[uint16]kv.VBucketInfo, error) { return c.VBuckets(ctx) })
}

func (s sessionKV) VBucketSeqno(ctx context.Context, vb uint16) (kv.SeqnoInfo, error) {
	return through(ctx, s.session, func(c *kv.Client) (kv.SeqnoInfo, error) { return c.VBucketSeqno(ctx, vb) })
}

func (s sessionKV) SeqnoPersistence(ctx context.Context, vb uint16, seqno uint64) error {
	return s.do(ctx, func(c *kv.Client) error { return c.SeqnoPersistence(ctx, vb, seqno) })
}

func (s sessionKV) TakeoverEstimate(ctx context.Context, vb uint16, conn string) (kv.Estimate, error) {
	return through(ctx, s.session, func(c *kv.Client) (kv.Estimate, error) { return c.TakeoverEstimate(ctx, vb, conn) })
}

func (s sessionKV) FailoverLog(ctx context.Context, vb uint16) ([]kv.FailoverEntry, error) {
	return through(ctx, s.session, func(c *kv.Client) ([]kv.FailoverEntry, error) { return c.FailoverLog(ctx, vb) })
}

func (s sessionKV) CreateBucket(ctx context.Context, name, config string) error {
	return s.do(ctx, func(c *kv.Client) error { return c.CreateBucket(ctx, name, config) })
}

func (s sessionKV) EnableTraffic(ctx context.Context) error {
	return s.do(ctx, func(c *kv.Client) error {
		err := c.EnableTraffic(ctx)
		if err == nil {
			s.admitted.Store(c)
		}
		return err
	})
}

func (s sessionKV) Admits(ctx context.Context) (bool, error) {
	return through(ctx, s.session, func(c *kv.Client) (bool, error) { return s.admitted.Load() == c, nil })
}

func (s sessionKV) SetClusterConfig(ctx context.Context, bucket string, epoch, rev int64, config []byte) error {
	return s.do(ctx, func(c *kv.Client) error { return c.SetClusterConfig(ctx, bucket, epoch, rev, config) })
}

func (s sessionKV) ClusterConfig(ctx context.Context) ([]byte, error) {
	return through(ctx, s.session, func(c *kv.Client) ([]byte, error) { return c.ClusterConfig(ctx) })
}

func (s sessionKV) Reset() { s.session.Reset() }

func (s sessionKV) Close() error { return s.session.Close() }

// engineConfig is what CREATE_BUCKET needs (kv-observed, Administration). Client traffic is let in only once the vbuckets are there.
func engineConfig(b BucketConfig) string {
	directory := b.Directory + "/" + b.Name
	return fmt.Sprintf("max_size=%d;backend=couchdb;couch_bucket=%s;max_vbuckets=%d;dbname=%s;"+
		"data_traffic_enabled=false;bucket_type=persistent;item_eviction_policy=value_only;compression_mode=passive;"+
		"conflict_resolution_type=seqno;failpartialwarmup=false;alog_path=%s/access.log;"+
		"ht_locks=47;max_num_shards=4;max_num_workers=3",
		b.QuotaBytes, b.Name, b.VBuckets, directory, directory)
}
