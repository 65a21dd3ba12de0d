package actors_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// metronome tells every second how often it has ticked.
type metronome struct {
	actors.Base
	n     int
	beats chan<- int
}

type beat struct{}

func (m *metronome) Init(c *actors.Context) error {
	c.SendAfter(time.Second, beat{})
	return nil
}

func (m *metronome) HandleInfo(c *actors.Context, _ any) error {
	m.n++
	c.SendAfter(time.Second, beat{}) // each timer is one message
	m.beats <- m.n
	return nil
}

// Timers are messages to oneself. The clock is that of the system, and here it is stepped by hand.
func ExampleContext_SendAfter() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	clock := actortest.NewClock(time.Unix(0, 0))
	sys := actors.NewSystem(actors.Options{Clock: clock})
	defer sys.Close(ctx)

	beats := make(chan int, 1)
	_, _ = sys.Start(ctx, &metronome{beats: beats})
	for range 3 {
		clock.Advance(time.Second)
		fmt.Println(<-beats, clock.Now().Unix())
	}
	// Output:
	// 1 1
	// 2 2
	// 3 3
}
