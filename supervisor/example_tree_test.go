package supervisor_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/supervisor"
)

// idler does nothing, well.
type idler struct{ actors.Base }

func newIdler() actors.Process { return idler{} }

// shop is a tree: the counter can be restarted alone, but the two of the kitchen depend on each other.
func shop() supervisor.Spec {
	return supervisor.Spec{
		Name:     "shop",
		Strategy: supervisor.OneForOne,
		Children: []supervisor.ChildSpec{
			supervisor.Worker("counter", newIdler, actors.WithName("counter")),
			supervisor.Sub("kitchen", supervisor.Spec{
				Name:     "kitchen",
				Strategy: supervisor.OneForAll,
				Children: []supervisor.ChildSpec{
					supervisor.Worker("stove", newIdler),
					supervisor.Worker("cook", newIdler),
				},
			}),
		},
	}
}

// show writes a tree, a line for each process.
func show(n supervisor.Node, depth int) {
	fmt.Printf("%s%s %s %s\n", strings.Repeat("  ", depth), n.ID, n.Type, n.State)
	for _, below := range n.Children {
		show(below, depth+1)
	}
}

// A tree with a subtree, as it is started, looked at and stopped.
func ExampleTree() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sys := actors.NewSystem(actors.Options{})
	defer sys.Close(ctx)

	top, err := sys.Start(ctx, supervisor.New(shop())) // returns when all of it runs
	if err != nil {
		fmt.Println(err)
		return
	}
	tree, err := supervisor.Tree(ctx, top)
	if err != nil {
		fmt.Println(err)
		return
	}
	show(tree, 0)
	fmt.Println(top.Stop(ctx, actors.Shutdown)) // the youngest first
	// Output:
	// shop supervisor running
	//   counter worker running
	//   kitchen supervisor running
	//     stove worker running
	//     cook worker running
	// <nil>
}
