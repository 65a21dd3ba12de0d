package kvnode

import (
	"sync/atomic"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// openDCP answers OPEN: the connection becomes one end of a replication. Whoever had the name before is out by then.
func (c *conn) openDCP(b *bucket, f mcbp.Frame) {
	open, err := mcbp.ParseOpen(f)
	if err != nil || c.end() != nil || open.Flags&mcbp.OpenFlagNotifier != 0 ||
		f.Datatype() != 0 && !c.features.has(mcbp.FeatureJSON) {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	l := link{
		c: c, b: b, collections: c.features.has(mcbp.FeatureCollections),
		name: Connection{Node: c.node.opts.Name, Bucket: b.name, Name: open.Name},
	}
	var end dcpEnd
	if open.Flags&mcbp.OpenFlagProducer != 0 {
		l.name.Role = RoleProducer
		end = newProducer(l, open.Flags)
	} else {
		end = newConsumer(l, open.ConsumerName)
	}
	if hooks := c.node.opts.Hooks; hooks != nil {
		hooks.Received(l.name, 0, f)
	}
	c.dcp.Store(&end)
	if !b.openDCP(c, end) {
		c.dcp.Store(nil)
		c.answer(f, mcbp.StatusNoBucket)
		return
	}
	c.answer(f, mcbp.StatusSuccess)
	c.node.wg.Go(func() { c.pump(end) })
	c.node.log.Debug("dcp_connection_opened", "bucket", b.name, "conn", l.name.Name, "role", l.name.Role.String())
}

// link is what both ends of a replication have in common: the connection, and the questions to the interceptor.
type link struct {
	c    *conn
	b    *bucket
	name Connection
	// collections says that keys carry a collection id.
	collections bool
	// outstanding is set by producers: the bytes sent and not acknowledged.
	outstanding *atomic.Int64
}

func (l *link) connection() Connection { return l.name }

// put sends a whole frame, and counts it for flow control.
func (l *link) put(f mcbp.Frame) {
	if l.outstanding != nil {
		l.outstanding.Add(int64(mcbp.FlowControlCost(f)))
	}
	l.c.out.append(f)
}

// received asks the interceptor about a control frame. It reports whether the end should act on the frame; an error
// closes the connection.
func (l *link) received(vb uint16, f mcbp.Frame) (proceed bool, err error) {
	hooks := l.c.node.opts.Hooks
	if hooks == nil {
		return true, nil
	}
	act := hooks.Received(l.name, vb, f)
	l.perform(act)
	if act.Close {
		return false, errInjectedClose
	}
	return !act.Drop, nil
}

// send asks the interceptor about a control frame and sends it, if it may. The caller looks only at End in the result.
func (l *link) send(vb uint16, f mcbp.Frame) Action {
	hooks := l.c.node.opts.Hooks
	if hooks == nil {
		l.put(f)
		return Action{}
	}
	act := hooks.Sending(l.name, vb, f)
	l.perform(act)
	if act.Close {
		l.c.close()
	} else if !act.Drop {
		l.put(f)
	}
	return act
}

func (l *link) perform(act Action) {
	for _, f := range act.Send {
		l.put(f)
	}
}

// respond sends an answer without a body, about a vbucket.
func (l *link) respond(vb uint16, to mcbp.Frame, status mcbp.Status) {
	l.send(vb, mcbp.Response(to, status).Frame())
}
