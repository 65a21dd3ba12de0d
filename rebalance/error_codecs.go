package rebalance

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// codecs are the kinds of errors that somebody recognises by type or value. Sentinels come first: they are compared by
// identity.
func codecs() []codec {
	return append(ownCodecs(), []codec{
		sentinel("canceled", context.Canceled),
		sentinel("deadline_exceeded", context.DeadlineExceeded),
		sentinel("os_deadline_exceeded", os.ErrDeadlineExceeded),
		sentinel("eof", io.EOF),
		sentinel("unexpected_eof", io.ErrUnexpectedEOF),
		sentinel("normal", actors.Normal),
		sentinel("shutdown", actors.Shutdown),
		sentinel("killed", actors.Killed),
		sentinel("no_process", actors.NoProcess),
		sentinel("superseded", dcp.ErrSuperseded),
		sentinel("shut", dcp.ErrShut),
		sentinel("socket_closed", dcp.ErrSocketClosed),
		sentinel("fenced", dcp.ErrFenced),
		sentinel("stream_open", dcp.ErrStreamOpen),
		sentinel("unknown_node", dcp.ErrUnknownNode),
		sentinel("dcp_deadline", dcp.ErrDeadline),
		sentinel("kv_closed", kv.ErrClosed),
		sentinel("plain_refused", kv.ErrPlainRefused),
		sentinel("server_unproven", kv.ErrServerUnproven),
		sentinel("nuke_unanswered", kv.ErrNukeUnanswered),

		plain[mcbp.Status]("status"),
		plain[*dcp.UnexpectedStreamEnd]("unexpected_stream_end"),
		plain[*dcp.AddStreamTimeout]("add_stream_timeout"),
		plain[*dcp.CloseStreamTimeout]("close_stream_timeout"),
		plain[*dcp.TakeoverTimeout]("takeover_timeout"),
		plain[*dcp.UnknownOpaque]("unknown_opaque"),
		plain[*dcp.MalformedFrame]("malformed_frame"),
		plain[*mcbp.MalformedError]("malformed_header"),
		plain[*dcp.StreamEndedError]("stream_ended"),
		plain[*dcp.StaleEpoch]("stale_epoch"),
		plain[*dcp.OverloadedError]("overloaded"),
		plain[*dcp.FeatureMismatch]("feature_mismatch"),
		plain[*dcp.StreamStatusError]("stream_status"), // its cause is its Status
		plain[*kv.StatusError]("kv_status"),            // so is this one's
		layer("link", func(e *dcp.LinkError, f *linkFields) { *f = linkFields{e.Producer, e.Consumer, e.Conn} },
			func(f linkFields, cause error) error {
				return &dcp.LinkError{Producer: f.Producer, Consumer: f.Consumer, Conn: f.Conn, Err: cause}
			}),
		layer("crash", func(e *dcp.CrashError, role *string) { *role = e.Role },
			func(role string, cause error) error { return &dcp.CrashError{Role: role, Err: cause} }),
		layer("socket", func(*dcp.SocketClosedError, *struct{}) {},
			func(_ struct{}, cause error) error { return &dcp.SocketClosedError{Err: cause} }),
		layer("not_connected", func(*dcp.NotConnectedError, *struct{}) {},
			func(_ struct{}, cause error) error { return &dcp.NotConnectedError{Err: cause} }),
		layer("name_in_use", func(e *dcp.NameInUseError, f *nameFields) { *f = nameFields{e.Name, e.Node, e.Kicks} },
			func(f nameFields, cause error) error {
				return &dcp.NameInUseError{Name: f.Name, Node: f.Node, Kicks: f.Kicks, Err: cause}
			}),
		layer("unfenced", func(e *dcp.UnfencedError, vbs *[]uint16) { *vbs = e.VBs },
			func(vbs []uint16, cause error) error { return &dcp.UnfencedError{VBs: vbs, Err: cause} }),
		layer("connect", func(e *kv.ConnectError, f *connectFields) { *f = connectFields{e.Node, e.Addr, e.Step} },
			func(f connectFields, cause error) error {
				return &kv.ConnectError{Node: f.Node, Addr: f.Addr, Step: f.Step, Err: cause}
			}),
		plain[*ActiveCopy]("active_copy"),
		plain[*kv.FeatureError]("features"),
		plain[*kv.ProtocolError]("kv_protocol"),
		plain[*kv.MechanismError]("mechanisms"), // its cause is one of its fields
		layer("auth", func(e *kv.AuthError, f *authFields) { *f = authFields{e.User, e.Mechanism} },
			func(f authFields, cause error) error {
				return &kv.AuthError{User: f.User, Mechanism: f.Mechanism, Err: cause}
			}),
		layer("endpoint", func(e *kv.EndpointError, field *string) { *field = e.Field },
			func(field string, cause error) error { return &kv.EndpointError{Field: field, Err: cause} }),
		layer("shutdown_detail", func(*actors.ShutdownReason, *struct{}) {},
			func(_ struct{}, cause error) error { return &actors.ShutdownReason{Detail: cause} }),
		applyCodec(),
	}...)
}

type (
	linkFields struct {
		Producer, Consumer string
		Conn               int
	}
	connectFields struct{ Node, Addr, Step string }
	nameFields    struct {
		Name, Node string
		Kicks      int
	}
	authFields struct {
		User      string
		Mechanism kv.Mechanism
	}
)

// sentinel is an error that is compared by identity and has no cause.
func sentinel(code string, value error) codec {
	return codec{
		code:   code,
		encode: func(err error) (any, bool) { return nil, err == value }, //nolint:errorlint // the layer itself
		decode: func(json.RawMessage, []error) (error, error) { return value, nil },
	}
}

// plain is an error whose exported fields say everything, causes included.
func plain[E error](code string) codec {
	return codec{
		code: code,
		encode: func(err error) (any, bool) {
			e, ok := err.(E) //nolint:errorlint // the layer itself
			return e, ok
		},
		decode: func(fields json.RawMessage, _ []error) (error, error) {
			var e E
			if string(fields) == "null" { // would be a nil pointer
				return nil, errWrongAnswer
			}
			if err := json.Unmarshal(fields, &e); err != nil {
				return nil, err
			}
			return e, nil
		},
	}
}

// layer is an error with fields of its own and one cause.
func layer[E error, F any](code string, get func(E, *F), remake func(F, error) error) codec {
	return codec{
		code: code,
		encode: func(err error) (any, bool) {
			e, ok := err.(E) //nolint:errorlint // the layer itself
			if !ok {
				return nil, false
			}
			var f F
			get(e, &f)
			return f, true
		},
		decode: func(fields json.RawMessage, causes []error) (error, error) {
			var f F
			if err := json.Unmarshal(fields, &f); err != nil {
				return nil, err
			}
			if len(causes) != 1 {
				return nil, errWrongAnswer
			}
			return remake(f, causes[0]), nil
		},
	}
}

// applyCodec is for an error with one cause per vbucket.
func applyCodec() codec {
	return codec{
		code: "apply",
		encode: func(err error) (any, bool) {
			e, ok := err.(*dcp.ApplyError) //nolint:errorlint // the layer itself
			if !ok {
				return nil, false
			}
			return slices.Sorted(maps.Keys(e.ByVB)), true // the order of its Unwrap
		},
		decode: func(fields json.RawMessage, causes []error) (error, error) {
			var vbs []uint16
			if err := json.Unmarshal(fields, &vbs); err != nil {
				return nil, err
			}
			if len(vbs) != len(causes) {
				return nil, errWrongAnswer
			}
			e := &dcp.ApplyError{ByVB: map[uint16]error{}}
			for i, vb := range vbs {
				e.ByVB[vb] = causes[i]
			}
			return e, nil
		},
	}
}
