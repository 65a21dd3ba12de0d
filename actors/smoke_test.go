package actors

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

type echo struct{ Base }

func (echo) HandleCall(_ *Context, from From, msg any) error {
	if msg == "die" {
		return Shutdown
	}
	from.Reply(msg)
	return nil
}

func TestSmoke(t *testing.T) {
	s := NewSystem(Options{})
	p, err := s.Start(t.Context(), echo{}, WithName("e"))
	require.NoError(t, err)
	v, err := p.Call(t.Context(), 5)
	require.NoError(t, err)
	require.Equal(t, 5, v)
	_, err = p.Call(t.Context(), "die")
	require.ErrorIs(t, err, Shutdown)
	require.NoError(t, s.Close(context.Background()))
}

func BenchmarkCall(b *testing.B) {
	s := NewSystem(Options{})
	p, _ := s.Start(b.Context(), echo{}, WithName("e"))
	b.ReportAllocs()
	ctx := context.Background()
	for b.Loop() {
		p.Call(ctx, 5)
	}
}
func BenchmarkSpawn(b *testing.B) {
	s := NewSystem(Options{})
	b.ReportAllocs()
	ctx := context.Background()
	for b.Loop() {
		p, _ := s.Start(ctx, echo{})
		p.Kill()
	}
}
func BenchmarkCast(b *testing.B) {
	s := NewSystem(Options{})
	p, _ := s.Start(b.Context(), &sink{}, WithName("e"))
	b.ReportAllocs()
	for b.Loop() {
		p.Cast(p)
	}
	p.Call(context.Background(), 5)
}

type sink struct {
	echo
	n int
}

func (s *sink) HandleCast(*Context, any) error { s.n++; return nil }
