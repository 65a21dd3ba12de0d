package dcp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors/actortest"
)

// Differs: who was heard is read off the relays when somebody asks, to the read. What it means for a node's health is not
// for this package to say.
func TestState_2_12_heard(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		s.up(0)
		actortest.Elapse(time.Minute)
		heard := func() map[string]time.Time {
			status, err := s.manager.Status(s.ctx)
			require.NoError(t, err)
			return status.Heard
		}
		before := heard()
		s.p.write(noop(1))
		s.c.read()
		after := heard()
		assert.Equal(t, time.Now(), after["n0"].Round(0).Local())
		assert.Equal(t, before["n1"], after["n1"])
		assert.NotContains(t, after, "n2", "no link, nothing heard")
		_ = s.p.raw.Close()
		s.crash()
		s.link()
		assert.False(t, heard()["n0"].Before(after["n0"]), "over restarts")
	})
}
