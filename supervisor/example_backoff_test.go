package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/supervisor"
)

// A child that dies again and again is restarted later and later, and here in the end no more.
func ExampleBackoff() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	clock := actortest.NewClock(time.Unix(0, 0))
	sys := actors.NewSystem(actors.Options{Clock: clock})
	defer sys.Close(ctx)

	events := actors.NewBus[supervisor.Event]()
	news := events.Subscribe(100)
	defer news.Close()
	sup, _ := sys.Start(ctx, supervisor.New(supervisor.Spec{
		Name:      "patient",
		Intensity: 3, Period: time.Hour,
		Backoff:  supervisor.Backoff{Min: time.Second, Max: time.Minute},
		Events:   events,
		Children: []supervisor.ChildSpec{supervisor.Worker("line", newIdler)},
	}))
	for range 4 {
		started := <-news.C()
		fmt.Println(started.Kind, clock.Now().Unix())
		started.PID.Exit(errors.New("no carrier"))
		<-news.C() // child_exited
		if decided := <-news.C(); decided.Kind != supervisor.ChildRestarting {
			fmt.Println(decided.Kind)
			continue
		}
		info, _ := supervisor.WhichChild(ctx, sup, "line")
		clock.Advance(info.RetryAt.Sub(clock.Now()))
	}
	<-sup.Done()
	fmt.Println(sup.Reason())
	// Output:
	// child_started 0
	// child_started 1
	// child_started 3
	// child_started 7
	// gave_up
	// shutdown: supervisor "patient" gave up on child "line": no carrier
}
