package dcp

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Some limits are multiplied. "As long as there is" must not come out as no time at all.
func TestLimitsWithoutEndAreLong(t *testing.T) {
	const forever = time.Duration(math.MaxInt64)
	limits := Limits{Add: forever, AddAfterRollback: forever, Close: forever, Takeover: forever, Connect: forever, Join: forever, Stall: forever, Grace: forever}
	for name, d := range map[string]time.Duration{
		"an accepted add": patience * limits.withDefaults().Add,
		"a fence":         (&managerProcess{opts: Options{Limits: limits.withDefaults()}}).fenceLimit(),
		"a stop":          2 * limits.withDefaults().Close,
		"a late tick":     limits.withDefaults().Stall + limits.withDefaults().Stall/8,
	} {
		assert.Greater(t, d, 24*time.Hour, name)
	}

	s := newScript(t)
	s.m.limits = limits.withDefaults()
	s.call(opAdd, 7)
	s.streamReq(7, 1)
	s.reqAnswer(1, mcbp.StatusSuccess)
	s.pass(time.Second)
	require.NoError(t, s.crash)
}
