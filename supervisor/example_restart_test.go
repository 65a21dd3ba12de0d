package supervisor_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/supervisor"
)

// doer ends with what it is cast, which is nil if it should go on.
type doer struct{ actors.Base }

func (doer) HandleCast(_ *actors.Context, msg any) error { return msg.(error) }

// three describes a child of each restart type.
func three() (children []supervisor.ChildSpec) {
	for _, restart := range []supervisor.Restart{supervisor.Permanent, supervisor.Transient, supervisor.Temporary} {
		child := supervisor.Worker(restart.String(), func() actors.Process { return doer{} })
		child.Restart = restart
		children = append(children, child)
	}
	return children
}

// All three end in an orderly way: one is restarted, one stays down and can be started again, one is forgotten.
func ExampleRestart() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sys := actors.NewSystem(actors.Options{})
	defer sys.Close(ctx)

	events := actors.NewBus[supervisor.Event]()
	news := events.Subscribe(100)
	defer news.Close()
	sup, _ := sys.Start(ctx, supervisor.New(supervisor.Spec{Children: three(), Events: events}))
	started := []supervisor.Event{<-news.C(), <-news.C(), <-news.C()}
	for _, child := range started {
		child.PID.Cast(actors.Normal)
		fmt.Println((<-news.C()).Kind, child.ID)
		if child.ID == "permanent" {
			fmt.Println((<-news.C()).Kind, child.ID)
			fmt.Println((<-news.C()).Kind, child.ID)
		}
	}
	children, _ := supervisor.WhichChildren(ctx, sup)
	for _, c := range children { // the youngest first
		fmt.Println(c.ID, c.State, c.Incarnation, c.LastExit)
	}
	_, err := supervisor.RestartChild(ctx, sup, "transient")
	fmt.Println(err)
	_, err = supervisor.RestartChild(ctx, sup, "temporary")
	fmt.Println(err)
	// Output:
	// child_exited permanent
	// child_restarting permanent
	// child_started permanent
	// child_exited transient
	// child_exited temporary
	// transient stopped 1 normal
	// permanent running 2 normal
	// <nil>
	// no such child
}
