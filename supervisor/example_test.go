package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/supervisor"
)

// plug dies when it is called.
type plug struct{ actors.Base }

func (plug) HandleCall(*actors.Context, actors.From, any) error { return errors.New("blown") }

func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sys := actors.NewSystem(actors.Options{})
	defer sys.Close(ctx)

	events := actors.NewBus[supervisor.Event]()
	news := events.Subscribe(100)
	defer news.Close()
	newPlug := func() actors.Process { return plug{} }
	sup, err := sys.Start(ctx, supervisor.New(supervisor.Spec{
		Name:     "fuses",
		Strategy: supervisor.RestForOne,
		Events:   events,
		Children: []supervisor.ChildSpec{
			supervisor.Worker("left", newPlug),
			supervisor.Worker("middle", newPlug, actors.WithName("middle")),
			supervisor.Worker("right", newPlug),
		},
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = sys.Whereis("middle").Call(ctx, "hold")
	fmt.Println("call:", err)
	for range 8 {
		e := <-news.C()
		fmt.Println(e.Kind, e.ID, e.Incarnation)
	}
	fmt.Println(sup.Stop(ctx, actors.Shutdown))
	// Output:
	// call: blown
	// child_started left 1
	// child_started middle 1
	// child_started right 1
	// child_exited middle 1
	// child_restarting middle 1
	// child_exited right 1
	// child_started middle 2
	// child_started right 2
	// <nil>
}
