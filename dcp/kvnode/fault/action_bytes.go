package fault

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// sending is what actions have in common that spoil a frame on its way to the wire.
type sending struct{}

func (sending) adapt(m *Match) { m.Direction = Sent }

func (sending) received(t *tap, _ *Fault, s *sight) error { return t.pass(s) }

// Trickle sends a frame a few bytes at a time.
type Trickle struct {
	sending
	// Bytes is how many are sent at a time; 0 means 1.
	Bytes int
	// Every is the time between; 0 means 1 ms.
	Every time.Duration
}

func (a Trickle) String() string {
	return fmt.Sprintf("trickle %d bytes every %v", max(a.Bytes, 1), a.every())
}

func (a Trickle) every() time.Duration {
	if a.Every == 0 {
		return time.Millisecond
	}
	return a.Every
}

func (a Trickle) check(m Match) error {
	switch {
	case a.Bytes < 0:
		return &RuleError{"Do.Bytes", a.Bytes, "must not be negative"}
	case a.Every < 0:
		return &RuleError{"Do.Every", a.Every, "must not be negative"}
	}
	return only(m, Sent)
}

func (a Trickle) sent(t *tap, f *Fault, s *sight) error {
	rest := s.frame
	for n := max(a.Bytes, 1); len(rest) > n; rest = rest[n:] {
		if err := t.s.Write(rest[:n]); err != nil {
			return err
		}
		f.wait(a.every(), t.s.Done())
	}
	return t.passAs(s, rest)
}

// Garbage sends bytes that are no frame, in a frame's place. They are the same in every run of a script.
type Garbage struct {
	sending
	// Bytes is how many; 0 means as many as the frame has.
	Bytes int
}

// maxGarbage is more than any peer should take for a frame.
const maxGarbage = 64 << 20

func (a Garbage) String() string {
	if a.Bytes == 0 {
		return "garbage"
	}
	return fmt.Sprintf("%d bytes of garbage", a.Bytes)
}

func (a Garbage) check(m Match) error {
	if a.Bytes < 0 || a.Bytes > maxGarbage {
		return &RuleError{"Do.Bytes", a.Bytes, fmt.Sprintf("must be 0 to %d", maxGarbage)}
	}
	return only(m, Sent)
}

func (a Garbage) sent(t *tap, f *Fault, s *sight) error {
	n := a.Bytes
	if n == 0 {
		n = len(s.frame)
	}
	random := rand.NewChaCha8([32]byte{byte(f.script.seed), byte(f.id), byte(s.turn)})
	scrap := make([]byte, n)
	_, _ = random.Read(scrap) // never fails
	scrap[0] &= 0x7f          // 0xxxxxxx
	scrap[0] |= 0x40          // 01xxxxxx: no magic looks like this
	return t.s.Write(scrap)
}

// Truncate sends the first bytes of a frame, and then the end of the stream.
type Truncate struct {
	sending
	// Bytes is how many are sent. 0 means all but the last. More than the frame has means all.
	Bytes int
}

func (a Truncate) String() string {
	if a.Bytes == 0 {
		return "truncate by a byte"
	}
	return fmt.Sprintf("truncate to %d bytes", a.Bytes)
}

func (a Truncate) check(m Match) error {
	if a.Bytes < 0 {
		return &RuleError{"Do.Bytes", a.Bytes, "must not be negative"}
	}
	return only(m, Sent)
}

func (a Truncate) sent(t *tap, _ *Fault, s *sight) error {
	n := a.Bytes
	if n == 0 {
		n = len(s.frame) - 1
	}
	if err := t.s.Write(s.frame[:min(n, len(s.frame))]); err != nil {
		return err
	}
	t.s.Finish()
	return nil
}

// HugeLength sends a frame whose header says that its body is that long. The body is as it was.
type HugeLength struct {
	sending
	// Body is the length in bytes; 0 means 4 GiB less one.
	Body uint32
}

func (a HugeLength) String() string { return fmt.Sprintf("a body of %d bytes", a.body()) }

func (a HugeLength) body() uint32 {
	if a.Body == 0 {
		return 1<<32 - 1
	}
	return a.Body
}

func (a HugeLength) check(m Match) error { return only(m, Sent) }

func (a HugeLength) sent(t *tap, _ *Fault, s *sight) error {
	f := slices.Clone(s.frame)
	binary.BigEndian.PutUint32(f[8:], a.body())
	return t.passAs(s, f)
}

// Opaque gives a frame another opaque.
type Opaque struct {
	To mcbp.Opaque
}

func (a Opaque) String() string { return fmt.Sprintf("opaque %v", a.To) }

func (a Opaque) check(Match) error { return nil }

func (a Opaque) received(t *tap, f *Fault, s *sight) error { return a.sent(t, f, s) }

func (a Opaque) sent(t *tap, _ *Fault, s *sight) error { return t.passAs(s, withOpaque(s.frame, a.To)) }

func withOpaque(f mcbp.Frame, o mcbp.Opaque) mcbp.Frame {
	f = slices.Clone(f)
	copy(f[12:16], o[:])
	return f
}

// StaleOpaque gives a frame the opaque that was in use before its own: a message of a stream that of the vbucket's stream
// before, any other frame that of the one before of the same opcode. While there was none since the rule was added, frames
// do not fit.
type StaleOpaque struct{}

func (StaleOpaque) String() string { return "stale opaque" }

func (StaleOpaque) check(Match) error { return nil }

func (StaleOpaque) applies(s *sight, _ *Match) bool { return s.hasBefore }

func (a StaleOpaque) received(t *tap, f *Fault, s *sight) error { return a.sent(t, f, s) }

func (StaleOpaque) sent(t *tap, _ *Fault, s *sight) error {
	return t.passAs(s, withOpaque(s.frame, s.before))
}
