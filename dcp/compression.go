package dcp

import (
	"fmt"
	"sync"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// compression is what the two connections of a link have agreed on with their nodes. Snappy is the one feature that a node
// may refuse, and a consumer that has refused it does not understand what a producer that has it sends. So the producer's
// end is not asked for it then. Both ends connect at the same time; if the producer's is open already, the link begins anew.
//
// It lives as long as the link, so that the next incarnation knows. It may be used from any goroutine.
type compression struct {
	mu              sync.Mutex
	consumerRefused bool
	producerAgreed  bool
}

// FeatureMismatch is the crash of a link whose two nodes have agreed on different features. The next incarnation asks for
// what both have.
type FeatureMismatch struct {
	Feature mcbp.Feature
	// Producer has it, Consumer has not.
	Producer, Consumer string
}

func (e *FeatureMismatch) Error() string {
	return fmt.Sprintf("%v granted by producer %s, refused by consumer %s", e.Feature, e.Producer, e.Consumer)
}

func (s *compression) atConsumer(agreed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consumerRefused = !agreed
}

func (s *compression) atProducer(agreed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.producerAgreed = agreed
}

// refused reports whether the producer's end must not be asked.
func (s *compression) refused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.consumerRefused
}

// check looks at both ends when they are to be joined.
func (s *compression) check(link Link) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.producerAgreed && s.consumerRefused {
		return &FeatureMismatch{Feature: mcbp.FeatureSnappy, Producer: link.Producer, Consumer: link.Consumer}
	}
	return nil
}
