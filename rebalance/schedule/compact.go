package schedule

// Compactions returns the nodes that are to be compacted now: those that handed over or took as many actives as they
// may without, and those that began to and have no more to come, as soon as none of their moves is in flight. They take
// part in no move as old or new active until [Schedule.CompactionDone] is called for them. Where compactions are wanted
// it is called before each Next; without [Limits.MovesPerCompaction] there are none.
func (s *Schedule) Compactions() []string {
	if s.limits.MovesPerCompaction <= 0 {
		return nil
	}
	var due []string
	for number := range s.nodes {
		n := &s.nodes[number]
		begun := n.countdown < s.limits.group() && n.handovers == 0
		if n.moves > 0 || n.compacting || n.countdown > 0 && !begun {
			continue
		}
		n.compacting = true
		n.countdown = s.limits.group()
		due = append(due, s.names[number])
	}
	return due
}

// CompactionDone says that a node which [Schedule.Compactions] named has been compacted.
func (s *Schedule) CompactionDone(name string) {
	number, ok := s.numbers[name]
	if !ok || !s.nodes[number].compacting {
		panic("schedule: node " + name + " is not being compacted")
	}
	s.nodes[number].compacting = false
	s.free(number)
}
