package supervisor

import (
	"errors"
	"testing"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/stretchr/testify/require"
)

type w struct{ actors.Base }

func (w) HandleCall(_ *actors.Context, from actors.From, msg any) error {
	if err, ok := msg.(error); ok {
		return err
	}
	from.Reply(msg)
	return nil
}

func TestSmoke(t *testing.T) {
	s := actors.NewSystem(actors.Options{})
	bus := actors.NewBus[Event]()
	sub := bus.Subscribe(100)
	sup, err := s.Start(t.Context(), New(Spec{Name: "top", Events: bus, Children: []ChildSpec{
		Worker("a", func() actors.Process { return w{} }, actors.WithName("a")),
		Sub("b", Spec{Name: "subby", Children: []ChildSpec{Worker("c", func() actors.Process { return w{} })}}),
	}}))
	require.NoError(t, err)
	_, err = s.Whereis("a").Call(t.Context(), errors.New("boom"))
	require.EqualError(t, err, "boom")
	require.Eventually(t, func() bool { return s.Whereis("a") != nil }, time.Second, time.Millisecond)
	tree, err := Tree(t.Context(), sup)
	require.NoError(t, err)
	t.Logf("%+v", tree)
	for len(sub.C()) > 0 {
		t.Logf("%v", <-sub.C())
	}
	require.NoError(t, sup.Stop(t.Context(), actors.Shutdown))
	require.NoError(t, s.Close(t.Context()))
}
