package actors_test

import (
	"fmt"

	"github.com/shearpin/shearpin/actors"
)

// A subscriber that does not keep up loses events and can tell how many; the publisher never waits.
func ExampleBus() {
	news := actors.NewBus[string]()
	slow := news.Subscribe(2)
	defer slow.Close()

	for _, headline := range []string{"rain", "more rain", "flood", "sun"} {
		news.Publish(headline)
	}
	fmt.Println(<-slow.C(), "/", <-slow.C(), "/ lost:", slow.Dropped())
	// Output:
	// rain / more rain / lost: 2
}
