package supervisor_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/supervisor"
)

// session serves one user.
type session struct {
	actors.Base
	user string
}

func (s *session) HandleCall(_ *actors.Context, from actors.From, _ any) error {
	from.Reply("hello " + s.user)
	return nil
}

// newSession is called for every start of a session, and again for its restarts, with the same user.
func newSession(user string) actors.Process { return &session{user: user} }

// sessions come and go: the spec has one child, from which all of them are made.
func sessions() supervisor.Spec {
	template := supervisor.Template("session", newSession)
	template.Restart = supervisor.Transient
	return supervisor.Spec{
		Name:     "sessions",
		Strategy: supervisor.SimpleOneForOne,
		Children: []supervisor.ChildSpec{template},
	}
}

func ExampleStartChildWith() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sys := actors.NewSystem(actors.Options{})
	defer sys.Close(ctx)

	sup, _ := sys.Start(ctx, supervisor.New(sessions()))
	ada, err := supervisor.StartChildWith(ctx, sup, "ada")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(ada.Call(ctx, "hello"))
	_, _ = supervisor.StartChildWith(ctx, sup, "bob")
	counts, _ := supervisor.CountChildren(ctx, sup)
	fmt.Println(counts.Active, "sessions from", counts.Specs, "spec")

	fmt.Println(supervisor.TerminateChild(ctx, sup, ada), ada.Reason()) // known by its process: it has no ID
	_, err = supervisor.StartChildWith(ctx, sup, 42)
	fmt.Println(err)
	// Output:
	// hello ada <nil>
	// 2 sessions from 1 spec
	// <nil> shutdown
	// child "session" cannot be started with a int
}
