package actors_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// resolver finds addresses, which takes long, and remembers them.
type resolver struct {
	actors.Base
	known  map[string]string
	lookUp func(ctx context.Context, name string) (string, error)
}

// located is what a look-up brings.
type located struct {
	from       actors.From
	name, addr string
	err        error
}

func (r *resolver) HandleCall(c *actors.Context, from actors.From, msg any) error {
	name := msg.(string)
	if addr, ok := r.known[name]; ok {
		from.Reply(addr)
		return nil
	}
	c.Go(func(ctx context.Context) any { // beside the callbacks: it must not touch r.known
		addr, err := r.lookUp(ctx, name)
		return located{from, name, addr, err}
	})
	return nil
}

func (r *resolver) HandleInfo(_ *actors.Context, msg any) error {
	f := msg.(located)
	if f.err == nil {
		r.known[f.name] = f.addr
		f.from.Reply(f.addr)
	} else {
		f.from.Fail(f.err)
	}
	return nil
}

// What blocks runs beside the process, and its result is a message.
func ExampleContext_Go() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sys := actors.NewSystem(actors.Options{})
	defer sys.Close(ctx)

	slow := make(chan struct{})
	lookUp := func(ctx context.Context, name string) (string, error) {
		select {
		case <-slow:
			return "192.0.2." + fmt.Sprint(len(name)), nil
		case <-ctx.Done(): // the process has died
			return "", context.Cause(ctx)
		}
	}
	pid, _ := sys.Start(ctx, &resolver{known: map[string]string{"localhost": "127.0.0.1"}, lookUp: lookUp})
	answer := make(chan any)
	go func() {
		addr, _ := pid.Call(ctx, "example")
		answer <- addr
	}()
	fmt.Println(pid.Call(ctx, "localhost")) // is not kept waiting
	close(slow)
	fmt.Println(<-answer)
	// Output:
	// 127.0.0.1 <nil>
	// 192.0.2.7
}
