package fault

import (
	"bytes"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// interceptor is a plan's eyes and hands in one node.
type interceptor struct {
	plan *Plan
	node string
}

// Received implements [kvnode.Interceptor].
func (i *interceptor) Received(c kvnode.Connection, vb uint16, f mcbp.Frame) kvnode.Action {
	p := i.plan
	p.mu.Lock()
	defer p.mu.Unlock()
	s := stream{link{c.Bucket, c.Name}, vb}
	if f.IsResponse() {
		return kvnode.Action{}
	}
	switch op := f.Opcode(); {
	case op == mcbp.OpDCPOpen:
		i.opened(s.link, c.Role)
	case op == mcbp.OpDCPAddStream:
		return i.addStream(s, f)
	case op == mcbp.OpDCPCloseStream:
		p.note(f.Opaque())
	case op == mcbp.OpDCPStreamReq && c.Role == kvnode.RoleProducer:
		return i.streamRequested(s, f.Opaque())
	case op == mcbp.OpDCPStreamEnd && c.Role == kvnode.RoleConsumer:
		return i.streamEnded(s, f.Opaque())
	}
	return kvnode.Action{}
}

// Sending implements [kvnode.Interceptor].
func (i *interceptor) Sending(c kvnode.Connection, vb uint16, f mcbp.Frame) kvnode.Action {
	p := i.plan
	p.mu.Lock()
	defer p.mu.Unlock()
	s := stream{link{c.Bucket, c.Name}, vb}
	switch op := f.Opcode(); {
	case op == mcbp.OpDCPStreamReq && f.IsResponse():
		return i.answeringRequest(s, f)
	case op == mcbp.OpDCPStreamEnd && !f.IsResponse():
		return i.endingStream(s, f.Opaque())
	case op == mcbp.OpDCPCloseStream && f.IsResponse() && c.Role == kvnode.RoleProducer:
		i.closeAnswered(s, f.Status())
	case op == mcbp.OpDCPAddStream && f.IsResponse():
		return i.answeringAdd(s, f)
	}
	return kvnode.Action{}
}

// opened learns which node has which end. A connection that is opened anew has forgotten its streams: what was meant to
// happen on it must happen elsewhere.
func (i *interceptor) opened(l link, role kvnode.Role) {
	p := i.plan
	if p.nodes[l] == nil {
		p.nodes[l] = &ends{}
	}
	p.nodes[l][role] = i.node
	if p.target != nil && p.target.stream.link == l {
		p.target = nil
	}
	if role == kvnode.RoleProducer {
		p.stale.forget(l)
	}
}

// addStream chooses the set-up, and strikes at once if the fault is the consumer's alone.
func (i *interceptor) addStream(s stream, f mcbp.Frame) kvnode.Action {
	p := i.plan
	p.note(f.Opaque())
	m, err := mcbp.ParseAddStream(f)
	if err != nil || !p.fits(s, m.Flags) {
		return kvnode.Action{}
	}
	p.target = &setup{stream: s, add: m.Opaque}
	switch p.opts.Kind {
	case NoAddResponse:
		i.strikeUnrequested()
		return kvnode.Action{Drop: true}
	case DropConsumer:
		i.strikeUnrequested()
		return kvnode.Action{Close: true}
	case AddError:
		i.strikeUnrequested()
		refusal := mcbp.AddStreamAnswer{Opaque: m.Opaque, Status: mcbp.StatusNotMyVBucket}
		return kvnode.Action{Drop: true, Send: []mcbp.Frame{refusal.Append(nil)}}
	}
	return kvnode.Action{}
}

func (i *interceptor) strikeUnrequested() {
	i.plan.strike(i.node, mcbp.Opaque{}, false, mcbp.Opaque{})
}

// streamRequested hears, at the producer, of the STREAM_REQ that followed.
func (i *interceptor) streamRequested(s stream, opaque mcbp.Opaque) kvnode.Action {
	p := i.plan
	chosen := p.target != nil && p.target.stream == s && !p.fired
	if chosen {
		p.target.opaque, p.target.requested = opaque, true
	}
	if chosen && p.opts.Kind == DropProducer {
		p.strike(i.node, opaque, true, mcbp.Opaque{})
		return kvnode.Action{Close: true}
	}
	if p.opts.Kind != StaleStreamEnd {
		return kvnode.Action{}
	}
	end, kept := p.stale.requested(s, opaque)
	if !kept {
		return kvnode.Action{}
	}
	if chosen {
		p.strike(i.node, end.Opaque, true, mcbp.Opaque{})
	}
	return kvnode.Action{Send: []mcbp.Frame{end.Append(nil)}}
}

// answeringRequest ends the chosen stream right after it was accepted.
func (i *interceptor) answeringRequest(s stream, f mcbp.Frame) kvnode.Action {
	p := i.plan
	early := p.opts.Kind == EarlyStreamEnd || p.opts.Kind == LateAnswer
	if !early || p.fired || p.target == nil || p.target.stream != s || f.Status() != mcbp.StatusSuccess {
		return kvnode.Action{}
	}
	return kvnode.Action{End: true, Reason: mcbp.EndStateChanged}
}

// endingStream strikes with the end of the chosen stream, or keeps the end of a closed one back.
func (i *interceptor) endingStream(s stream, opaque mcbp.Opaque) kvnode.Action {
	p := i.plan
	switch p.opts.Kind {
	case EarlyStreamEnd, LateAnswer:
		if t := p.target; !p.fired && t != nil && t.stream == s && t.requested && t.opaque == opaque {
			p.strike(i.node, t.opaque, true, mcbp.Opaque{})
		}
	case StaleStreamEnd:
		return kvnode.Action{Drop: p.stale.ending(s, opaque)}
	}
	return kvnode.Action{}
}

// closeAnswered hears, at the producer, that a stream was closed: its end is to be kept back from now on.
func (i *interceptor) closeAnswered(s stream, status mcbp.Status) {
	p := i.plan
	if p.opts.Kind == StaleStreamEnd && p.armed && !p.fired && status == mcbp.StatusSuccess && p.strikes(s.vb) {
		p.stale.closed(s)
	}
}

// answeringAdd keeps, drops or forges the answer to the chosen ADD_STREAM. If the set-up failed for another reason, the
// fault waits for the next one.
func (i *interceptor) answeringAdd(s stream, f mcbp.Frame) kvnode.Action {
	p := i.plan
	t := p.target
	if t == nil || t.stream != s || t.add != f.Opaque() {
		return kvnode.Action{}
	}
	if f.Status() != mcbp.StatusSuccess {
		p.target = nil
		return kvnode.Action{}
	}
	switch p.opts.Kind {
	case EarlyStreamEnd:
		return kvnode.Action{Drop: true}
	case LateAnswer:
		t.answer = bytes.Clone(f)
		return kvnode.Action{Drop: true}
	case UnknownOpaque:
		m, err := mcbp.ParseAddStreamAnswer(f)
		if err != nil {
			return kvnode.Action{}
		}
		m.Opaque = p.makeUp()
		p.strike(i.node, t.opaque, t.requested, m.Opaque)
		p.target = nil
		return kvnode.Action{Drop: true, Send: []mcbp.Frame{m.Append(nil)}}
	}
	return kvnode.Action{}
}

// streamEnded lets the late answer go once its stream's end has come.
func (i *interceptor) streamEnded(s stream, opaque mcbp.Opaque) kvnode.Action {
	p := i.plan
	t := p.target
	if p.opts.Kind != LateAnswer || t == nil || t.stream != s || t.opaque != opaque || t.answer == nil {
		return kvnode.Action{}
	}
	p.target = nil
	return kvnode.Action{Send: []mcbp.Frame{t.answer}}
}
