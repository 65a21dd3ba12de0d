package supervisor_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/supervisor"
)

// batch is over when its job is: the logger next to it is stopped, and the supervisor ends.
func batch() supervisor.Spec {
	job := supervisor.Worker("job", func() actors.Process { return doer{} }, actors.WithName("job"))
	job.Restart = supervisor.Transient // a crash restarts it, a normal end does not
	job.Significant = true
	return supervisor.Spec{
		Name:         "batch",
		AutoShutdown: supervisor.AnySignificant,
		Children:     []supervisor.ChildSpec{supervisor.Worker("logger", newIdler), job},
	}
}

// A supervisor that has nothing left to do ends itself.
func ExampleAutoShutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sys := actors.NewSystem(actors.Options{})
	defer sys.Close(ctx)

	sup, _ := sys.Start(ctx, supervisor.New(batch()))
	sys.Whereis("job").Cast(actors.Normal)
	<-sup.Done()
	fmt.Println(sup.Reason(), len(sys.Processes()))
	// Output:
	// shutdown 0
}
