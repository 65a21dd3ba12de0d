package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
)

// lines are the events of a flight that are about a vbucket or the connection as a whole, without their times.
func lines(flight []dcp.FlightEvent, vb uint16) []string {
	var all []string
	for _, e := range flight {
		if e.VB == int(vb) || e.Kind == dcp.FlightConnection {
			_, line, _ := strings.Cut(e.String(), " ")
			all = append(all, line)
		}
	}
	return all
}

func TestACrashReportHasTheFlight(t *testing.T) {
	p := newPair(t, fault.EarlyStreamEnd, dcp.Limits{})
	require.NoError(t, p.apply(0))
	p.plan.Arm()
	err := p.apply(10, 11, 12)
	var crash *dcp.CrashError
	require.ErrorAs(t, err, &crash)
	record := p.record()
	add, stream := record.AddOpaque, record.StreamOpaque
	assert.Equal(t, []string{
		"connection: connecting → open",
		fmt.Sprintf("vb=%d: none → adding", record.VB),
		fmt.Sprintf("to consumer: DCP_ADD_STREAM request vb=%d opaque=%v flags=0x0", record.VB, add),
		fmt.Sprintf("from consumer: DCP_STREAM_REQ request vb=%d opaque=%v flags=0x0: pass", record.VB, stream),
		fmt.Sprintf("from producer: DCP_STREAM_REQ response vb=%d opaque=%v status=success (0x00): pass", record.VB, stream),
		fmt.Sprintf("from producer: DCP_STREAM_END request vb=%d opaque=%v reason=state changed (2): crash", record.VB, stream),
		"connection: open → crashed",
	}, lines(crash.Flight, record.VB))
	for i, e := range crash.Flight[1:] {
		assert.False(t, e.At.Before(crash.Flight[i].At), "in the order of time")
	}
	assert.NotContains(t, err.Error(), "STREAM_REQ")

	p.eventually("the crash is published", func() bool { return len(p.crashes()) == 1 })
	var published *dcp.CrashError
	require.ErrorAs(t, p.crashes()[0].Reason, &published)
	assert.Equal(t, crash.Flight, published.Flight)
}

// Whoever's socket it was, the report says what went on before.
func TestALostSocketHasTheFlight(t *testing.T) {
	for _, kind := range []fault.Kind{fault.DropConsumer, fault.DropProducer} {
		t.Run(kind.String(), func(t *testing.T) {
			p := newPair(t, kind, dcp.Limits{})
			p.plan.Arm()
			var crash *dcp.CrashError
			require.ErrorAs(t, p.apply(10), &crash)
			all := lines(crash.Flight, 10)
			require.NotEmpty(t, all)
			assert.Contains(t, all, fmt.Sprintf("to consumer: DCP_ADD_STREAM request vb=10 opaque=%v flags=0x0", p.record().AddOpaque))
			assert.Equal(t, "connection: open → crashed", all[len(all)-1])
		})
	}
}

func TestTheFlightIsBounded(t *testing.T) {
	p := newPair(t, fault.NoAddResponse, dcp.Limits{Add: 200 * time.Millisecond, Flight: 5})
	require.NoError(t, p.apply(0, 1, 2))
	p.plan.Arm()
	var crash *dcp.CrashError
	require.ErrorAs(t, p.apply(10), &crash)
	assert.Len(t, crash.Flight, 5)
	assert.Equal(t, "crashed", crash.Flight[4].To)
}

func TestTheFlightOfALinkThatLives(t *testing.T) {
	p := newPair(t, healthy, dcp.Limits{})
	_, err := p.manager.Flight(p.ctx, producer, 0)
	require.ErrorIs(t, err, dcp.ErrNoLink)
	require.NoError(t, p.apply(3))
	require.NoError(t, p.manager.Apply(p.ctx, 1, "", map[uint16]string{3: ""}))
	flight, err := p.manager.Flight(p.ctx, producer, 0)
	require.NoError(t, err)
	var states []string
	for _, e := range flight {
		if e.Kind == dcp.FlightVBucket {
			states = append(states, e.From+" "+e.To)
		}
	}
	assert.Equal(t, []string{"none adding", "adding live", "live closing", "closing none"}, states)
	_, err = p.manager.Flight(p.ctx, producer, 1)
	require.ErrorIs(t, err, dcp.ErrNoLink)
}
