package dcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/actors/actortest"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
	"github.com/shearpin/shearpin/supervisor"
)

// requireSeries compares all series of some families with their exposition, without HELP.
func requireSeries(t *testing.T, from prometheus.Gatherer, want string, names ...string) {
	t.Helper()
	families, err := from.Gather()
	require.NoError(t, err)
	var text strings.Builder
	for _, f := range families {
		if strings.Contains(want, f.GetName()) {
			fmt.Fprintf(&text, "# HELP %s %s\n# TYPE %s %s\n", f.GetName(), f.GetHelp(), f.GetName(), strings.ToLower(f.GetType().String()))
		}
	}
	for line := range strings.Lines(want) {
		text.WriteString(strings.TrimLeft(line, "\t"))
	}
	require.NoError(t, testutil.GatherAndCompare(from, strings.NewReader(text.String()), names...))
}

// joined is a manager's metrics on a registerer, and the end of its process.
func joined(t *testing.T, registerer prometheus.Registerer, bucket, consumer string) (m *metrics, end func()) {
	t.Helper()
	m = newMetrics(registerer, bucket, consumer)
	process, cancel := context.WithCancel(t.Context())
	require.NoError(t, m.join(process))
	return m, func() {
		cancel()
		assert.NoError(t, m.left(t.Context()))
	}
}

func TestReasonsAreWordsOfAClosedSet(t *testing.T) {
	link := Link{Producer: "n0", Consumer: "n1"}
	for word, reasons := range map[string][]error{
		"unexpected_stream_end": {&UnexpectedStreamEnd{VB: 17}},
		"add_stream_timeout":    {&AddStreamTimeout{VBs: []uint16{1}}},
		"close_stream_timeout":  {&CloseStreamTimeout{}},
		"takeover_timeout":      {&TakeoverTimeout{}},
		"unknown_opaque":        {&UnknownOpaque{}},
		"malformed_frame":       {&MalformedFrame{}, &mcbp.MalformedError{}},
		"feature_mismatch":      {&FeatureMismatch{}},
		"panic":                 {&actors.PanicError{}},
		"peer_stalled":          {relay.ErrStalled},
		"overloaded":            {relay.ErrInjectFull},
		"fenced":                {ErrFenced},
		"socket_closed":         {&SocketClosedError{Err: io.EOF}},
		"killed":                {actors.Killed},
		"other":                 {errors.New("vb 17: words"), nil},
	} {
		for _, reason := range reasons {
			assert.Equal(t, word, restartWord(reason), "%T", reason)
			if reason != nil {
				assert.Equal(t, word, restartWord(link.wrap(&CrashError{Role: RoleConsumer, Err: reason})), "%T", reason)
			}
		}
	}
	assert.Equal(t, "name_in_use", giveUpWord(link.wrap(&NameInUseError{Err: &supervisor.GaveUpError{}})))
	assert.Equal(t, "restart_intensity", giveUpWord(link.wrap(&actors.ShutdownReason{Detail: &supervisor.GaveUpError{}})))
	assert.Equal(t, "other", giveUpWord(io.EOF))
	for _, step := range []string{kv.StepConfig, kv.StepDial, kv.StepTLS, kv.StepSASL, kv.StepSelectBucket, kv.StepHello, kv.StepDCPOpen} {
		assert.Equal(t, step, stepWord(&kv.ConnectError{Step: step}))
	}
	assert.Equal(t, "other", stepWord(&kv.ConnectError{Step: "made up"}))
	assert.Equal(t, "unknown_node", stepWord(fmt.Errorf("%w: n7", ErrUnknownNode)))
	assert.Equal(t, "other", stepWord(io.EOF))
	words := map[string]bool{}
	for reason := range mcbp.EndReason(300) {
		words[endWord(reason)] = true
	}
	assert.Len(t, words, 10)
}

func TestManagersShareARegisterer(t *testing.T) {
	pedantic := prometheus.NewPedanticRegistry()
	for name, registerer := range map[string]prometheus.Registerer{
		"plain":   pedantic,
		"wrapped": prometheus.WrapRegistererWith(prometheus.Labels{"cluster": "a"}, prometheus.WrapRegistererWithPrefix("my_", pedantic)),
	} {
		t.Run(name, func(t *testing.T) {
			one, endOne := joined(t, registerer, "orders", "n1")
			two, endTwo := joined(t, registerer, "orders", "n2")
			one.link(linkKey{producer: "n0"}).event(LinkUp{})
			two.link(linkKey{producer: "n0"})
			count := func() int {
				n, err := testutil.GatherAndCount(pedantic, "shearpin_replication_link_up", "my_shearpin_replication_link_up")
				require.NoError(t, err)
				return n
			}
			assert.Equal(t, 2, count())
			endOne()
			assert.Equal(t, 1, count())
			endTwo()
			families, err := pedantic.Gather()
			require.NoError(t, err)
			assert.Empty(t, families, "the last one takes everything along")
			_, again := joined(t, registerer, "orders", "n1")
			again()
		})
	}
}

// Two managers may count under the same labels: those of two clusters, or one that ends and its successor.
func TestTheSameLabelsAreAddedUp(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	for range 2 {
		m, end := joined(t, registry, "orders", "n1")
		defer end()
		for conn := range 3 {
			l := m.link(linkKey{producer: "n0", conn: conn})
			l.event(LinkUp{})
			l.changed(time.Unix(0, 0), 1, streamNone, streamAdding)
			l.changed(time.Unix(2, 0), 1, streamAdding, streamLive)
			l.changed(time.Unix(3, 0), 2, streamNone, streamAdding)
			l.changed(time.Unix(4, 0), 2, streamAdding, streamNone) // refused
		}
		down := m.link(linkKey{producer: "n2"})
		down.event(LinkUp{})
		down.changed(time.Unix(0, 0), 1, streamNone, streamTakeover)
		down.event(LinkGaveUp{Reason: &NameInUseError{}})
	}
	requireSeries(t, registry, `
		shearpin_replication_connections{bucket="orders",consumer="n1",state="connecting"} 0
		shearpin_replication_connections{bucket="orders",consumer="n1",state="down"} 2
		shearpin_replication_connections{bucket="orders",consumer="n1",state="up"} 6
		shearpin_replication_link_up{bucket="orders",consumer="n1",producer="n0"} 1
		shearpin_replication_link_up{bucket="orders",consumer="n1",producer="n2"} 0
		shearpin_replication_give_ups_total{bucket="orders",consumer="n1",producer="n2",reason="name_in_use"} 2
		shearpin_replication_streams{bucket="orders",consumer="n1",producer="n0",state="adding"} 0
		shearpin_replication_streams{bucket="orders",consumer="n1",producer="n0",state="closing"} 0
		shearpin_replication_streams{bucket="orders",consumer="n1",producer="n0",state="live"} 6
		shearpin_replication_streams{bucket="orders",consumer="n1",producer="n0",state="takeover"} 0
		shearpin_replication_streams{bucket="orders",consumer="n1",producer="n2",state="adding"} 0
		shearpin_replication_streams{bucket="orders",consumer="n1",producer="n2",state="closing"} 0
		shearpin_replication_streams{bucket="orders",consumer="n1",producer="n2",state="live"} 0
		shearpin_replication_streams{bucket="orders",consumer="n1",producer="n2",state="takeover"} 0
		shearpin_stream_setup_duration_seconds_bucket{bucket="orders",consumer="n1",le="0.001"} 0
		shearpin_stream_setup_duration_seconds_bucket{bucket="orders",consumer="n1",le="0.0025"} 0
		shearpin_stream_setup_duration_seconds_bucket{bucket="orders",consumer="n1",le="0.005"} 0
		shearpin_stream_setup_duration_seconds_bucket{bucket="orders",consumer="n1",le="0.01"} 0
		shearpin_stream_setup_duration_seconds_bucket{bucket="orders",consumer="n1",le="0.025"} 0
		shearpin_stream_setup_duration_seconds_bucket{bucket="orders",consumer="n1",le="0.05"} 0
		shearpin_stream_setup_duration_seconds_bucket{bucket="orders",consumer="n1",le="0.1"} 0
		shearpin_stream_setup_duration_seconds_bucket{bucket="orders",consumer="n1",le="0.25"} 0
		shearpin_stream_setup_duration_seconds_bucket{bucket="orders",consumer="n1",le="0.5"} 0
		shearpin_stream_setup_duration_seconds_bucket{bucket="orders",consumer="n1",le="1"} 0
		shearpin_stream_setup_duration_seconds_bucket{bucket="orders",consumer="n1",le="2.5"} 6
		shearpin_stream_setup_duration_seconds_bucket{bucket="orders",consumer="n1",le="5"} 6
		shearpin_stream_setup_duration_seconds_bucket{bucket="orders",consumer="n1",le="10"} 6
		shearpin_stream_setup_duration_seconds_bucket{bucket="orders",consumer="n1",le="30"} 6
		shearpin_stream_setup_duration_seconds_bucket{bucket="orders",consumer="n1",le="60"} 6
		shearpin_stream_setup_duration_seconds_bucket{bucket="orders",consumer="n1",le="300"} 6
		shearpin_stream_setup_duration_seconds_bucket{bucket="orders",consumer="n1",le="+Inf"} 6
		shearpin_stream_setup_duration_seconds_sum{bucket="orders",consumer="n1"} 12
		shearpin_stream_setup_duration_seconds_count{bucket="orders",consumer="n1"} 6
	`, "shearpin_replication_connections", "shearpin_replication_link_up", "shearpin_replication_streams",
		"shearpin_replication_give_ups_total", "shearpin_stream_setup_duration_seconds", "shearpin_replication_restarts_total")
}

// A bound of a bucket is in it; what is beyond all has the one without bound.
func TestDurationsAtTheBounds(t *testing.T) {
	var d durations
	d.observe(0.001)
	d.observe(0.0011)
	d.observe(300)
	d.observe(301)
	assert.EqualValues(t, 1, d.counts[0])
	assert.EqualValues(t, 1, d.counts[1])
	assert.EqualValues(t, 1, d.counts[len(setupBuckets)-1])
	assert.EqualValues(t, 1, d.counts[len(setupBuckets)])
}

// However many vbuckets there are and whatever they do, the series are those of the pair of nodes.
func TestNoSeriesIsPerVBucket(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m, end := joined(t, registry, "orders", "n1")
	defer end()
	feed := func(vbs uint16) {
		l := m.link(linkKey{producer: "n0"})
		for vb := range vbs {
			l.changed(time.Unix(0, 0), vb, streamNone, streamAdding)
			l.ended(endFrame(vb, streamOpaque(uint32(vb)), mcbp.EndReason(100+vb)), "adding")
			l.event(LinkCrashed{Reason: &UnexpectedStreamEnd{VB: vb}})
			l.refused(RoleConsumer, fmt.Errorf("vb %d", vb))
		}
	}
	feed(1)
	before, err := testutil.GatherAndCount(registry)
	require.NoError(t, err)
	feed(1024)
	after, err := testutil.GatherAndCount(registry)
	require.NoError(t, err)
	assert.Equal(t, before, after)
	assert.Empty(t, m.link(linkKey{producer: "n0"}).began, "what a crash took is not remembered")
}

// The replicator may hear of a crash before the other connection does, which goes on until it is taken down.
func TestWhatHappensToALostStreamIsNotCounted(t *testing.T) {
	m := newMetrics(prometheus.NewRegistry(), "orders", "n1")
	l := m.link(linkKey{producer: "n0"})
	l.changed(flightStart, 1, streamNone, streamAdding)
	l.changed(flightStart, 2, streamNone, streamAdding)
	l.changed(flightStart, 2, streamAdding, streamLive)
	l.event(LinkCrashed{Reason: ErrSocketClosed})
	l.changed(flightStart, 1, streamAdding, streamLive)
	l.changed(flightStart, 2, streamLive, streamNone)
	s := newScrape()
	m.collect(s)
	for key, figure := range s.figures {
		if key.desc == streamsDesc {
			assert.Zero(t, figure, "%v", key.labels)
		}
	}
	assert.EqualValues(t, 1, m.setup.counts[0], "the one before")
}

func TestMetricsReadWell(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m, end := joined(t, registry, "orders \xff", "n1")
	defer end()
	l := m.link(linkKey{producer: "n\xc3\x28"})
	l.event(LinkFenced{})
	l.event(LinkGaveUp{})
	l.refused(RoleProducer, io.EOF)
	l.ended((&mcbp.Packet{Opcode: mcbp.OpDCPStreamEnd}).Frame(), "unknown")
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	assert.Empty(t, problems)
	families, err := registry.Gather()
	require.NoError(t, err)
	assert.Len(t, families, len(allDescs), "there is one of each")
}

func TestARegistererThatRefuses(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	other := prometheus.NewGauge(prometheus.GaugeOpts{Name: "shearpin_replication_link_up", Help: "somebody else's"})
	require.NoError(t, registry.Register(other))
	sys := actors.NewSystem(actors.Options{})
	defer func() { assert.NoError(t, sys.Close(context.Background())) }()
	_, err := Start(t.Context(), Options{
		System: sys, Bucket: "orders", Consumer: "n1", Metrics: registry,
		Endpoints: func(string) (kv.Endpoint, bool) { return kv.Endpoint{}, false },
	})
	var refused *MetricsError
	require.ErrorAs(t, err, &refused)
	assert.Empty(t, sys.Processes())
}

// keeper drops nothing.
type keeper struct{ prometheus.Registerer }

func (keeper) Unregister(prometheus.Collector) bool { return true }

func TestARegistererThatKeepsWhatItShouldDrop(t *testing.T) {
	registerer := keeper{prometheus.NewRegistry()}
	_, end := joined(t, registerer, "orders", "n1")
	end()
	var refused *MetricsError
	require.ErrorAs(t, newMetrics(registerer, "orders", "n1").join(t.Context()), &refused)
}

// slow does not drop anything before it may.
type slow struct {
	prometheus.Registerer
	may chan struct{}
}

func (s slow) Unregister(c prometheus.Collector) bool {
	<-s.may
	return s.Registerer.Unregister(c)
}

func TestStopWaitsUntilTheMetricsAreGone(t *testing.T) {
	registry := prometheus.NewRegistry()
	registerer := slow{registry, make(chan struct{})}
	sys := actors.NewSystem(actors.Options{})
	defer func() { assert.NoError(t, sys.Close(context.Background())) }()
	m, err := Start(t.Context(), Options{
		System: sys, Bucket: "orders", Consumer: "n1", Metrics: registerer,
		Endpoints: func(string) (kv.Endpoint, bool) { return kv.Endpoint{}, false },
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-m.top.Done()
		cancel()
	}()
	require.ErrorIs(t, m.Stop(ctx), context.Canceled)
	close(registerer.may)
	require.NoError(t, m.opts.metrics.left(t.Context()))
	families, err := registry.Gather()
	require.NoError(t, err)
	assert.Empty(t, families)
}

func TestTheManagersOwnNewsAreCounted(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m, end := joined(t, registry, "orders", "n1")
	defer end()
	p := newManagerProcess(Options{Log: slog.New(slog.DiscardHandler), metrics: m}, nil)
	p.publish(LinkGaveUp{Link: Link{Producer: "n0", Conn: 1}, Reason: &NameInUseError{}})
	requireSeries(t, registry, `
		shearpin_replication_give_ups_total{bucket="orders",consumer="n1",producer="n0",reason="name_in_use"} 1
	`, "shearpin_replication_give_ups_total")
}

// A link that is given up because of its name may be in the middle of a restart. It is down all the same until it is started
// again.
func TestALinkThatIsGivenUpIsDownWhateverItsProcessesStillSay(t *testing.T) {
	m := newMetrics(prometheus.NewRegistry(), "orders", "n1")
	l := m.link(linkKey{producer: "n0"})
	l.event(LinkUp{})
	l.event(LinkGaveUp{Reason: &NameInUseError{}})
	for _, late := range []Event{ConsumerStarted{}, LinkUp{}, LinkCrashed{Reason: ErrSocketClosed}, LinkFenced{}} {
		l.event(late)
		assert.Equal(t, meterDown, l.state, "%T", late)
	}
	assert.Equal(t, map[string]uint64{"socket_closed": 1, "fenced": 1}, l.restarts)
	l.starts()
	assert.Equal(t, meterConnecting, l.state)
	l.event(LinkUp{})
	assert.Equal(t, meterUp, l.state)
}

func TestALinkWhoseNameIsInUseIsDownForAsLongAsItIsLeftAlone(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	requireConnections := func(connecting, up, down int) {
		requireSeries(t, registry, fmt.Sprintf(`
			shearpin_replication_connections{bucket="orders",consumer="n1",state="connecting"} %d
			shearpin_replication_connections{bucket="orders",consumer="n1",state="down"} %d
			shearpin_replication_connections{bucket="orders",consumer="n1",state="up"} %d
		`, connecting, down, up), "shearpin_replication_connections")
	}
	onStage(t, func(s *stage) { s.metrics = registry }, func(s *stage) {
		s.up(0)
		for range nameInUseKicks - 1 {
			_ = s.p.raw.Close()
			s.link()
			synctest.Wait()
			requireConnections(0, 1, 0)
		}
		_ = s.p.raw.Close()
		synctest.Wait()
		require.Equal(t, "down", s.status().State)
		requireConnections(0, 0, 1)
		actortest.Elapse(2 * firstInUseRetry)
		requireConnections(0, 1, 0)
	})
}

// Managers come and go at the same time: nobody is lost, nobody is left.
func TestJoiningAndLeavingAtOnce(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				m := newMetrics(registry, "orders", fmt.Sprint("n", i))
				first, endFirst := context.WithCancel(t.Context())
				second, endSecond := context.WithCancel(t.Context())
				assert.NoError(t, m.join(first))
				m.link(linkKey{producer: "p"})
				assert.NoError(t, m.join(second), "its process has a successor before it is gone")
				endFirst()
				families, err := registry.Gather()
				assert.NoError(t, err)
				mine := 0
				for _, f := range families {
					for _, s := range f.GetMetric() {
						if f.GetName() == "shearpin_replication_link_up" && s.GetLabel()[1].GetValue() == fmt.Sprint("n", i) {
							mine++
						}
					}
				}
				assert.Equal(t, 1, mine)
				endSecond()
				assert.NoError(t, m.left(t.Context()))
			}
		})
	}
	wg.Wait()
	families, err := registry.Gather()
	require.NoError(t, err)
	assert.Empty(t, families)
}

func TestNoMetricsCostNothing(t *testing.T) {
	var m *metrics
	l := m.link(linkKey{})
	require.Nil(t, l)
	require.NoError(t, m.join(t.Context()))
	require.NoError(t, m.left(t.Context()))
	f := endFrame(1, streamOpaque(1), 2)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		l.event(LinkUp{})
		l.refused(RoleConsumer, io.EOF)
		l.changed(flightStart, 1, streamNone, streamAdding)
		l.ended(f, "adding")
		l.listen(nil)
		l.starts()
		m.forget(nil)
	}))
}
