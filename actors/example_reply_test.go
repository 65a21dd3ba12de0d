package actors_test

import (
	"context"
	"fmt"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// mutex is held by one process at a time. Who asks while it is held is answered when its turn has come.
type mutex struct {
	actors.Base
	ref     actors.Ref // watches who holds it
	held    bool
	waiting []actors.From
}

func (m *mutex) HandleCall(c *actors.Context, from actors.From, _ any) error {
	if m.held {
		m.waiting = append(m.waiting, from) // the answer comes later
		return nil
	}
	m.give(c, from)
	return nil
}

func (m *mutex) give(c *actors.Context, to actors.From) {
	m.held, m.ref = true, c.Monitor(to.PID())
	to.Reply("it is yours")
}

func (m *mutex) HandleCast(c *actors.Context, _ any) error { // the holder gives it back
	c.Demonitor(m.ref)
	m.passOn(c)
	return nil
}

func (m *mutex) HandleInfo(c *actors.Context, msg any) error {
	if down, ok := msg.(actors.Down); ok && down.Ref == m.ref { // the holder has died
		m.passOn(c)
	}
	return nil
}

func (m *mutex) passOn(c *actors.Context) {
	m.held = false
	if len(m.waiting) > 0 {
		next := m.waiting[0]
		m.waiting = m.waiting[1:]
		m.give(c, next)
	}
}

// taker takes the mutex as soon as it has been started, and keeps it.
type taker struct {
	actors.Base
	mutex *actors.PID
	has   chan<- string
}

func (t *taker) Init(c *actors.Context) error {
	c.Continue("take it") // before everything that others send
	return nil
}

func (t *taker) HandleInfo(c *actors.Context, _ any) error {
	_, err := c.Call(c.Ctx(), t.mutex, "lock")
	t.has <- c.Self().Name()
	return err
}

// An answer that comes later, and a monitor: the lock is free again when its holder dies.
func Example_lateReply() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sys := actors.NewSystem(actors.Options{})
	defer sys.Close(ctx)

	has := make(chan string, 2)
	lock, _ := sys.Start(ctx, &mutex{})
	ada, _ := sys.Start(ctx, &taker{mutex: lock, has: has}, actors.WithName("ada"))
	fmt.Println(<-has, "has it")
	_, _ = sys.Start(ctx, &taker{mutex: lock, has: has}, actors.WithName("bob"))
	ada.Kill()
	fmt.Println(<-has, "has it")
	// Output:
	// ada has it
	// bob has it
}
