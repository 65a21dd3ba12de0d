package kvnode

import "sync"

// pauseGate holds up whoever passes it while it is shut.
type pauseGate struct {
	mu sync.Mutex
	// shut is closed when the gate opens; nil while it is open.
	shut chan struct{}
}

// Pause makes the node behave like a process that was stopped: connections are accepted by nobody but the kernel, frames are
// neither acted on nor sent, nothing goes to the disk, and no clock of the node runs, until Resume, also across a restart.
// Frames that are being acted on are finished. A paused node can be stopped, killed and closed. A second Pause does nothing.
func (n *Node) Pause() { n.pause() }

// pause returns what ends this pause, and no other. It is nil if the node was paused already.
func (n *Node) pause() (resume func()) {
	n.gate.mu.Lock()
	defer n.gate.mu.Unlock()
	if n.gate.shut != nil {
		return nil
	}
	shut := make(chan struct{})
	n.gate.shut = shut
	n.paused.Store(true)
	n.log.Info("node_paused")
	return func() { n.resume(shut) }
}

// Resume ends a pause, whoever asked for it. On a node that is not paused it does nothing.
func (n *Node) Resume() { n.resume(nil) }

// resume ends one pause; nil is whichever there is.
func (n *Node) resume(one chan struct{}) {
	n.gate.mu.Lock()
	defer n.gate.mu.Unlock()
	if n.gate.shut == nil || one != nil && one != n.gate.shut {
		return
	}
	n.paused.Store(false)
	close(n.gate.shut)
	n.gate.shut = nil
	n.log.Info("node_resumed")
}

// waitResumed returns when the node is not paused, or done is closed.
func (n *Node) waitResumed(done <-chan struct{}) {
	for n.paused.Load() {
		n.gate.mu.Lock()
		shut := n.gate.shut
		n.gate.mu.Unlock()
		if shut == nil {
			return
		}
		select {
		case <-shut:
		case <-done:
			return
		}
	}
}
