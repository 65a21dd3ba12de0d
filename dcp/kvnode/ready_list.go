package kvnode

import "sync"

// readyList is the streams of a producer that may have something to send, first come first served. Its lock is innermost:
// streams are added while their vbucket is locked.
type readyList struct {
	mu   sync.Mutex
	list []*activeStream
	head int
}

func (r *readyList) push(s *activeStream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, s)
}

func (r *readyList) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.list) - r.head
}

// pop returns nil if nothing is ready.
func (r *readyList) pop() *activeStream {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.head == len(r.list) {
		return nil
	}
	s := r.list[r.head]
	r.list[r.head] = nil
	r.head++
	switch {
	case r.head == len(r.list):
		r.list, r.head = r.list[:0], 0
	case r.head > len(r.list)/2:
		n := copy(r.list, r.list[r.head:])
		clear(r.list[n:])
		r.list, r.head = r.list[:n], 0
	}
	return s
}
