package fault

import "github.com/shearpin/shearpin/dcp/mcbp"

// staleEnds keeps back the STREAM_ENDs of streams that were closed, and lets each go when the next stream of its vbucket is
// requested on the same connection. A producer sends the end some time after the answer to the close; whether it has come
// yet must make no difference, so the end that is let go is written anew and the producer's own is dropped.
type staleEnds struct {
	// opaques are those of the streams that were requested last.
	opaques map[stream]mcbp.Opaque
	kept    map[stream]mcbp.Opaque
	// due marks ends that have been let go before the producer's own came.
	due map[dueEnd]struct{}
}

type dueEnd struct {
	stream stream
	opaque mcbp.Opaque
}

func newStaleEnds() staleEnds {
	return staleEnds{opaques: map[stream]mcbp.Opaque{}, kept: map[stream]mcbp.Opaque{}, due: map[dueEnd]struct{}{}}
}

// closed starts to keep the end of the vbucket's stream.
func (e *staleEnds) closed(s stream) {
	if opaque, ok := e.opaques[s]; ok {
		e.kept[s] = opaque
		e.due[dueEnd{s, opaque}] = struct{}{}
	}
}

// keeps reports whether an end of the vbucket is being kept.
func (e *staleEnds) keeps(s stream) bool {
	_, ok := e.kept[s]
	return ok
}

// requested takes note of the next stream, and lets the end of the one before it go, if it was kept.
func (e *staleEnds) requested(s stream, opaque mcbp.Opaque) (end mcbp.StreamEnd, kept bool) {
	old, kept := e.kept[s]
	delete(e.kept, s)
	e.opaques[s] = opaque
	return mcbp.StreamEnd{VBucket: s.vb, Opaque: old, Reason: mcbp.EndClosed}, kept
}

// ending reports whether an end that the producer is about to send is one that is, or was, kept in its stead.
func (e *staleEnds) ending(s stream, opaque mcbp.Opaque) bool {
	_, due := e.due[dueEnd{s, opaque}]
	delete(e.due, dueEnd{s, opaque})
	return due
}

// forget drops what is known of a link: its connection was opened anew.
func (e *staleEnds) forget(l link) {
	for s := range e.opaques {
		if s.link == l {
			delete(e.opaques, s)
			delete(e.kept, s)
		}
	}
	for d := range e.due {
		if d.stream.link == l {
			delete(e.due, d)
		}
	}
}
