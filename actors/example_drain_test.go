package actors_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// press prints sheets, several at the same time. What it has begun it finishes, also when it is told to end.
type press struct {
	actors.Base
	busy   int
	ending error
	print  func(sheet string)
}

type printed struct{}

func (p *press) HandleCast(c *actors.Context, msg any) error {
	if p.ending == nil {
		p.busy++
		c.Go(func(context.Context) any {
			p.print(msg.(string)) // set at the start and never changed
			return printed{}
		})
	}
	return nil
}

func (p *press) HandleInfo(*actors.Context, any) error {
	p.busy--
	return p.endIfIdle()
}

func (p *press) HandleStop(_ *actors.Context, reason error) error {
	p.ending = reason
	return p.endIfIdle()
}

func (p *press) endIfIdle() error {
	if p.busy > 0 {
		return nil // goes on
	}
	return p.ending // nil unless it was told to end
}

// A Drainer is asked to end and decides when.
func ExampleDrainer() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sys := actors.NewSystem(actors.Options{})
	defer sys.Close(ctx)

	sheets := make(chan string, 2)
	pid, _ := sys.Start(ctx, &press{print: func(sheet string) { sheets <- sheet }})
	pid.Cast("a sheet")
	pid.Cast("a sheet")
	fmt.Println(pid.Stop(ctx, actors.Shutdown), len(sheets), pid.Reason())
	// Output:
	// <nil> 2 shutdown
}
