package interop

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/couchbase/gocbcore/v10"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// coreClient is a KV agent of gocbcore, made synchronous.
type coreClient struct {
	w     *world
	agent *gocbcore.Agent
}

func (w *world) coreAgent() *coreClient {
	w.t.Helper()
	return &coreClient{w, w.readyAgent(bucketName)}
}

// readyAgent connects with a bucket or, as SDKs do before they know which, without one.
func (w *world) readyAgent(bucket string) *gocbcore.Agent {
	w.t.Helper()
	agent, err := gocbcore.CreateAgent(&gocbcore.AgentConfig{
		BucketName: bucket,
		SeedConfig: gocbcore.SeedConfig{MemdAddrs: w.seeds()},
		SecurityConfig: gocbcore.SecurityConfig{
			Auth: gocbcore.PasswordAuthProvider{Username: user, Password: password},
		},
		IoConfig: gocbcore.IoConfig{
			UseMutationTokens: true, UseCollections: true, UseClusterMapNotifications: true,
		},
		DefaultRetryStrategy: gocbcore.NewBestEffortRetryStrategy(nil),
	})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = agent.Close() })
	ready := make(chan error, 1)
	_, err = agent.WaitUntilReady(time.Now().Add(patience), gocbcore.WaitUntilReadyOptions{
		ServiceTypes: []gocbcore.ServiceType{gocbcore.MemdService},
	}, func(_ *gocbcore.WaitUntilReadyResult, err error) { ready <- err })
	require.NoError(w.t, err)
	require.NoError(w.t, <-ready)
	return agent
}

// deadline is that of an operation: far longer than any move takes, so that reaching it is a failure.
func (w *world) deadline() time.Time { return time.Now().Add(patience / 2) }

func (c *coreClient) set(key, value string) error {
	done := make(chan error, 1)
	_, err := c.agent.Set(gocbcore.SetOptions{Key: []byte(key), Value: []byte(value), Deadline: c.w.deadline()},
		func(r *gocbcore.StoreResult, err error) {
			if err == nil && (r.MutationToken.SeqNo == 0 || r.MutationToken.VbID != vbucketOf(key)) {
				err = errors.New("no mutation token")
			}
			done <- err
		})
	if err != nil {
		return err
	}
	return <-done
}

func (c *coreClient) remove(key string) error {
	done := make(chan error, 1)
	_, err := c.agent.Delete(gocbcore.DeleteOptions{Key: []byte(key), Deadline: c.w.deadline()},
		func(_ *gocbcore.DeleteResult, err error) { done <- err })
	if err != nil {
		return err
	}
	return <-done
}

func (c *coreClient) get(key string) (value string, found bool, err error) {
	done := make(chan error, 1)
	_, err = c.agent.Get(gocbcore.GetOptions{Key: []byte(key), Deadline: c.w.deadline()},
		func(r *gocbcore.GetResult, err error) {
			if err == nil {
				value, found = string(r.Value), true
			}
			done <- err
		})
	if err == nil {
		err = <-done
	}
	if errors.Is(err, gocbcore.ErrDocumentNotFound) {
		err = nil
	}
	return value, found, err
}

func TestTheKVAgentOfGocbcoreWritesThroughRebalances(t *testing.T) {
	w := newWorld(t)
	c := w.coreAgent()
	written := w.writeThroughRebalances(c)
	w.requireWritten(c, written)
	w.requireWritten(w.coreAgent(), written)
}

// Before they choose a bucket, clients learn from the nodes which nodes there are, and go on learning.
func TestAnAgentWithoutABucketFollowsTheListOfNodes(t *testing.T) {
	w := newWorld(t)
	agent := w.readyAgent("")
	assert.True(t, agent.UsingGCCCP())
	require.Len(t, agent.MemdEps(), 3)
	w.rebalance()
	want := []string{w.nodes["n1"].Addr(), w.nodes["n2"].Addr(), w.nodes["n3"].Addr()}
	require.Eventually(t, func() bool {
		var got []string
		for _, endpoint := range agent.MemdEps() {
			got = append(got, strings.TrimPrefix(endpoint, "couchbase://"))
		}
		slices.Sort(got)
		slices.Sort(want)
		return slices.Equal(want, got)
	}, patience, 10*time.Millisecond, "it never heard of who came and who went")
}
