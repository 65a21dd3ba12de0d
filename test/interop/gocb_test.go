package interop

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/couchbase/gocb/v2"
	"github.com/stretchr/testify/require"
)

// sdkClient is the default collection of a bucket, as applications use it.
type sdkClient struct{ collection *gocb.Collection }

// sdk connects as applications do: to the cluster first, and then to a bucket.
func (w *world) sdk() sdkClient {
	w.t.Helper()
	return w.sdkBy("couchbase", gocb.SecurityConfig{})
}

func (w *world) sdkBy(scheme string, security gocb.SecurityConfig) sdkClient {
	w.t.Helper()
	cluster, err := gocb.Connect(scheme+"://"+strings.Join(w.seeds(), ","), gocb.ClusterOptions{
		Username: user, Password: password, SecurityConfig: security,
		// Far longer than any move takes, so that reaching it is a failure.
		TimeoutsConfig:     gocb.TimeoutsConfig{KVTimeout: patience / 2, ConnectTimeout: patience / 2},
		AppTelemetryConfig: gocb.AppTelemetryConfig{Disabled: true},
	})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = cluster.Close(nil) })
	bucket := cluster.Bucket(bucketName)
	require.NoError(w.t, bucket.WaitUntilReady(patience/2, &gocb.WaitUntilReadyOptions{
		Context: w.ctx, ServiceTypes: []gocb.ServiceType{gocb.ServiceTypeKeyValue},
	}))
	return sdkClient{bucket.DefaultCollection()}
}

func (c sdkClient) set(key, value string) error {
	r, err := c.collection.Upsert(key, json.RawMessage(value), nil)
	if err != nil {
		return err
	}
	if token := r.MutationToken(); token == nil || token.SequenceNumber() == 0 || token.BucketName() != bucketName {
		return errors.New("no mutation token")
	}
	return nil
}

func (c sdkClient) remove(key string) error {
	_, err := c.collection.Remove(key, nil)
	return err
}

func (c sdkClient) get(key string) (value string, found bool, err error) {
	r, err := c.collection.Get(key, nil)
	if errors.Is(err, gocb.ErrDocumentNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	var content json.RawMessage
	if err := r.Content(&content); err != nil {
		return "", false, err
	}
	return string(content), true, nil
}

func TestTheSDKWritesThroughRebalances(t *testing.T) {
	w := newWorld(t)
	c := w.sdk()
	written := w.writeThroughRebalances(c)
	w.requireWritten(c, written)
	w.requireWritten(w.sdk(), written)
}

// The node has no commands for parts of documents, and says so at once.
func TestTheSDKIsToldThatThereAreNoPartsOfDocuments(t *testing.T) {
	w := newWorld(t)
	c := w.sdk()
	require.NoError(t, c.set("k", `{"a":1}`))
	_, err := c.collection.LookupIn("k", []gocb.LookupInSpec{gocb.GetSpec("a", nil)}, nil)
	require.ErrorIs(t, err, gocb.ErrUnsupportedOperation)
	_, err = c.collection.MutateIn("k", []gocb.MutateInSpec{gocb.UpsertSpec("a", 2, nil)}, nil)
	require.ErrorIs(t, err, gocb.ErrUnsupportedOperation)
	require.NoError(t, check(c, "k", `{"a":1}`))
}
