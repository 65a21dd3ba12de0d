package kvnode

import (
	"strconv"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// negotiation is what a consumer asks of its producer before its first STREAM_REQ: an error map, which nothing depends on,
// and CONTROLs, in the order of real engines (dcp-wire §7). It asks in groups and waits for all answers of one before it
// asks the next; a current engine's groups have one member each. It decides; the consumer sends.
type negotiation struct {
	started bool
	// finishedOnce says that the first list is through: streams may be requested, also while something is asked again.
	finishedOnce bool
	rest         [][]setting
	// waiting are the requests without an answer, by opaque.
	waiting map[mcbp.Opaque]setting

	// Results. buffer is the size in bytes last accepted by the producer, 0 without flow control.
	v7Status bool
	// syncWrites says that the producer tells of durable writes, and listens to what is acknowledged.
	syncWrites bool
	noop       bool
	buffer     uint32
}

// setting is a CONTROL, or GET_ERROR_MAP if the key is empty.
type setting struct {
	key, value string
}

const (
	settingNoop         = "enable_noop"
	settingNoopInterval = "set_noop_interval"
	settingV7Status     = "v7_dcp_status_codes"
	settingSyncWrites   = "enable_sync_writes"
	settingBuffer       = "connection_buffer_size"
)

// start lists what to ask. Only a consumer that has a name can acknowledge durable writes.
func (n *negotiation) start(version Version, consumerName string, buffer uint32) {
	n.started = true
	interval := "0.100000"
	if version == Version72 {
		interval = "1"
	}
	first := []setting{
		{settingNoop, "true"},
		{settingNoopInterval, interval},
		{"set_priority", "high"},
		{"supports_cursor_dropping_vulcan", "true"},
		{"supports_hifi_MFU", "true"},
		{"send_stream_end_on_client_close_stream", "true"},
		{"enable_expiry_opcode", "true"},
	}
	second := []setting{{"include_deleted_user_xattrs", "true"}}
	if consumerName != "" {
		first = append(first, setting{settingSyncWrites, "true"})
		second = []setting{{"consumer_name", consumerName}, second[0]}
	}
	third := []setting{{settingV7Status, "true"}, {"flatbuffers_system_events", "true"}, {"change_streams", "true"}}
	if version == Version72 {
		n.rest = [][]setting{{bufferSetting(buffer), {}}, first, second}
		n.oneByOne(third)
		return
	}
	n.rest = [][]setting{{{}}}
	n.oneByOne(first)
	n.oneByOne(second)
	n.oneByOne(third)
	n.oneByOne([]setting{{"max_marker_version", "2.2"}, bufferSetting(buffer)})
}

func (n *negotiation) oneByOne(list []setting) {
	for _, s := range list {
		n.rest = append(n.rest, []setting{s})
	}
}

func bufferSetting(buffer uint32) setting {
	return setting{settingBuffer, strconv.FormatUint(uint64(buffer), 10)}
}

// resize asks for another buffer size, after whatever is asked already.
func (n *negotiation) resize(buffer uint32) {
	n.rest = append(n.rest, []setting{bufferSetting(buffer)})
}

// finished reports whether nothing is left to ask or to wait for.
func (n *negotiation) finished() bool { return n.started && len(n.waiting) == 0 && len(n.rest) == 0 }

// next returns the requests to send now, if there are any, under opaques that it takes from the counter.
func (n *negotiation) next(opaque func() mcbp.Opaque) []mcbp.Frame {
	if len(n.waiting) > 0 || len(n.rest) == 0 {
		return nil
	}
	group := n.rest[0]
	n.rest = n.rest[1:]
	n.waiting = make(map[mcbp.Opaque]setting, len(group))
	frames := make([]mcbp.Frame, 0, len(group))
	for _, s := range group {
		o := opaque()
		n.waiting[o] = s
		if s.key == "" {
			frames = append(frames, (&mcbp.Packet{Opcode: mcbp.OpGetErrorMap, Opaque: o, Value: []byte{0, 0}}).Frame())
		} else {
			frames = append(frames, mcbp.Control{Opaque: o, Key: s.key, Value: s.value}.Append(nil))
		}
	}
	return frames
}

// answered takes an answer. It reports false if nobody asked.
func (n *negotiation) answered(opaque mcbp.Opaque, status mcbp.Status) bool {
	asked, ok := n.waiting[opaque]
	if !ok {
		return false
	}
	delete(n.waiting, opaque)
	accepted := status == mcbp.StatusSuccess
	switch asked.key {
	case settingNoop:
		n.noop = accepted
	case settingNoopInterval:
		if !accepted && asked.value != "1" { // older producers want whole seconds
			n.rest = append([][]setting{{{settingNoopInterval, "1"}}}, n.rest...)
		}
	case settingSyncWrites:
		n.syncWrites = accepted
	case settingV7Status:
		n.v7Status = accepted
	case settingBuffer:
		if size, err := strconv.ParseUint(asked.value, 10, 32); accepted && err == nil {
			n.buffer = uint32(size)
		}
	}
	n.finishedOnce = n.finishedOnce || n.finished()
	return true
}
