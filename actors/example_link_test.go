package actors_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// nanny keeps a counter running: a supervisor in its smallest form.
type nanny struct {
	actors.Base
	deaths chan<- error
}

func (n *nanny) Init(c *actors.Context) error {
	c.TrapExits() // or the nanny dies with the counter
	return n.start(c)
}

func (n *nanny) start(c *actors.Context) error {
	_, err := c.StartLink(&counter{}, actors.WithName("counted"))
	return err
}

func (n *nanny) HandleInfo(c *actors.Context, msg any) error {
	exit, ok := msg.(actors.Exit)
	if !ok {
		return n.Base.HandleInfo(c, msg)
	}
	err := n.start(c) // the name is free by now
	n.deaths <- exit.Reason
	return err
}

// Links carry deaths in both directions; a process that traps exits gets them as messages.
func ExampleContext_StartLink() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sys := actors.NewSystem(actors.Options{})
	defer sys.Close(ctx)

	deaths := make(chan error, 1)
	pid, _ := sys.Start(ctx, &nanny{deaths: deaths})
	first := sys.Whereis("counted")
	first.Exit(errors.New("power failure"))
	fmt.Println("the nanny hears:", <-deaths)
	second := sys.Whereis("counted")
	fmt.Println("another one:", second != nil && second != first)

	pid.Kill()
	<-second.Done()
	fmt.Println("the counter dies of its link:", second.Reason())
	// Output:
	// the nanny hears: power failure
	// another one: true
	// the counter dies of its link: killed
}
