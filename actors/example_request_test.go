package actors_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// census adds up what several counters have counted.
type census struct {
	actors.Base
	counters []*actors.PID
	from     actors.From
	open     int
	sum      int
}

func (s *census) HandleCall(c *actors.Context, from actors.From, _ any) error {
	s.from, s.open = from, len(s.counters)
	for _, pid := range s.counters {
		c.Request(pid, time.Second, "how many", pid) // the last argument comes back as the tag
	}
	return nil
}

func (s *census) HandleInfo(c *actors.Context, msg any) error {
	r := msg.(actors.Response) // exactly one for each request
	if r.Err != nil {
		c.Log().Warn("not_counted", "counter", r.Tag, "err", r.Err)
	} else {
		s.sum += r.Value.(int)
	}
	if s.open--; s.open == 0 {
		s.from.Reply(s.sum)
	}
	return nil
}

// A process that asks others should not wait for the answers: they come as messages, and so do deaths and timeouts.
func ExampleContext_Request() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sys := actors.NewSystem(actors.Options{})
	defer sys.Close(ctx)

	s := &census{}
	for i := range 4 {
		pid, _ := sys.Start(ctx, &counter{n: i})
		s.counters = append(s.counters, pid)
	}
	s.counters[3].Kill() // a dead one answers at once: NoProcess
	pid, _ := sys.Start(ctx, s)
	fmt.Println(pid.Call(ctx, "all"))
	// Output:
	// 3 <nil>
}
