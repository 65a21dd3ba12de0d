package kvnode

import (
	"encoding/binary"
	"strings"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// command acts on a request that is not for a DCP end. An error closes the connection.
func (c *conn) command(f mcbp.Frame) error {
	switch f.Opcode() {
	case mcbp.OpHello:
		c.hello(f)
	case mcbp.OpSASLListMechs:
		c.saslList(f)
	case mcbp.OpSASLAuth:
		c.saslAuth(f)
	case mcbp.OpSASLStep:
		c.saslStep(f)
	case mcbp.OpGetErrorMap:
		c.errorMap(f)
	case mcbp.OpNoop:
		c.answer(f, mcbp.StatusSuccess)
	case mcbp.OpVersion:
		p := mcbp.Response(f, mcbp.StatusSuccess)
		p.Value = []byte("shearpin")
		c.reply(p)
	case mcbp.OpQuit, mcbp.OpQuitQ:
		if !isQuiet(f.Opcode()) {
			c.answer(f, mcbp.StatusSuccess)
		}
		return errQuit
	default:
		if !c.authenticated {
			c.answer(f, mcbp.StatusNoAccess)
			return nil
		}
		c.nodeCommand(f)
	}
	return nil
}

// nodeCommand acts on requests that need an account but no bucket.
func (c *conn) nodeCommand(f mcbp.Frame) {
	switch f.Opcode() {
	case mcbp.OpSelectBucket:
		c.selectBucket(f)
	case mcbp.OpListBuckets:
		p := mcbp.Response(f, mcbp.StatusSuccess)
		p.Value = []byte(c.node.bucketNames())
		c.reply(p)
	case mcbp.OpCreateBucket:
		c.createBucket(f)
	case mcbp.OpDeleteBucket:
		c.answer(f, c.node.deleteBucket(string(f.Key()), c))
	case mcbp.OpSetClusterConfig:
		c.setClusterConfig(f)
	case mcbp.OpGetClusterConfig:
		c.getClusterConfig(f)
	default:
		b := c.bucket.Load()
		if b == nil {
			c.answer(f, mcbp.StatusNoBucket)
			return
		}
		c.bucketCommand(b, f)
	}
}

// bucketCommand acts on requests to the selected bucket.
func (c *conn) bucketCommand(b *bucket, f mcbp.Frame) {
	if b.warming() && !(f.Opcode() == mcbp.OpStat && string(f.Key()) == warmupGroup) {
		c.answer(f, mcbp.StatusTemporaryFailure)
		return
	}
	if f.Magic() == mcbp.MagicFramingRequest && !mayBeDurable(f.Opcode()) {
		if d, status := durabilityIn(f.FramingExtras()); d != nil || status == mcbp.StatusDurabilityInvalidLevel {
			c.answer(f, mcbp.StatusInvalid)
			return
		}
	}
	if c.documentCommand(b, f) {
		return
	}
	switch f.Opcode() {
	case mcbp.OpStat:
		c.stat(b, f)
	case mcbp.OpSetVBucket:
		c.setVBucket(b, f)
	case mcbp.OpGetVBucket:
		c.getVBucket(b, f)
	case mcbp.OpDelVBucket:
		c.delVBucket(b, f)
	case mcbp.OpGetAllVBSeqnos:
		c.allVBSeqnos(b, f)
	case mcbp.OpGetFailoverLog:
		c.failoverLog(b, f)
	case mcbp.OpObserveSeqno:
		c.observeSeqno(b, f)
	case mcbp.OpCollectionsManifest:
		c.collectionsManifest(f)
	case mcbp.OpGetCollectionID:
		c.collectionID(f)
	case mcbp.OpSeqnoPersistence:
		c.seqnoPersistence(b, f)
	case mcbp.OpEnableTraffic, mcbp.OpDisableTraffic:
		b.traffic.Store(f.Opcode() == mcbp.OpEnableTraffic)
		c.answer(f, mcbp.StatusSuccess)
	case mcbp.OpDCPOpen:
		c.openDCP(b, f)
	default:
		c.answer(f, mcbp.StatusUnknownCommand)
	}
}

// documentCommand acts on requests about one document, and reports whether f is one.
func (c *conn) documentCommand(b *bucket, f mcbp.Frame) bool {
	switch aloud(f.Opcode()) {
	case mcbp.OpGet, mcbp.OpGetK:
		c.get(b, f, (*vbucket).read)
	case mcbp.OpSet, mcbp.OpAdd, mcbp.OpReplace, mcbp.OpDelete:
		c.store(b, f)
	case mcbp.OpAppend, mcbp.OpPrepend:
		c.extend(b, f)
	case mcbp.OpIncrement, mcbp.OpDecrement:
		c.count(b, f)
	case mcbp.OpTouch, mcbp.OpGetAndTouch:
		c.touch(b, f)
	case mcbp.OpGetReplica:
		c.get(b, f, (*vbucket).readReplica)
	case mcbp.OpGetMeta:
		c.getMeta(b, f)
	default:
		return false
	}
	return true
}

// errorMap answers GET_ERROR_MAP. There is none for version 0, which is what DCP consumers ask their producers for.
func (c *conn) errorMap(f mcbp.Frame) {
	if len(f.Value()) != 2 || f.ExtrasLen() != 0 {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	if binary.BigEndian.Uint16(f.Value()) == 0 {
		c.answer(f, mcbp.StatusKeyNotFound)
		return
	}
	p := mcbp.Response(f, mcbp.StatusSuccess)
	p.Value = []byte(`{"version":2,"revision":1,"errors":{}}`)
	c.reply(p)
}

// selectBucket answers SELECT_BUCKET. A DCP connection keeps the bucket that it was opened on.
func (c *conn) selectBucket(f mcbp.Frame) {
	if c.end() != nil {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	status := mcbp.StatusSuccess
	if !c.node.selectBucket(c, string(f.Key())) {
		status = mcbp.StatusKeyNotFound
	}
	c.answer(f, status)
}

// createBucket answers CREATE_BUCKET: the key is the name, the value a module name, NUL, and "key=value" pairs between
// semicolons. Keys that mean nothing to this node are accepted; where its files lie is not for a client to say.
func (c *conn) createBucket(f mcbp.Frame) {
	module, config, ok := strings.Cut(string(f.Value()), "\x00")
	if !ok || module != "ep.so" {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	settings, ok := parseBucketConfig(config)
	if !ok {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	b, err := newBucket(c.node, string(f.Key()), settings.vbuckets, settings.quota, settings.traffic)
	if err != nil {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	status, err := c.node.addBucket(b)
	if err != nil {
		c.node.log.Error("bucket_not_created", "bucket", b.name, "err", err)
	}
	c.answer(f, status)
}
