package actors_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

// login ends when nobody has used it for a while.
type login struct {
	actors.Base
	user string
}

type unused struct{}

func (l *login) Init(c *actors.Context) error {
	c.SetIdleTimeout(time.Minute, unused{})
	return nil
}

func (l *login) HandleCall(c *actors.Context, from actors.From, _ any) error {
	from.Reply(l.user)
	c.SetIdleTimeout(time.Minute, unused{}) // this callback has cancelled the one before
	return nil
}

func (l *login) HandleInfo(_ *actors.Context, msg any) error {
	if _, ok := msg.(unused); ok {
		return actors.Normal
	}
	return nil
}

// An idle timeout comes if nothing else does.
func ExampleContext_SetIdleTimeout() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	clock := actortest.NewClock(time.Unix(0, 0))
	sys := actors.NewSystem(actors.Options{Clock: clock})
	defer sys.Close(ctx)

	pid, _ := sys.Start(ctx, &login{user: "ada"})
	// atRest waits until pid has nothing to do, which is when its time begins.
	atRest := func() {
		for clock.Pending() == 0 {
			_ = actors.Inspect(ctx, pid, func(*login) {})
		}
	}
	atRest()
	clock.Advance(59 * time.Second)
	fmt.Println(pid.Call(ctx, "who"))
	atRest()
	clock.Advance(time.Minute)
	<-pid.Done()
	fmt.Println(pid.Reason())
	// Output:
	// ada <nil>
	// normal
}
