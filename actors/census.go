package actors

import "context"

// Whereis returns the living process that holds a name, or nil. Every method of a nil PID behaves as that of a dead
// process.
func (s *System) Whereis(name string) *PID {
	s.mu.Lock()
	defer s.mu.Unlock()
	holder := s.names[name]
	if !holder.Alive() {
		// Who asks after a dead process is told so at once, and may be here before the name is taken off the list.
		return nil
	}
	return holder
}

// Processes returns the living processes in the order of their start.
func (s *System) Processes() []*PID {
	s.mu.Lock()
	defer s.mu.Unlock()
	alive := make([]*PID, 0, s.processes.n)
	for n := s.processes.first; n != nil; n = n.next {
		if n.item.Alive() {
			alive = append(alive, n.item)
		}
	}
	return alive
}

// Lingering returns how many callbacks and goroutines are still running of processes that are dead. Go cannot end a
// goroutine from outside: a killed process whose callback does not return stays here until it does.
func (s *System) Lingering() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lingering
}

// Close kills every process, refuses further starts, and waits until nothing of the system runs any more: callbacks,
// goroutines started by [Context.Go]. If ctx ends first, it returns a *CloseError; Close may then be called again. It must
// not be called from a process of the system. It is not the way to end a supervision tree, which would want to stop in its
// own order: stop the topmost supervisor before.
func (s *System) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	// Oldest first: a supervisor that survived its children would try to restart them.
	for _, p := range s.Processes() {
		p.exit(Killed)
	}
	s.mu.Lock()
	s.checkEmptied()
	s.mu.Unlock()
	select {
	case <-s.emptied:
	case <-ctx.Done():
		return &CloseError{s.Lingering(), context.Cause(ctx)}
	}
	s.stopEngine()
	return nil
}

// enrol makes p part of the system, under its name if it has one, and lets it begin. The first message is in the mailbox
// before anybody can find p by its name, so nothing can overtake Init.
func (s *System) enrol(p *PID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrSystemClosed
	case !p.Alive():
		return p.reason // its starter has died
	case p.name != "":
		// A holder that is dead has its name freed next; there is no need to wait for it.
		if holder := s.names[p.name]; holder.Alive() {
			return &AlreadyStartedError{Name: p.name, PID: holder}
		}
		s.names[p.name] = p
	}
	s.processes.push(&p.place, p)
	p.post(ours, boot{})
	return nil
}

// freeName makes p's name available, unless another process has it already.
func (s *System) freeName(p *PID) {
	if p.name == "" {
		return
	}
	s.mu.Lock()
	if s.names[p.name] == p {
		delete(s.names, p.name)
	}
	s.mu.Unlock()
}

// dismiss ends p's part in the system.
func (s *System) dismiss(p *PID) {
	s.detach(p)
	s.mu.Lock()
	s.processes.remove(&p.place)
	s.checkEmptied()
	s.mu.Unlock()
}

// linger counts n more (or, negative, fewer) callbacks and goroutines that outlive their process.
func (s *System) linger(n int) {
	s.mu.Lock()
	s.lingering += n
	s.checkEmptied()
	s.mu.Unlock()
}

// checkEmptied wakes Close. Called with mu held.
func (s *System) checkEmptied() {
	if !s.closed || s.processes.n > 0 || s.lingering > 0 {
		return
	}
	select {
	case <-s.emptied:
	default:
		close(s.emptied)
	}
}
