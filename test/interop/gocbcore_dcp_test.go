package interop

import (
	"errors"
	"testing"
	"time"

	"github.com/couchbase/gocbcore/v10"
	"github.com/couchbase/gocbcore/v10/memd"
	"github.com/stretchr/testify/require"
)

// coreConsumer follows all vbuckets with a DCP agent of gocbcore. The agent knows where a vbucket is and asks again if it was
// wrong; it does not open a stream again that has ended: we do.
type coreConsumer struct {
	*tracker
	w     *world
	agent *gocbcore.DCPAgent
	// ended has room for every vbucket: each has at most one stream, or request for one.
	ended chan uint16
	stop  chan struct{}
	done  chan struct{}
}

func (w *world) coreConsumer(name string) *coreConsumer {
	w.t.Helper()
	agent, err := gocbcore.CreateDcpAgent(&gocbcore.DCPAgentConfig{
		BucketName: bucketName,
		SeedConfig: gocbcore.SeedConfig{MemdAddrs: w.seeds()},
		SecurityConfig: gocbcore.SecurityConfig{
			Auth: gocbcore.PasswordAuthProvider{Username: user, Password: password},
		},
		IoConfig:             gocbcore.IoConfig{UseCollections: true, UseClusterMapNotifications: true},
		EnableCCCPPoller:     true,
		DefaultRetryStrategy: gocbcore.NewBestEffortRetryStrategy(nil),
	}, name, memd.DcpOpenFlagProducer)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = agent.Close() })
	ready := make(chan error, 1)
	_, err = agent.WaitUntilReady(time.Now().Add(patience), gocbcore.WaitUntilReadyOptions{},
		func(_ *gocbcore.WaitUntilReadyResult, err error) { ready <- err })
	require.NoError(w.t, err)
	require.NoError(w.t, <-ready)

	c := &coreConsumer{
		tracker: newTracker(), w: w, agent: agent,
		ended: make(chan uint16, vbuckets), stop: make(chan struct{}), done: make(chan struct{}),
	}
	for vb := range uint16(vbuckets) {
		c.ended <- vb
	}
	go c.run()
	w.t.Cleanup(func() {
		close(c.stop)
		<-c.done
	})
	return c
}

// run opens streams until it is stopped.
func (c *coreConsumer) run() {
	defer close(c.done)
	for {
		select {
		case vb := <-c.ended:
			c.open(vb)
		case <-c.stop:
			return
		}
	}
}

func (c *coreConsumer) open(vb uint16) {
	r := c.resume(vb)
	_, err := c.agent.OpenStream(vb, memd.DcpStreamAddFlagActiveOnly, gocbcore.VbUUID(r.uuid),
		gocbcore.SeqNo(r.start), gocbcore.SeqNo(^uint64(0)), gocbcore.SeqNo(r.snapStart), gocbcore.SeqNo(r.snapEnd),
		c, gocbcore.OpenStreamOptions{}, func(log []gocbcore.FailoverEntry, err error) {
			var back gocbcore.DCPRollbackError
			switch {
			case err == nil:
				entries := make([]entry, len(log))
				for i, e := range log {
					entries[i] = entry{uint64(e.VbUUID), uint64(e.SeqNo)}
				}
				c.opened(vb, entries)
			case errors.As(err, &back):
				c.rollback(vb, uint64(back.SeqNo))
				c.ended <- vb
			default:
				c.failed(vb, err)
			}
		})
	if err != nil {
		c.failed(vb, err)
	}
}

// failed notes that a stream could not be opened, unless all is over.
func (c *coreConsumer) failed(vb uint16, err error) {
	select {
	case <-c.stop:
	default:
		c.failf("vb %d: %v", vb, err)
	}
}

func (c *coreConsumer) SnapshotMarker(m gocbcore.DcpSnapshotMarker) {
	c.marker(m.VbID, m.StartSeqNo, m.EndSeqNo)
}

func (c *coreConsumer) Mutation(m gocbcore.DcpMutation) {
	c.document(m.VbID, string(m.Key), version{seqno: m.SeqNo})
}

func (c *coreConsumer) Deletion(m gocbcore.DcpDeletion) {
	c.document(m.VbID, string(m.Key), version{seqno: m.SeqNo, deleted: true})
}

// End opens the stream again, wherever the vbucket is then.
func (c *coreConsumer) End(end gocbcore.DcpStreamEnd, _ error) { c.ended <- end.VbID }

func (c *coreConsumer) Expiration(m gocbcore.DcpExpiration) { c.failf("vb %d: an expiration", m.VbID) }

func (c *coreConsumer) CreateCollection(m gocbcore.DcpCollectionCreation) {
	c.failf("vb %d: a collection", m.VbID)
}

func (c *coreConsumer) DeleteCollection(m gocbcore.DcpCollectionDeletion) {
	c.failf("vb %d: a collection", m.VbID)
}

func (c *coreConsumer) FlushCollection(m gocbcore.DcpCollectionFlush) {
	c.failf("vb %d: a collection", m.VbID)
}

func (c *coreConsumer) CreateScope(m gocbcore.DcpScopeCreation) { c.failf("vb %d: a scope", m.VbID) }

func (c *coreConsumer) DeleteScope(m gocbcore.DcpScopeDeletion) { c.failf("vb %d: a scope", m.VbID) }

func (c *coreConsumer) ModifyCollection(m gocbcore.DcpCollectionModification) {
	c.failf("vb %d: a collection", m.VbID)
}

func (c *coreConsumer) OSOSnapshot(m gocbcore.DcpOSOSnapshot) { c.failf("vb %d: out of order", m.VbID) }

func (c *coreConsumer) SeqNoAdvanced(m gocbcore.DcpSeqNoAdvanced) { c.advanced(m.VbID, m.SeqNo) }

func TestTheDCPAgentOfGocbcoreSeesEverySeqno(t *testing.T) {
	w := newWorld(t)
	consumer := w.coreConsumer("interop-gocbcore")
	w.writeThroughRebalances(w.coreAgent())
	w.requireFollowed(consumer.tracker)
	w.requireLate(w.coreConsumer("interop-gocbcore-late").tracker)
}

func TestTheDCPAgentOfGocbcoreRollsBackAfterAFailover(t *testing.T) {
	w := newWorld(t)
	w.failover(w.coreConsumer("interop-gocbcore").tracker, w.coreAgent())
}
