package kvnode

import (
	"strconv"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// negotiation is what a consumer asks of its producer before its first STREAM_REQ: an error map, which nothing depends on,
// and then one CONTROL at a time, in the order of real engines (dcp-wire §7). It decides; the consumer sends.
type negotiation struct {
	started bool
	rest    []setting
	// asked is the request that is waiting for its answer, if waiting.
	asked   setting
	opaque  mcbp.Opaque
	waiting bool

	// Results. buffer is the size in bytes last accepted by the producer, 0 without flow control.
	v7Status bool
	noop     bool
	buffer   uint32
}

// setting is a CONTROL, or GET_ERROR_MAP if the key is empty.
type setting struct {
	key, value string
}

const (
	settingNoop         = "enable_noop"
	settingNoopInterval = "set_noop_interval"
	settingV7Status     = "v7_dcp_status_codes"
	settingBuffer       = "connection_buffer_size"
)

// start lists what to ask. Only a consumer that has a name can acknowledge durable writes.
func (n *negotiation) start(consumerName string, buffer uint32) {
	n.started = true
	n.rest = []setting{
		{},
		{settingNoop, "true"},
		{settingNoopInterval, "0.100000"},
		{"set_priority", "high"},
		{"supports_cursor_dropping_vulcan", "true"},
		{"supports_hifi_MFU", "true"},
		{"send_stream_end_on_client_close_stream", "true"},
		{"enable_expiry_opcode", "true"},
	}
	if consumerName != "" {
		n.rest = append(n.rest, setting{"enable_sync_writes", "true"}, setting{"consumer_name", consumerName})
	}
	n.rest = append(n.rest,
		setting{"include_deleted_user_xattrs", "true"},
		setting{settingV7Status, "true"},
		setting{"flatbuffers_system_events", "true"},
		setting{"change_streams", "true"},
		setting{"max_marker_version", "2.2"},
	)
	n.resize(buffer)
}

// resize asks for another buffer size, after whatever is asked already.
func (n *negotiation) resize(buffer uint32) {
	n.rest = append(n.rest, setting{settingBuffer, strconv.FormatUint(uint64(buffer), 10)})
}

// finished reports whether nothing is left to ask or to wait for: streams may be requested.
func (n *negotiation) finished() bool { return n.started && !n.waiting && len(n.rest) == 0 }

// next returns the request to send now, if there is one, under an opaque that it takes from the counter.
func (n *negotiation) next(opaque func() mcbp.Opaque) (mcbp.Frame, bool) {
	if !n.started || n.waiting || len(n.rest) == 0 {
		return nil, false
	}
	n.asked, n.rest = n.rest[0], n.rest[1:]
	n.opaque, n.waiting = opaque(), true
	if n.asked.key == "" {
		return (&mcbp.Packet{Opcode: mcbp.OpGetErrorMap, Opaque: n.opaque, Value: []byte{0, 0}}).Frame(), true
	}
	return mcbp.Control{Opaque: n.opaque, Key: n.asked.key, Value: n.asked.value}.Append(nil), true
}

// answered takes an answer. It reports false if nobody asked.
func (n *negotiation) answered(opaque mcbp.Opaque, status mcbp.Status) bool {
	if !n.waiting || opaque != n.opaque {
		return false
	}
	n.waiting = false
	accepted := status == mcbp.StatusSuccess
	switch n.asked.key {
	case settingNoop:
		n.noop = accepted
	case settingNoopInterval:
		if !accepted && n.asked.value != "1" { // older producers want whole seconds
			n.rest = append([]setting{{settingNoopInterval, "1"}}, n.rest...)
		}
	case settingV7Status:
		n.v7Status = accepted
	case settingBuffer:
		if size, err := strconv.ParseUint(n.asked.value, 10, 32); accepted && err == nil {
			n.buffer = uint32(size)
		}
	}
	return true
}
