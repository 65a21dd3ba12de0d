package actors_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// vault keeps a secret, and shows only how long it is.
type vault struct {
	actors.Base
	secret string
}

func (v *vault) FormatStatus(s actors.Status) actors.Status {
	s.State = fmt.Sprintf("a secret of %d letters", len(v.secret))
	s.Message = nil // it may hold the next one
	return s
}

// What a process shows of itself is its own business; a debugger looks at it with the process' help too.
func ExampleGetStatus() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sys := actors.NewSystem(actors.Options{})
	defer sys.Close(ctx)

	pid, _ := sys.Start(ctx, &vault{secret: "xyzzy"})
	status, err := actors.GetStatus(ctx, pid)
	fmt.Println(status.State, err)

	var secret string
	err = actors.Inspect(ctx, pid, func(v *vault) { secret = v.secret })
	fmt.Println(secret, err)
	err = actors.Replace(ctx, pid, func(v *vault) *vault { return &vault{secret: "plugh"} })
	fmt.Println(err)
	// Output:
	// a secret of 5 letters <nil>
	// xyzzy <nil>
	// <nil>
}
