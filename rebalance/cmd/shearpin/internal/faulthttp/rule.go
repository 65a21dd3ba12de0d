package faulthttp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/web"
)

// FieldError is a value that a field of a rule cannot have; Field is its path, as in "match.opcodes".
type FieldError = web.FieldError

// ruleJSON is a [fault.Rule] as people write it.
type ruleJSON struct {
	Name        string          `json:"name"`
	Match       matchJSON       `json:"match"`
	After       int             `json:"after"`
	Times       int             `json:"times"`
	Probability float64         `json:"probability"`
	Do          json.RawMessage `json:"do"`
}

type matchJSON struct {
	Node       string   `json:"node"`
	Bucket     string   `json:"bucket"`
	Connection string   `json:"connection"`
	Peer       string   `json:"peer"`
	Role       string   `json:"role"`
	Direction  string   `json:"direction"`
	Frames     string   `json:"frames"`
	Opcodes    []string `json:"opcodes"`
	VBuckets   []uint16 `json:"vbuckets"`
	Statuses   []number `json:"statuses"`
}

// number is a JSON number, or a string such as "0x86".
type number string

func (n *number) UnmarshalJSON(b []byte) error {
	*n = number(strings.Trim(string(b), `"`))
	if *n == "" {
		*n = number(b) // a string without anything in it is not the same as nothing
	}
	return nil
}

// status is what a number stands for; none is success.
func (n number) status(field string) (mcbp.Status, error) {
	if n == "" {
		return mcbp.StatusSuccess, nil
	}
	status, err := strconv.ParseUint(string(n), 0, 16)
	if err != nil {
		return 0, &FieldError{Field: field, Value: string(n), Why: `must be a number such as 134 or "0x86"`}
	}
	return mcbp.Status(status), nil
}

// duration reads a duration; none is 0.
func duration(field, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, &FieldError{Field: field, Value: strconv.Quote(text), Why: `must be a duration such as "1.5s"`}
	}
	return d, nil
}

// ParseRule reads a rule. What is wrong with it is a *[FieldError], a *[fault.RuleError] of [fault.Script.Add], or says where
// it is no JSON.
func ParseRule(r io.Reader) (fault.Rule, error) {
	var in ruleJSON
	if err := decode(r, &in, ""); err != nil {
		return fault.Rule{}, err
	}
	match, err := in.Match.parse("match")
	if err != nil {
		return fault.Rule{}, err
	}
	action, err := parseAction(in.Do)
	if err != nil {
		return fault.Rule{}, err
	}
	return fault.Rule{
		Name: in.Name, Match: match, After: in.After, Times: in.Times, Probability: in.Probability, Do: action,
	}, nil
}

// decode reads exactly one object without fields that nobody knows.
func decode(r io.Reader, into any, where string) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return &FieldError{Field: where + "rule", Value: "more than one value", Why: "send one object"}
		}
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return &FieldError{Field: where + kind.Field, Value: kind.Value, Why: fmt.Sprintf("must be %v", kind.Type)}
	}
	var field *FieldError
	if errors.As(err, &field) {
		return &FieldError{Field: where + field.Field, Value: field.Value, Why: field.Why}
	}
	if name, unknown := strings.CutPrefix(fmt.Sprint(err), "json: unknown field "); unknown {
		return &FieldError{Field: where + strings.Trim(name, `"`), Value: "unknown", Why: "there is no such field"}
	}
	return err
}

func (m *matchJSON) parse(field string) (fault.Match, error) {
	out := fault.Match{Node: m.Node, Bucket: m.Bucket, Connection: m.Connection, Peer: m.Peer, VBuckets: m.VBuckets}
	var err error
	if out.Role, err = named(field+".role", m.Role, fault.AnyRole, fault.Client, fault.Consumer, fault.Producer); err != nil {
		return out, err
	}
	if out.Direction, err = named(field+".direction", m.Direction, fault.Either, fault.Received, fault.Sent); err != nil {
		return out, err
	}
	if out.Frames, err = named(field+".frames", m.Frames, fault.Any, fault.Requests, fault.Answers); err != nil {
		return out, err
	}
	// A list that is there and empty fits nothing, nil fits all.
	if m.Opcodes != nil {
		out.Opcodes = make([]mcbp.Opcode, 0, len(m.Opcodes))
	}
	if m.Statuses != nil {
		out.Statuses = make([]mcbp.Status, 0, len(m.Statuses))
	}
	for i, name := range m.Opcodes {
		op, ok := opcodeNamed(name)
		if !ok {
			return out, &FieldError{Field: fmt.Sprintf("%s.opcodes[%d]", field, i), Value: name, Why: "no such opcode; they are named as in DCP_STREAM_REQ, or 0x53"}
		}
		out.Opcodes = append(out.Opcodes, op)
	}
	for i, n := range m.Statuses {
		status, err := n.status(fmt.Sprintf("%s.statuses[%d]", field, i))
		if err != nil {
			return out, err
		}
		out.Statuses = append(out.Statuses, status)
	}
	return out, nil
}

// named finds a value by its name. No name is the first of them.
func named[T fmt.Stringer](field, name string, all ...T) (T, error) {
	if name == "" {
		return all[0], nil
	}
	names := make([]string, len(all))
	for i, v := range all {
		if names[i] = v.String(); strings.EqualFold(names[i], name) {
			return v, nil
		}
	}
	return all[0], &FieldError{Field: field, Value: name, Why: "must be one of " + strings.Join(names, ", ")}
}

func opcodeNamed(name string) (mcbp.Opcode, bool) {
	for op := range 256 {
		if mcbp.Opcode(op).String() == strings.ToUpper(name) {
			return mcbp.Opcode(op), true
		}
	}
	n, err := strconv.ParseUint(name, 0, 8)
	return mcbp.Opcode(n), err == nil
}

// actions makes an action of its fields, by name.
var actions = map[string]func(fields []byte) (fault.Action, error){
	"delay": of(func(a struct{ For string }) (fault.Action, error) {
		d, err := duration("do.for", a.For)
		return fault.Delay{For: d}, err
	}),
	"drop":      of(func(struct{}) (fault.Action, error) { return fault.Drop{}, nil }),
	"duplicate": of(func(a struct{ Copies int }) (fault.Action, error) { return fault.Duplicate{Copies: a.Copies}, nil }),
	"hold": of(func(a struct {
		Until  matchJSON
		AtMost string `json:"at_most"`
	},
	) (fault.Action, error) {
		until, err := a.Until.parse("do.until")
		if err != nil {
			return nil, err
		}
		d, err := duration("do.at_most", a.AtMost)
		return fault.Hold{Until: until, AtMost: d}, err
	}),
	"answer": of(func(a struct{ Status number }) (fault.Action, error) {
		status, err := a.Status.status("do.status")
		return fault.Answer{Status: status}, err
	}),
	"no-answer":    of(func(struct{}) (fault.Action, error) { return fault.NoAnswer{}, nil }),
	"stop-reading": of(func(struct{}) (fault.Action, error) { return fault.StopReading{}, nil }),
	"cut":          of(func(struct{}) (fault.Action, error) { return fault.Cut{}, nil }),
	"pause": of(func(a struct{ For string }) (fault.Action, error) {
		d, err := duration("do.for", a.For)
		return fault.Pause{For: d}, err
	}),
	"close": of(func(a struct{ How string }) (fault.Action, error) {
		how, err := named("do.how", a.How, fault.FIN, fault.RST, fault.Half)
		return fault.Close{How: how}, err
	}),
	"trickle": of(func(a struct {
		Bytes int
		Every string
	},
	) (fault.Action, error) {
		d, err := duration("do.every", a.Every)
		return fault.Trickle{Bytes: a.Bytes, Every: d}, err
	}),
	"garbage":     of(func(a struct{ Bytes int }) (fault.Action, error) { return fault.Garbage{Bytes: a.Bytes}, nil }),
	"truncate":    of(func(a struct{ Bytes int }) (fault.Action, error) { return fault.Truncate{Bytes: a.Bytes}, nil }),
	"huge-length": of(func(a struct{ Body uint32 }) (fault.Action, error) { return fault.HugeLength{Body: a.Body}, nil }),
	"opaque": of(func(a struct{ To uint32 }) (fault.Action, error) {
		return fault.Opaque{To: mcbp.OpaqueFromUint32(a.To)}, nil
	}),
	"stale-opaque": of(func(struct{}) (fault.Action, error) { return fault.StaleOpaque{}, nil }),
	"end-stream": of(func(a struct {
		Reason uint32
		Before bool
	},
	) (fault.Action, error) {
		return fault.EndStream{Reason: mcbp.EndReason(a.Reason), Before: a.Before}, nil
	}),
	"refuse-rollback": of(func(a struct{ Status number }) (fault.Action, error) {
		status, err := a.Status.status("do.status")
		return fault.RefuseRollback{Status: status}, err
	}),
	"seqnos": of(func(a struct{ By int64 }) (fault.Action, error) { return fault.Seqnos{By: a.By}, nil }),
	"slow-disk": of(func(a struct {
		For   string
		Kinds []string
	},
	) (fault.Action, error) {
		d, err := duration("do.for", a.For)
		if err != nil {
			return nil, err
		}
		slow := fault.SlowDisk{For: d}
		if a.Kinds != nil {
			slow.Kinds = make([]kvnode.DiskKind, 0, len(a.Kinds))
		}
		for _, name := range a.Kinds {
			kind, err := named("do.kinds", name, kvnode.DiskRead, kvnode.DiskWrite)
			if err != nil {
				return nil, err
			}
			slow.Kinds = append(slow.Kinds, kind)
		}
		return slow, nil
	}),
}

func of[T any](from func(T) (fault.Action, error)) func([]byte) (fault.Action, error) {
	return func(fields []byte) (fault.Action, error) {
		var in T
		if err := decode(bytes.NewReader(fields), &in, "do."); err != nil {
			return nil, err
		}
		return from(in)
	}
}

// Actions are the names of all actions, sorted.
func Actions() []string {
	names := make([]string, 0, len(actions))
	for name := range actions {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// parseAction takes the name out of an action's fields and reads the rest.
func parseAction(b json.RawMessage) (fault.Action, error) {
	if len(b) == 0 {
		return nil, &FieldError{Field: "do", Value: "nothing", Why: "a rule needs an action"}
	}
	var fields map[string]json.RawMessage
	if err := decode(bytes.NewReader(b), &fields, "do"); err != nil {
		return nil, err
	}
	var name string
	if err := json.Unmarshal(fields["action"], &name); err != nil {
		name = string(fields["action"])
	}
	from := actions[name]
	if from == nil {
		return nil, &FieldError{Field: "do.action", Value: strconv.Quote(name), Why: "must be one of " + strings.Join(Actions(), ", ")}
	}
	delete(fields, "action")
	rest, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	return from(rest)
}
