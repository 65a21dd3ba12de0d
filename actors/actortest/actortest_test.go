package actortest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestClock(t *testing.T) {
	begin := time.Unix(100, 0)
	clock := actortest.NewClock(begin)
	require.Equal(t, begin, clock.Now())
	var fired []string
	note := func(name string) func() {
		return func() { fired = append(fired, name+" "+clock.Now().Sub(begin).String()) }
	}
	clock.AfterFunc(2*time.Second, note("b"))
	clock.AfterFunc(time.Second, note("a"))
	clock.AfterFunc(2*time.Second, note("c"))
	clock.AfterFunc(-time.Second, note("at once"))
	stopped := clock.AfterFunc(time.Second, note("stopped"))
	clock.AfterFunc(time.Second, func() {
		clock.AfterFunc(time.Second, note("nested"))
		clock.AfterFunc(time.Minute, note("later"))
	})
	require.Empty(t, fired)
	require.True(t, stopped.Stop())
	require.False(t, stopped.Stop())
	require.Equal(t, 5, clock.Pending())

	clock.Advance(3 * time.Second)
	require.Equal(t, []string{"at once 0s", "a 1s", "b 2s", "c 2s", "nested 2s"}, fired)
	require.Equal(t, begin.Add(3*time.Second), clock.Now())
	require.Equal(t, 1, clock.Pending())
	clock.Advance(58*time.Second - 1)
	require.Len(t, fired, 5)
	clock.Advance(1)
	require.Len(t, fired, 6)
	require.Zero(t, clock.Pending())
}

func TestProbeRecords(t *testing.T) {
	sys := actortest.NewSystem(t, actors.Options{})
	probe := actortest.NewProbe()
	pid := probe.Start(t, sys)
	pid.Send([]int{1})
	pid.Cast("x")
	v, err := pid.Call(context.Background(), "y")
	require.NoError(t, err)
	require.Equal(t, "y", v)
	ran := false
	actortest.Do(t, pid, func(*actors.Context) error { ran = true; return nil })
	require.True(t, ran)
	boom := errors.New("boom")
	actortest.Crash(t, pid, boom)
	require.ErrorIs(t, pid.Reason(), boom)
	probe.Await(t, []int{1})
	probe.Expect(t, []int{1}, actortest.Casted{Msg: "x"}, actortest.Called{Msg: "y"}, actortest.Terminated{Reason: boom})
}

// recorder is a testing.TB that only notes that a test has failed.
type recorder struct {
	testing.TB
	failed   bool
	cleanups []func()
}

func (r *recorder) Helper()               {}
func (r *recorder) Error(...any)          { r.failed = true }
func (r *recorder) Cleanup(f func())      { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Fatalf(string, ...any) { r.failed = true; panic(r) }

// run runs f as a test and reports whether it failed.
func run(f func(t testing.TB)) bool {
	r := &recorder{}
	func() {
		defer func() { _ = recover() }()
		f(r)
	}()
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
	return r.failed
}

func TestNoLeaksFindsOne(t *testing.T) {
	leave := make(chan struct{})
	require.True(t, run(func(t testing.TB) {
		actortest.NoLeaks(t)
		go func() { <-leave }()
	}))
	close(leave)
	require.False(t, run(func(t testing.TB) {
		actortest.NoLeaks(t)
		sys := actortest.NewSystem(t, actors.Options{})
		actortest.NewProbe().Start(t, sys)
	}))
}

func TestExpectFails(t *testing.T) {
	require.True(t, run(func(t testing.TB) {
		sys := actortest.NewSystem(t, actors.Options{})
		probe := actortest.NewProbe()
		pid := probe.Start(t, sys)
		pid.Send("a")
		probe.Expect(t, "b")
	}))
	require.True(t, run(func(t testing.TB) {
		sys := actortest.NewSystem(t, actors.Options{})
		probe := &actortest.Probe{OnInit: func(*actors.Context) error { return errors.New("boom") }}
		probe.Start(t, sys)
	}))
}

// Elapse lets everything that is due happen, at its time, and refuses to wait in real time.
func TestElapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		rung := make(chan time.Duration, 3)
		for _, d := range []time.Duration{time.Second, time.Minute, time.Minute + 1} {
			time.AfterFunc(d, func() { rung <- time.Since(began) })
		}
		actortest.Elapse(time.Minute)
		require.Len(t, rung, 2)
		require.Equal(t, []time.Duration{time.Second, time.Minute}, []time.Duration{<-rung, <-rung})
		actortest.Elapse(1)
		require.Len(t, rung, 1)
	})
	began := time.Now()
	require.Panics(t, func() { actortest.Elapse(time.Hour) })
	require.Less(t, time.Since(began), time.Hour)
}
