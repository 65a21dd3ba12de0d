package kvnode

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
)

// A node that is down keeps its listener, so that nobody else gets the port: whoever connects is reset at once, and the
// restart only has to stop doing so. It keeps its directory too.

// ErrRunning is the error of what can only be done to a node that is down.
var ErrRunning = errors.New("kvnode: the node is running")

// Stop takes the node down in good order: its connections close, everything in memory goes to the disk, and the node
// returns when all of its goroutines but the listener's have ended. Restart brings it up again. Without a directory the
// buckets are gone. The error is the disk's. Stopping a node that is down does nothing.
func (n *Node) Stop() error {
	n.life.Lock()
	defer n.life.Unlock()
	return n.takeDown(true)
}

// Kill takes the node down as the end of its process would: what the disk does not have at this moment is lost, and its
// connections close as the system closes those of a process that has died. Restart finds what is on disk; without a directory
// that is nothing. Killing a node that is down does nothing.
func (n *Node) Kill() {
	n.life.Lock()
	defer n.life.Unlock()
	_ = n.takeDown(false) // what cannot be closed in order is no matter here
}

// Restart brings a node that is down up again, at the same address. It returns when the node listens; its buckets may
// warm up for a while yet, see [Node.Warm]. The error is [ErrRunning], [net.ErrClosed], or the disk's; the node stays down
// then.
func (n *Node) Restart() error {
	n.life.Lock()
	defer n.life.Unlock()
	if n.isClosed() {
		return fmt.Errorf("kvnode: node %q: %w", n.Name(), net.ErrClosed)
	}
	if !n.isDown() {
		return ErrRunning
	}
	if err := n.bringUp(); err != nil {
		return fmt.Errorf("kvnode: node %q: %w", n.Name(), err)
	}
	n.log.Info("node_restarted", "addr", n.Addr())
	return nil
}

// Wipe removes the buckets of a node that is down from the disk, as if it were new. The error is [ErrRunning] or the
// disk's.
func (n *Node) Wipe() error {
	n.life.Lock()
	defer n.life.Unlock()
	switch {
	case !n.isDown():
		return ErrRunning
	case n.disk == nil || n.isClosed():
		return nil
	}
	return n.disk.wipe()
}

// SetDiskRate changes how slow the disk is, as [Options] describe it, also for writes under way. It has no effect without
// a directory.
func (n *Node) SetDiskRate(bytesPerSecond int64) { n.pace.set(max(bytesPerSecond, DiskStalled)) }

func (n *Node) isDown() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.down
}

func (n *Node) isClosed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closed
}

// takeDown ends everything but the listener. The caller holds life.
func (n *Node) takeDown(flush bool) error {
	n.mu.Lock()
	if n.down {
		n.mu.Unlock()
		return nil
	}
	n.down = true
	conns := slices.Collect(maps.Keys(n.conns))
	n.mu.Unlock()

	buckets := n.allBuckets()
	if !flush {
		for _, b := range buckets {
			b.freeze()
		}
	}
	close(n.halted)
	for _, c := range conns {
		c.close()
	}
	for _, b := range buckets {
		b.cutWarmup()
	}
	n.wg.Wait()
	var err error
	for _, b := range n.allBuckets() { // but not those that a connection deleted at the last moment
		err = errors.Join(err, b.closeFile(flush))
	}
	n.mu.Lock()
	n.buckets, n.conns = map[string]*bucket{}, map[*conn]struct{}{}
	n.mu.Unlock()
	n.config.Store(nil)
	n.log.Info("node_stopped", "flushed", flush)
	return err
}

// bringUp reads what is on disk and begins to serve. The caller holds life, and the node is down.
func (n *Node) bringUp() error {
	buckets, err := n.findBuckets()
	if err != nil {
		return err
	}
	done, now := make(chan struct{}), n.opts.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.halted = done
	n.buckets = buckets
	n.down = false
	n.wg.Go(func() { n.housekeep(done, now) })
	for _, b := range buckets {
		n.wg.Go(b.warmUp)
	}
	return nil
}

// findBuckets opens every bucket that is on disk.
func (n *Node) findBuckets() (map[string]*bucket, error) {
	buckets := map[string]*bucket{}
	if n.disk == nil {
		return buckets, nil
	}
	files, err := n.disk.bucketFiles()
	for _, path := range files {
		var b *bucket
		if b, err = n.findBucket(path); err != nil {
			break
		}
		if b != nil {
			buckets[b.name] = b
		}
	}
	if err != nil {
		for _, b := range buckets {
			err = errors.Join(err, b.warmup.file.close())
		}
		return nil, err
	}
	return buckets, nil
}

// findBucket opens one bucket. A file whose creation was cut short goes, and is no bucket.
func (n *Node) findBucket(path string) (*bucket, error) {
	file, s, err := n.disk.open(path)
	if errors.Is(err, errNotABucket) {
		return nil, n.disk.remove(path)
	}
	if err != nil {
		return nil, err
	}
	b, err := newBucket(n, s.Name, s.VBuckets, s.Quota, s.Traffic)
	if err != nil {
		return nil, errors.Join(&CorruptError{path, err}, file.close())
	}
	b.flusher = newFlusher(b, file, n.pace)
	b.warmup = &warmup{file: file, quit: make(chan struct{}), done: make(chan struct{})}
	return b, nil
}

// createFile gives a new bucket its place on disk, and begins to flush it.
func (b *bucket) createFile() error {
	d := b.node.disk
	if d == nil {
		return nil
	}
	file, err := d.create(storedSettings{Name: b.name, VBuckets: len(b.vbs), Quota: b.quota, Traffic: b.traffic.Load()})
	if err != nil {
		return err
	}
	b.flusher = newFlusher(b, file, b.node.pace)
	go b.flusher.run()
	return nil
}

// freeze lets nothing further of the bucket reach the disk.
func (b *bucket) freeze() {
	if b.flusher != nil {
		b.cutWarmup()
		_ = b.flusher.end(false)
	}
}

// cutWarmup ends a warm-up early, and waits for that.
func (b *bucket) cutWarmup() {
	if b.warmup != nil {
		b.warmup.cut()
		<-b.warmup.done
	}
}

// closeFile ends the flusher and closes the file, if there is one.
func (b *bucket) closeFile(flush bool) error {
	if b.flusher == nil {
		return nil
	}
	b.cutWarmup()
	return errors.Join(b.flusher.end(flush), b.flusher.file.close())
}

// removeFile is closeFile for a bucket that is deleted.
func (b *bucket) removeFile() error {
	if b.flusher == nil {
		return nil
	}
	return errors.Join(b.closeFile(false), b.node.disk.remove(b.flusher.file.path))
}
