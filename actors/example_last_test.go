package actors_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// journal keeps lines, and writes them when it is closed.
type journal struct {
	actors.Base
	lines   []string
	written string
}

func (j *journal) HandleCast(_ *actors.Context, msg any) error {
	j.lines = append(j.lines, msg.(string))
	return nil
}

func (j *journal) HandleCall(c *actors.Context, from actors.From, _ any) error {
	c.ReplyLast(from, len(j.lines)) // answered when Terminate has run
	return actors.Normal
}

func (j *journal) Terminate(*actors.Context, error) {
	j.written = strings.Join(j.lines, ", ")
}

// A process that ends by a call, and answers it when it is done.
func ExampleContext_ReplyLast() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sys := actors.NewSystem(actors.Options{})
	defer sys.Close(ctx)

	j := &journal{}
	pid, _ := sys.Start(ctx, j)
	pid.Cast("rain")
	pid.Cast("more rain")
	n, err := actors.Call[int](ctx, pid, "close")
	fmt.Println(n, err, j.written)
	<-pid.Done()
	fmt.Println(pid.Reason())
	// Output:
	// 2 <nil> rain, more rain
	// normal
}
