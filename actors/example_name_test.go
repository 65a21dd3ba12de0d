package actors_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
)

func ExampleWithName() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sys := actors.NewSystem(actors.Options{})
	defer sys.Close(ctx)

	first, _ := sys.Start(ctx, &counter{}, actors.WithName("till"))
	_, err := sys.Start(ctx, &counter{}, actors.WithName("till"))
	var taken *actors.AlreadyStartedError
	fmt.Println(errors.As(err, &taken) && taken.PID == first)

	first.Kill()
	fmt.Println(sys.Whereis("till")) // nobody
	second, err := sys.Start(ctx, &counter{}, actors.WithName("till"))
	fmt.Println(second != first, err) // the same name, another process
	// Output:
	// true
	// #0
	// true <nil>
}
