package kvnode

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

const (
	maxBucketNameLen = 100
	maxVBuckets      = 65536
	// defaultQuota is the memory quota, in bytes, of a bucket that is created without one.
	defaultQuota = 256 << 20
	// maxQuota, in bytes, is more than there is memory. What is reckoned with it fits into an int64.
	maxQuota = 1 << 50
)

// bucket is a named set of vbuckets and the DCP connections that replicate them.
type bucket struct {
	node  *Node
	name  string
	quota int64
	// memory is what the items take, in bytes, by their own account.
	memory atomic.Int64
	// undecided counts the durable writes that somebody waits for.
	undecided atomic.Int64
	// traffic says whether clients may read and write documents yet.
	traffic atomic.Bool
	config  atomic.Pointer[clusterConfig]
	vbs     []atomic.Pointer[vbucket]
	// flusher brings what changes to disk; nil without one. warmup is what a restart has to do first, nil in a new bucket.
	flusher *flusher
	warmup  *warmup

	// admin serialises the commands that create, change and delete vbuckets.
	admin sync.Mutex

	mu sync.Mutex
	// dcp holds the open DCP connections by name; consumers counts those that are consumers.
	dcp       map[string]*conn
	consumers int
	closed    bool
}

func newBucket(n *Node, name string, vbuckets int, quota int64, traffic bool) (*bucket, error) {
	switch {
	case name == "" || len(name) > maxBucketNameLen:
		return nil, fmt.Errorf("kvnode: bucket name of %d bytes, not 1 to %d", len(name), maxBucketNameLen)
	case !utf8.ValidString(name): // which JSON, on disk, would not give back
		return nil, fmt.Errorf("kvnode: bucket name %q is not UTF-8", name)
	case vbuckets < 1 || vbuckets > maxVBuckets:
		return nil, fmt.Errorf("kvnode: bucket %q with %d vbuckets, not 1 to %d", name, vbuckets, maxVBuckets)
	case quota < 0 || quota > maxQuota:
		return nil, fmt.Errorf("kvnode: bucket %q with a quota of %d bytes, not 0 to %d", name, quota, int64(maxQuota))
	}
	if quota == 0 {
		quota = defaultQuota
	}
	b := &bucket{node: n, name: name, quota: quota, vbs: make([]atomic.Pointer[vbucket], vbuckets), dcp: map[string]*conn{}}
	b.traffic.Store(traffic)
	return b, nil
}

// vb returns the copy of a vbucket, or nil if there is none here.
func (b *bucket) vb(id uint16) *vbucket {
	if int(id) >= len(b.vbs) {
		return nil
	}
	return b.vbs[id].Load()
}

// member is the name of the bucket's copies in topologies.
func (b *bucket) member() string {
	if b.node == nil {
		return ""
	}
	return b.node.opts.Name
}

// setVBucket creates a copy or changes its state.
func (b *bucket) setVBucket(id uint16, state mcbp.VBucketState, topology []byte) mcbp.Status {
	if int(id) >= len(b.vbs) {
		return mcbp.StatusRange
	}
	b.admin.Lock()
	defer b.admin.Unlock()
	v := b.vbs[id].Load()
	from := mcbp.VBucketMissing
	if v == nil {
		v = newVBucket(b, id, state)
		v.topology = topology
		b.vbs[id].Store(v)
		v.mu.Lock()
		v.changed()
		v.roleChanged()
		v.mu.Unlock()
	} else {
		v.mu.Lock()
		from = v.state
		v.setState(state, topology, false)
		v.mu.Unlock()
	}
	if from != state {
		b.node.log.Debug("vbucket_state_set", "bucket", b.name, "vb", id, "from", from.String(), "to", state.String())
	}
	return mcbp.StatusSuccess
}

func (b *bucket) deleteVBucket(id uint16) mcbp.Status {
	b.admin.Lock()
	defer b.admin.Unlock()
	v := b.vb(id)
	if v == nil {
		return mcbp.StatusNotMyVBucket
	}
	b.vbs[id].Store(nil)
	v.mu.Lock()
	v.destroy()
	v.mu.Unlock()
	b.node.log.Debug("vbucket_deleted", "bucket", b.name, "vb", id)
	return mcbp.StatusSuccess
}

// openDCP enters a connection under its name. The connection that had the name before has lost its streams, and can
// change nothing any more, when openDCP returns: this is what makes opening a name a fence against its older holder. It
// reports false if the bucket is being deleted.
func (b *bucket) openDCP(c *conn, end dcpEnd) bool {
	name := end.connection().Name
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return false
	}
	older := b.dcp[name]
	b.dcp[name] = c
	b.countConsumer(end, 1)
	b.mu.Unlock()
	if older != nil {
		b.node.log.Info("dcp_connection_replaced", "bucket", b.name, "conn", name)
		older.end().shut()
		older.close()
	}
	b.consumersChanged()
	return true
}

// closeDCP forgets a connection that has ended, unless its name is another's by now.
func (b *bucket) closeDCP(c *conn, end dcpEnd) {
	name := end.connection().Name
	b.mu.Lock()
	if b.dcp[name] == c {
		delete(b.dcp, name)
	}
	b.countConsumer(end, -1)
	b.mu.Unlock()
	b.consumersChanged()
}

func (b *bucket) countConsumer(end dcpEnd, by int) {
	if end.connection().Role == RoleConsumer {
		b.consumers += by
	}
}

// connections lists the DCP connections in the order of their names.
func (b *bucket) connections() []*conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]string, 0, len(b.dcp))
	for name := range b.dcp {
		names = append(names, name)
	}
	slices.Sort(names)
	list := make([]*conn, len(names))
	for i, name := range names {
		list[i] = b.dcp[name]
	}
	return list
}

func (b *bucket) connection(name string) *conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dcp[name]
}

const (
	// minConsumerBuffer keeps many consumers of a small bucket from stalling on tiny buffers.
	minConsumerBuffer = 64 << 10
	// minConsumerBuffer72 is what an older engine gives each of them at least.
	minConsumerBuffer72 = 10 << 20
)

// consumerBuffer is the flow-control buffer of each consumer connection, in bytes: a twentieth of the quota, shared
// among the bucket's consumers (dcp-wire §8).
func (b *bucket) consumerBuffer() uint32 {
	b.mu.Lock()
	n := max(b.consumers, 1)
	b.mu.Unlock()
	share := float64(b.quota) / 20 / float64(n)
	if b.node.opts.Version == Version72 {
		return uint32(min(max(share, minConsumerBuffer72), math.MaxUint32))
	}
	return uint32(min(max(math.Round(share), minConsumerBuffer), math.MaxUint32))
}

// consumersChanged lets every consumer advertise its new share of the buffer.
func (b *bucket) consumersChanged() {
	for _, c := range b.connections() {
		if end, ok := c.end().(*consumer); ok {
			end.resized()
		}
	}
}

// shut ends the bucket: its connections close without a word, and its documents go, from the disk too. The error is that
// of the disk.
func (b *bucket) shut() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	for _, c := range b.connections() {
		c.end().shut()
		c.close()
	}
	err := b.removeFile()
	b.admin.Lock()
	defer b.admin.Unlock()
	for i := range b.vbs {
		if v := b.vbs[i].Swap(nil); v != nil {
			v.mu.Lock()
			v.destroy()
			v.mu.Unlock()
		}
	}
	return err
}
