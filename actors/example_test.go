package actors_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// counter adds up what it is cast.
type counter struct {
	actors.Base
	n int
}

func (c *counter) HandleCast(_ *actors.Context, msg any) error {
	c.n += msg.(int)
	return nil
}

func (c *counter) HandleCall(_ *actors.Context, from actors.From, _ any) error {
	from.Reply(c.n)
	return nil
}

func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sys := actors.NewSystem(actors.Options{})
	defer sys.Close(ctx)

	pid, err := sys.Start(ctx, &counter{}, actors.WithName("counter"))
	if err != nil {
		fmt.Println(err)
		return
	}
	pid.Cast(2)
	pid.Cast(3)
	n, err := actors.Call[int](ctx, pid, "how many")
	fmt.Println(n, err)

	pid.Cast("not a number") // a crash
	_, err = pid.Call(ctx, "how many")
	fmt.Println("call failed:", err != nil)
	<-pid.Done()
	var panicked *actors.PanicError
	fmt.Println("panicked:", errors.As(pid.Reason(), &panicked))
	fmt.Println("name is free:", sys.Whereis("counter") == nil)
	// Output:
	// 5 <nil>
	// call failed: true
	// panicked: true
	// name is free: true
}

// guard watches a process and says what it died of.
type guard struct {
	actors.Base
	heard chan string
}

func (g *guard) HandleCall(c *actors.Context, from actors.From, msg any) error {
	c.Monitor(msg.(*actors.PID))
	from.Reply("watching")
	return nil
}

func (g *guard) HandleInfo(_ *actors.Context, msg any) error {
	if down, ok := msg.(actors.Down); ok {
		g.heard <- fmt.Sprintf("%v died: %v", down.PID, down.Reason)
	}
	return actors.Normal // its work is done
}

func ExampleContext_Monitor() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sys := actors.NewSystem(actors.Options{})
	defer sys.Close(ctx)

	heard := make(chan string, 1)
	watched, _ := sys.Start(ctx, &counter{}, actors.WithName("counter"))
	watcher, _ := sys.Start(ctx, &guard{heard: heard})
	fmt.Println(watcher.Call(ctx, watched))
	watched.Exit(errors.New("power failure"))
	fmt.Println(<-heard)
	// Output:
	// watching <nil>
	// counter died: power failure
}
