package dcp

import (
	"github.com/prometheus/client_golang/prometheus"
)

// scrape adds up the figures of all managers for one collection: several of them may count under the same labels, such as
// the links of one pair of nodes.
type scrape struct {
	figures map[figureKey]float64
	pairs   map[pairKey]pairUp
	setups  map[[2]string]*durations
}

// figureKey is a figure's description and its labels in their order.
type figureKey struct {
	desc   *prometheus.Desc
	labels [5]string
}

type (
	pairKey struct{ bucket, consumer, producer string }
	pairUp  struct{ links, up int }
)

func newScrape() *scrape {
	return &scrape{figures: map[figureKey]float64{}, pairs: map[pairKey]pairUp{}, setups: map[[2]string]*durations{}}
}

func (s *scrape) add(desc *prometheus.Desc, value float64, labels ...string) {
	key := figureKey{desc: desc}
	copy(key.labels[:], labels)
	s.figures[key] += value
}

// collect adds the figures of one manager.
func (m *metrics) collect(s *scrape) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, state := range meterStateNames {
		s.add(connectionsDesc, 0, m.bucket, m.consumer, state)
	}
	for key, l := range m.links {
		l.collect(s, pairKey{bucket: m.bucket, consumer: m.consumer, producer: label(key.producer)})
	}
	at := [2]string{m.bucket, m.consumer}
	all, ok := s.setups[at]
	if !ok {
		all = &durations{}
		s.setups[at] = all
	}
	for i, n := range m.setup.counts {
		all.counts[i] += n
	}
	all.sum += m.setup.sum
}

func (l *linkMeter) collect(s *scrape, pair pairKey) {
	bytes, frames := l.moved()
	l.mu.Lock()
	defer l.mu.Unlock()
	b, c, p := pair.bucket, pair.consumer, pair.producer
	s.add(connectionsDesc, 1, b, c, l.state.String())
	up := s.pairs[pair]
	up.links++
	if l.state == meterUp {
		up.up++
	}
	s.pairs[pair] = up
	for state := streamAdding; int(state) < len(l.streams); state++ {
		s.add(streamsDesc, float64(l.streams[state]), b, c, p, state.String())
	}
	for reason, n := range l.restarts {
		s.add(restartsDesc, float64(n), b, c, p, reason)
	}
	for reason, n := range l.giveUps {
		s.add(giveUpsDesc, float64(n), b, c, p, reason)
	}
	for at, n := range l.refusals {
		s.add(connectFailuresDesc, float64(n), b, c, p, at.role, at.step)
	}
	for end, n := range l.ends {
		s.add(streamEndsDesc, float64(n), b, c, p, end.status, end.phase)
	}
	for side, direction := range directionNames {
		s.add(bytesDesc, float64(bytes[side]), b, c, p, direction)
		s.add(framesDesc, float64(frames[side]), b, c, p, direction)
	}
}

// kinds are the descriptions with the number of their labels. What is not a counter is a gauge.
var kinds = map[*prometheus.Desc]struct {
	labels int
	kind   prometheus.ValueType
}{
	connectionsDesc:     {3, prometheus.GaugeValue},
	linkUpDesc:          {3, prometheus.GaugeValue},
	streamsDesc:         {4, prometheus.GaugeValue},
	restartsDesc:        {4, prometheus.CounterValue},
	giveUpsDesc:         {4, prometheus.CounterValue},
	connectFailuresDesc: {5, prometheus.CounterValue},
	streamEndsDesc:      {5, prometheus.CounterValue},
	bytesDesc:           {4, prometheus.CounterValue},
	framesDesc:          {4, prometheus.CounterValue},
}

func (s *scrape) emit(out chan<- prometheus.Metric) {
	for pair, of := range s.pairs {
		up := 0.0
		if of.up == of.links {
			up = 1
		}
		s.add(linkUpDesc, up, pair.bucket, pair.consumer, pair.producer)
	}
	for key, value := range s.figures {
		of := kinds[key.desc]
		out <- prometheus.MustNewConstMetric(key.desc, of.kind, value, key.labels[:of.labels]...)
	}
	for at, d := range s.setups {
		var count uint64
		buckets := map[float64]uint64{}
		for i, n := range d.counts {
			count += n
			if i < len(setupBuckets) {
				buckets[setupBuckets[i]] = count
			}
		}
		out <- prometheus.MustNewConstHistogram(setupDesc, count, d.sum, buckets, at[:]...)
	}
}
