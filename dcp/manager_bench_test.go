package dcp

import (
	"fmt"
	"testing"
	"time"
)

// everyVB is how many vbuckets there can be.
const everyVB = 1 << 16

// office drives a manager of that many, like a desk that is in a hurry: links do at once what they are asked for.
type office struct {
	m   *managerMachine
	now time.Time
	ids callID
	ups map[linkKey]uint64
}

func newOffice(producers, conns int) *office {
	o := &office{m: newManagerMachine("orders", "n9", conns, Limits{}), now: time.Unix(1000, 0), ups: map[linkKey]uint64{}}
	o.m.prepare(o.id(), 1, o.now)
	o.m.nuked(nil)
	changes := map[uint16]string{}
	for vb := range everyVB {
		changes[uint16(vb)] = fmt.Sprintf("n%d", vb%producers)
	}
	o.m.apply(o.id(), 1, "", changes, o.now)
	o.perform()
	return o
}

func (o *office) id() callID { o.ids++; return o.ids }

func (o *office) perform() {
	for effects := o.m.take(); len(effects) > 0; effects = o.m.take() {
		for _, e := range effects {
			switch e := e.(type) {
			case startLink:
				o.m.linkStarted(e.key)
				o.up(e.key)
			case callLink:
				o.m.linkAnswered(e.id, nil, nil, o.ups[e.key], o.now)
			case stopLink:
				o.m.linkStopped(e.key, nil, o.now)
			}
		}
	}
}

func (o *office) up(key linkKey) {
	o.ups[key]++
	o.m.linkIsUp(key, o.ups[key], o.now)
}

func (o *office) pass(d time.Duration) {
	o.now = o.now.Add(d)
	o.m.tick(o.now)
	o.perform()
}

// A manager's mailbox is worked on one message at a time, and what one costs is what Status waits for.
func BenchmarkManagerOfEveryVBucket(b *testing.B) {
	for _, shape := range []struct{ producers, conns int }{{1, 1}, {32, 4}} {
		o := newOffice(shape.producers, shape.conns)
		key := linkKey{producer: "n0"}
		wanted := map[uint16]string{}
		for vb, r := range o.m.replicas {
			wanted[vb] = r.desired
		}
		for _, c := range []struct {
			name string
			op   func()
		}{
			{"quiet tick", func() { o.pass(managerTickEvery) }},
			{"tick after a change", func() { o.m.known = nil; o.pass(managerTickEvery) }},
			{"tick with everything outdated and busy", func() {
				o.m.release(o.id(), o.m.epoch, "nobody")
				for _, l := range o.m.links {
					l.outdated = true
					l.backlog = 0
				}
				for _, r := range o.m.replicas {
					r.owner = "somebody"
				}
				o.pass(managerTickEvery)
			}},
			{"prepare", func() { o.m.prepare(o.id(), o.m.epoch+1, o.now); o.perform() }},
			{"retain", func() { o.m.retain(o.id(), o.m.epoch, "", wanted, o.now); o.perform() }},
			{"want", func() { o.m.want(o.id(), o.m.epoch, wanted, o.now); o.perform() }},
			{"release", func() { o.m.release(o.id(), o.m.epoch, "somebody"); o.perform() }},
			{"apply of one", func() { o.m.apply(o.id(), o.m.epoch, "", map[uint16]string{0: "n0"}, o.now); o.perform() }},
			{"crash of a link, and back", func() {
				o.m.linkCrashed(key, o.ups[key], ErrSocketClosed, nil, o.now)
				o.perform()
				o.now = o.now.Add(time.Minute)
				o.up(key)
				o.perform()
			}},
		} {
			b.Run(fmt.Sprintf("%d producers/%d connections/%s", shape.producers, shape.conns, c.name), func(b *testing.B) {
				for b.Loop() {
					c.op()
				}
			})
		}
	}
}

// Every stream ends, because the producer's vbuckets have changed, say; each comes back alone.
func BenchmarkManagerWhoseStreamsAllEnd(b *testing.B) {
	for _, n := range []int{1 << 10, 1 << 12} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				o := newOffice(1, 1)
				for vb := range n {
					o.m.streamEnded(linkKey{producer: "n0"}, uint16(vb), o.now)
					o.perform()
				}
				o.pass(2 * time.Second)
				for vb := range n {
					if r := o.m.replicas[uint16(vb)]; !r.has {
						b.Fatalf("vb %d did not come back: %+v", vb, r)
					}
				}
			}
		})
	}
}
