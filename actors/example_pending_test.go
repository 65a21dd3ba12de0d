package actors_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// A goroutine that asks several processes at the same time, and takes the answers as they come.
func ExampleCollection() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sys := actors.NewSystem(actors.Options{})
	defer sys.Close(ctx)

	left, _ := sys.Start(ctx, &counter{n: 1})
	right, _ := sys.Start(ctx, &counter{n: 2})
	right.Kill()

	one := left.SendRequest("how many") // does not wait
	fmt.Println(one.Wait(ctx))

	var asked actors.Collection
	for label, pid := range map[string]*actors.PID{"left": left, "right": right} {
		if err := asked.Add(pid.SendRequest("how many"), label); err != nil {
			fmt.Println(err)
		}
	}
	answers := map[any]string{}
	for asked.Len() > 0 {
		answer, err := asked.Receive(ctx) // in the order in which they come
		if err != nil {
			fmt.Println(err) // ctx has ended: what is left has been abandoned
			break
		}
		answers[answer.Label] = fmt.Sprint(answer.Value, " ", answer.Err)
	}
	fmt.Println(answers)
	// Output:
	// 1 <nil>
	// map[left:1 <nil> right:<nil> no process]
}
