package demo

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/supervisor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watched gives events to a watcher and returns it when it has taken them all.
func watched(t *testing.T, armAfter int, replication []dcp.Event, tree []supervisor.Event) *watcher {
	t.Helper()
	streams, supervision := actors.NewBus[dcp.Event](), actors.NewBus[supervisor.Event]()
	w := watch(streams, supervision)
	for _, e := range replication {
		streams.Publish(e)
	}
	for i, e := range tree {
		if i == armAfter {
			w.arm()
		}
		e.At = time.Now()
		supervision.Publish(e)
	}
	w.close()
	require.Zero(t, w.lost())
	return w
}

func TestRestartsAreIncarnationsBeyondTheFirst(t *testing.T) {
	other := faultLink
	other.Consumer = "n1"
	start := func(link dcp.Link, incarnation uint64) dcp.Event {
		return dcp.ConsumerStarted{Link: link, Incarnation: incarnation}
	}
	for name, tc := range map[string]struct {
		events []dcp.Event
		want   int
	}{
		"first ones":                   {[]dcp.Event{start(faultLink, 1), start(other, 1)}, 0},
		"restarted twice":              {[]dcp.Event{start(faultLink, 1), start(faultLink, 2), start(faultLink, 3)}, 2},
		"closed as planned, back":      {[]dcp.Event{start(faultLink, 1), start(faultLink, 1)}, 0},
		"given up, tried again":        {[]dcp.Event{start(faultLink, 1), dcp.LinkGaveUp{Link: faultLink}, start(faultLink, 1)}, 1},
		"another gave up":              {[]dcp.Event{start(faultLink, 1), dcp.LinkGaveUp{Link: other}, start(faultLink, 1)}, 0},
		"crashed, not yet started":     {[]dcp.Event{start(faultLink, 1), dcp.LinkCrashed{Link: faultLink}}, 0},
		"one restart on each of two":   {[]dcp.Event{start(other, 2), start(faultLink, 2)}, 2},
		"given up once, restarted too": {[]dcp.Event{dcp.LinkGaveUp{Link: other}, start(other, 1), start(other, 2)}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, watched(t, 0, tc.events, nil).restartCount())
		})
	}
}

func TestExitsAreAbnormalEndsOfConnectionsSinceArmed(t *testing.T) {
	crash := errors.New("crash")
	name := "connections " + faultLink.Name()
	exited := func(id string, reason error) supervisor.Event {
		return supervisor.Event{Kind: supervisor.ChildExited, Supervisor: name, ID: id, Reason: reason}
	}
	w := watched(t, 1, []dcp.Event{dcp.ConsumerStarted{Link: faultLink, Incarnation: 1}}, []supervisor.Event{
		exited("producer connection", errors.New("before the fault was armed")),
		exited("replicator", errors.New("no connection")),
		exited("consumer connection", actors.Shutdown),
		{Kind: supervisor.ChildRestarting, Supervisor: name, ID: "consumer connection", Reason: crash},
		exited("consumer connection", crash),
		exited("producer connection", actors.Killed),
	})
	var seen []string
	for _, e := range w.abnormalExits() {
		assert.Equal(t, faultLink, e.link)
		seen = append(seen, fmt.Sprint(e.role, ": ", e.reason))
	}
	assert.Equal(t, []string{"consumer: crash", "producer: killed"}, seen)
}

func TestExpiryIsWhenTheConnectionSaidSo(t *testing.T) {
	e := newExpiry()
	log := slog.New(slog.NewMultiHandler(slog.DiscardHandler, e)).With("part", "connection")
	log.Info("connection_crashed", "role", "consumer", "err", reasonOf(fault.DropConsumer))
	log.Debug("a detail", "err", reasonOf(fault.NoAddResponse))
	_, known := e.at()
	assert.False(t, known)

	before := time.Now()
	log.Info("connection_crashed", "role", "consumer", "err", reasonOf(fault.NoAddResponse))
	after := time.Now()
	log.Warn("rebalance_failed", "err", reasonOf(fault.NoAddResponse))
	at, known := e.at()
	assert.True(t, known)
	assert.False(t, at.Before(before) || at.After(after))
}
