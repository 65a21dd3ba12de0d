package schedule

// Move takes one vbucket from its old chain to its new one. Members may be empty: nobody.
type Move struct {
	VB       int
	Old, New []string
}

// Limits bound what runs at the same time. The zero value has the reference's defaults.
type Limits struct {
	// BackfillsPerNode is how many backfills may involve one node; 0 means 4.
	BackfillsPerNode int
	// MovesPerNode is how many moves may be in flight from or to one node; 0 means 64.
	MovesPerNode int
}

// Schedule holds the moves that are left and those in flight. It is not safe for concurrent use.
type Schedule struct{ left []Move }

// New plans the moves whose chains differ.
func New(moves []Move, limits Limits) *Schedule { return &Schedule{left: moves} }

// Next returns every move that may start now, in the order in which they shall start, and counts them as started.
func (s *Schedule) Next() []Move { n := s.left; s.left = nil; return n }

// BackfillDone says that the started move of vb has its data where it must be.
func (s *Schedule) BackfillDone(vb int) {}

// MoveDone says that the started move of vb is over.
func (s *Schedule) MoveDone(vb int) {}

// Done reports whether nothing is left to start and nothing is in flight.
func (s *Schedule) Done() bool { return len(s.left) == 0 }

// Remaining is the number of moves that are not done yet, those in flight included.
func (s *Schedule) Remaining() int { return len(s.left) }

// Progress is the share, 0 to 1, of each node's part in the moves that is done.
func (s *Schedule) Progress() map[string]float64 { return nil }
