package actors

// Enrolled counts the processes that have not taken the last step of their exit.
func (s *System) Enrolled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.processes.n
}
