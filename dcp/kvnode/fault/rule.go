package fault

import (
	"fmt"
	"slices"
	"strings"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Rule is one way to go wrong: what is done, to which frames, and how often. Only Do is required. Its lists must not be
// changed once it has been added.
type Rule struct {
	// Name is the rule's name in records.
	Name string
	// Match says which frames the rule is for. The zero value fits every frame of every connection.
	Match Match
	// After is how many frames that fit are let through first.
	After int
	// Times is how often the fault happens at most; 0 is without limit.
	Times int
	// Probability is that with which each frame that fits, and is due, is struck; 0 is always. The draws come from the
	// script's seed: the n-th such frame of the n-th rule has the same fate in every run.
	Probability float64
	// Do is what is done.
	Do Action
}

// Match says which frames, of which connections. Whatever is left out fits all; a list that is empty, but not nil, fits none.
//
// Strings are the whole name, in which * stands for any characters.
type Match struct {
	// Node is the name of the node that the connection is with.
	Node string
	// Bucket is the bucket that the connection has selected.
	Bucket string
	// Connection is the connection's name: for DCP that of its OPEN, which both ends of a replication have, for others what the
	// client calls itself in its HELLO.
	Connection string
	// Peer is the address of the other end, as in "127.0.0.1:40123".
	Peer string
	Role Role

	Direction Direction
	Frames    Frames
	Opcodes   []mcbp.Opcode
	// VBuckets are those that the frame is about. An answer is about the vbucket of its request; frames that are about none, such
	// as HELLO, do not fit, nor does an answer to a request that came before the rule.
	VBuckets []uint16
	// Statuses are those of answers; requests do not fit.
	Statuses []mcbp.Status
	// Where, if set, has the last word. It must not block, and must not keep the frame. Several goroutines call it.
	Where func(f mcbp.Frame) bool
}

// Role is what a connection is for.
type Role uint8

// The roles. A connection is a client until its OPEN.
const (
	AnyRole Role = iota
	Client
	Consumer
	Producer
)

var roleNames = [...]string{AnyRole: "any", Client: "client", Consumer: "consumer", Producer: "producer"}

// String is the role's name in rules and records.
func (r Role) String() string { return nameOf(roleNames[:], r) }

// Direction is the way that a frame goes, seen from the node.
type Direction uint8

// The directions.
const (
	Either Direction = iota
	Received
	Sent
)

var directionNames = [...]string{Either: "either", Received: "received", Sent: "sent"}

// String is the direction's name in rules and records.
func (d Direction) String() string { return nameOf(directionNames[:], d) }

// Frames are kinds of frames.
type Frames uint8

// The kinds.
const (
	Any Frames = iota
	Requests
	Answers
)

var framesNames = [...]string{Any: "any", Requests: "requests", Answers: "answers"}

// String is the kind's name in rules.
func (f Frames) String() string { return nameOf(framesNames[:], f) }

func nameOf[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown (%d)", uint8(v))
}

// RuleError is a rule that cannot be followed.
type RuleError struct {
	// Field is that of [Rule], with its parents: "Match.Direction".
	Field string
	Value any
	Why   string
}

func (e *RuleError) Error() string {
	return fmt.Sprintf("fault: rule: %s is %v: %s", e.Field, e.Value, e.Why)
}

// check finds the first mistake in a rule.
func (r *Rule) check() error {
	switch {
	case r.Do == nil:
		return &RuleError{"Do", "nil", "a rule needs an action"}
	case r.After < 0:
		return &RuleError{"After", r.After, "must not be negative"}
	case r.Times < 0:
		return &RuleError{"Times", r.Times, "must not be negative"}
	case !(r.Probability >= 0 && r.Probability <= 1):
		return &RuleError{"Probability", r.Probability, "must be 0 to 1"}
	}
	if err := r.Match.check("Match"); err != nil {
		return err
	}
	return r.Do.check(r.Match)
}

func (m *Match) check(field string) error {
	switch {
	case int(m.Role) >= len(roleNames):
		return &RuleError{field + ".Role", m.Role, "there is no such role"}
	case int(m.Direction) >= len(directionNames):
		return &RuleError{field + ".Direction", m.Direction, "there is no such direction"}
	case int(m.Frames) >= len(framesNames):
		return &RuleError{field + ".Frames", m.Frames, "there is no such kind"}
	case m.Statuses != nil && m.Frames == Requests:
		return &RuleError{field + ".Statuses", m.Statuses, "requests have none"}
	}
	return nil
}

// checkNoFrames refuses whatever a match says of frames, for an action that is not about them.
func (m *Match) checkNoFrames(why string) error {
	switch {
	case m.Direction != Either:
		return &RuleError{"Match.Direction", m.Direction, why}
	case m.Frames != Any:
		return &RuleError{"Match.Frames", m.Frames, why}
	case m.Opcodes != nil:
		return &RuleError{"Match.Opcodes", m.Opcodes, why}
	case m.VBuckets != nil:
		return &RuleError{"Match.VBuckets", m.VBuckets, why}
	case m.Statuses != nil:
		return &RuleError{"Match.Statuses", m.Statuses, why}
	case m.Where != nil:
		return &RuleError{"Match.Where", "set", why}
	}
	return nil
}

// fitsConnection looks at the part of a match that is about connections.
func (m *Match) fitsConnection(c *identity) bool {
	return (m.Role == AnyRole || m.Role == c.role) && wild(m.Node, c.node) && wild(m.Bucket, c.bucket) &&
		wild(m.Connection, c.name) && wild(m.Peer, c.peer)
}

// fitsKind looks at what a table can know of a frame: its way, its opcode, and whether it is an answer.
func (m *Match) fitsKind(way Direction, op mcbp.Opcode, answer bool) bool {
	switch {
	case m.Direction != Either && m.Direction != way,
		m.Frames == Requests && answer,
		(m.Frames == Answers || m.Statuses != nil) && !answer:
		return false
	}
	return m.Opcodes == nil || slices.Contains(m.Opcodes, op)
}

// fitsFrame looks at everything but the connection. Whole answers about many vbuckets fit if anyVB says so.
func (m *Match) fitsFrame(s *sight, anyVB bool) bool {
	f := s.frame
	if !m.fitsKind(s.way, f.Opcode(), f.IsResponse()) {
		return false
	}
	if m.VBuckets != nil && !anyVB && (s.vb < 0 || !slices.Contains(m.VBuckets, uint16(s.vb))) {
		return false
	}
	if m.Statuses != nil && !slices.Contains(m.Statuses, f.Status()) {
		return false
	}
	return m.Where == nil || m.Where(f)
}

// wild reports whether a name fits a pattern. An empty pattern fits all.
func wild(pattern, name string) bool {
	if pattern == "" || pattern == name {
		return true
	}
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 || !strings.HasPrefix(name, parts[0]) {
		return false
	}
	name = name[len(parts[0]):]
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		at := strings.Index(name, part)
		if at < 0 {
			return false
		}
		name = name[at+len(part):]
	}
	return strings.HasSuffix(name, parts[last])
}
