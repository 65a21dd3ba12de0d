package dcp

import (
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/dcp/relay"
	"github.com/shearpin/shearpin/supervisor"
)

// linkMeter counts for one link, over all its restarts. Its methods may be called from any goroutine.
type linkMeter struct {
	all *metrics

	mu    sync.Mutex
	state meterState
	// streams are the vbuckets in each state but none; began is when each one that is being added was.
	streams  [streamStates]int
	began    map[uint16]time.Time
	restarts map[string]uint64
	giveUps  map[string]uint64
	refusals map[refusal]uint64
	ends     map[streamEndWords]uint64
	// relay is that of the latest incarnation; before adds up those that were before it.
	relay                     *relay.Relay
	bytesBefore, framesBefore [2]uint64
}

const streamStates = len(streamStateNames)

type (
	refusal        struct{ role, step string }
	streamEndWords struct{ status, phase string }
)

// meterState is what is known of a link.
type meterState uint8

const (
	meterConnecting meterState = iota
	meterUp
	meterDown
)

var meterStateNames = [...]string{"connecting", "up", "down"}

func (s meterState) String() string { return meterStateNames[s] }

// directionNames are by the side that is read.
var directionNames = map[relay.Side]string{relay.Consumer: "consumer_to_producer", relay.Producer: "producer_to_consumer"}

func newLinkMeter(all *metrics) *linkMeter {
	return &linkMeter{
		all: all, began: map[uint16]time.Time{},
		restarts: map[string]uint64{}, giveUps: map[string]uint64{}, refusals: map[refusal]uint64{}, ends: map[streamEndWords]uint64{},
	}
}

// starts says that the link is started, for the first time or again.
func (l *linkMeter) starts() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = meterConnecting
}

// event follows the link's news.
func (l *linkMeter) event(event Event) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e := event.(type) {
	case ConsumerStarted:
		l.lost(meterConnecting)
	case LinkUp:
		l.enter(meterUp)
	case LinkCrashed:
		l.lost(meterConnecting)
		l.restarts[restartWord(e.Reason)]++
	case LinkFenced:
		l.lost(meterConnecting)
		l.restarts[restartWord(ErrFenced)]++
	case LinkGaveUp:
		l.lost(meterDown)
		l.giveUps[giveUpWord(e.Reason)]++
	}
}

// lost forgets the streams of the connections. The caller holds the lock.
func (l *linkMeter) lost(state meterState) {
	l.enter(state)
	l.streams = [streamStates]int{}
	clear(l.began)
}

// enter changes the state. A link that was given up may be in the middle of a restart; it is down until it is started again.
func (l *linkMeter) enter(state meterState) {
	if l.state != meterDown {
		l.state = state
	}
}

// refused counts a connection that could not be opened.
func (l *linkMeter) refused(role string, err error) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusals[refusal{role: role, step: stepWord(err)}]++
}

// changed follows a vbucket's state.
func (l *linkMeter) changed(now time.Time, vb uint16, from, to streamState) {
	if l == nil {
		return
	}
	if began, added := l.moveStream(now, vb, from, to); added {
		l.all.setUp(now.Sub(began))
	}
}

// moveStream reports whether the change completes a set-up, and when that began.
func (l *linkMeter) moveStream(now time.Time, vb uint16, from, to streamState) (began time.Time, added bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if from != streamNone && l.streams[from] == 0 {
		return time.Time{}, false // of connections that are lost
	}
	l.streams[from]--
	l.streams[to]++
	began, adding := l.began[vb]
	delete(l.began, vb)
	if to == streamAdding {
		l.began[vb] = now
	}
	return began, adding && to == streamLive
}

// ended counts a STREAM_END that comes in a phase.
func (l *linkMeter) ended(f mcbp.Frame, phase string) {
	if l == nil {
		return
	}
	status := wordOther
	if extras := f.Extras(); len(extras) == 4 {
		status = endWord(mcbp.EndReason(binary.BigEndian.Uint32(extras)))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends[streamEndWords{status: status, phase: phase}]++
}

// listen goes over to the relay of a new incarnation.
func (l *linkMeter) listen(r *relay.Relay) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytesBefore, l.framesBefore = l.movedLocked()
	l.relay = r
}

// moved is what was read, by side.
func (l *linkMeter) moved() (bytes, frames [2]uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.movedLocked()
}

func (l *linkMeter) movedLocked() (bytes, frames [2]uint64) {
	bytes, frames = l.bytesBefore, l.framesBefore
	if l.relay == nil {
		return bytes, frames
	}
	stats := l.relay.Stats()
	bytes[relay.Consumer] += stats.FromConsumer.Bytes
	frames[relay.Consumer] += stats.FromConsumer.Frames
	bytes[relay.Producer] += stats.FromProducer.Bytes
	frames[relay.Producer] += stats.FromProducer.Frames
	return bytes, frames
}

// wordOther is the word for what has none.
const wordOther = "other"

// restartWord is the reason of a restart in one word of a closed set.
func restartWord(reason error) string {
	switch {
	case is[*UnexpectedStreamEnd](reason):
		return "unexpected_stream_end"
	case is[*AddStreamTimeout](reason):
		return "add_stream_timeout"
	case is[*CloseStreamTimeout](reason):
		return "close_stream_timeout"
	case is[*TakeoverTimeout](reason):
		return "takeover_timeout"
	case is[*UnknownOpaque](reason):
		return "unknown_opaque"
	case is[*MalformedFrame](reason), is[*mcbp.MalformedError](reason):
		return "malformed_frame"
	case is[*FeatureMismatch](reason):
		return "feature_mismatch"
	case is[*actors.PanicError](reason):
		return "panic"
	case errors.Is(reason, relay.ErrStalled):
		return "peer_stalled"
	case errors.Is(reason, relay.ErrInjectFull):
		return "overloaded"
	case errors.Is(reason, ErrFenced):
		return "fenced"
	case errors.Is(reason, ErrSocketClosed):
		return "socket_closed"
	case errors.Is(reason, actors.Killed):
		return "killed"
	}
	return wordOther
}

// giveUpWord is why a link was given up.
func giveUpWord(reason error) string {
	switch {
	case is[*NameInUseError](reason):
		return "name_in_use"
	case is[*supervisor.GaveUpError](reason):
		return "restart_intensity"
	}
	return wordOther
}

// stepWord is the step of a handshake that failed.
func stepWord(err error) string {
	var connect *kv.ConnectError
	switch {
	case errors.As(err, &connect):
		switch connect.Step {
		case kv.StepConfig, kv.StepDial, kv.StepTLS, kv.StepSASL, kv.StepSelectBucket, kv.StepHello, kv.StepDCPOpen:
			return connect.Step
		}
	case errors.Is(err, ErrUnknownNode):
		return "unknown_node"
	}
	return wordOther
}

// endWord is the reason of a STREAM_END; those that have no name are one.
func endWord(reason mcbp.EndReason) string {
	switch reason {
	case mcbp.EndOK:
		return "ok"
	case mcbp.EndClosed:
		return "closed"
	case mcbp.EndStateChanged:
		return "state_changed"
	case mcbp.EndDisconnected:
		return "disconnected"
	case mcbp.EndTooSlow:
		return "too_slow"
	case mcbp.EndBackfillFailed:
		return "backfill_failed"
	case mcbp.EndRollback:
		return "rollback"
	case mcbp.EndFilterEmpty:
		return "filter_empty"
	case mcbp.EndLostPrivileges:
		return "lost_privileges"
	}
	return wordOther
}

// is reports whether an error of a type is in the chain.
func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}
