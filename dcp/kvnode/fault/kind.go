package fault

import (
	"fmt"
	"strings"
)

// Kind is a way to go wrong.
type Kind uint8

const (
	// EarlyStreamEnd: the producer accepts the STREAM_REQ and ends the stream at once, for a change of state that there was
	// not; the consumer never answers the ADD_STREAM.
	EarlyStreamEnd Kind = iota + 1
	// LateAnswer is EarlyStreamEnd, but when the STREAM_END has reached the consumer, it answers the ADD_STREAM with success.
	LateAnswer
	// NoAddResponse: the consumer swallows the ADD_STREAM.
	NoAddResponse
	// UnknownOpaque: the consumer answers the ADD_STREAM under an opaque that nobody has used.
	UnknownOpaque
	// DropConsumer: the consumer's node closes the socket instead of acting on the ADD_STREAM.
	DropConsumer
	// DropProducer: the producer's node closes the socket instead of answering the STREAM_REQ.
	DropProducer
	// AddError: the consumer refuses the ADD_STREAM, with "not my vbucket".
	AddError
	// StaleStreamEnd: the STREAM_END of a stream that was closed arrives late, when a takeover of the same vbucket has been
	// asked for on the same connection. Real engines do this, and it is not an error.
	StaleStreamEnd
)

var kindNames = [...]string{
	EarlyStreamEnd: "early-stream-end",
	LateAnswer:     "late-answer",
	NoAddResponse:  "no-add-response",
	UnknownOpaque:  "unknown-opaque",
	DropConsumer:   "drop-consumer",
	DropProducer:   "drop-producer",
	AddError:       "add-error",
	StaleStreamEnd: "stale-stream-end",
}

// Kinds lists every kind.
func Kinds() []Kind {
	kinds := make([]Kind, 0, len(kindNames)-1)
	for k := range kindNames[1:] {
		kinds = append(kinds, Kind(k+1))
	}
	return kinds
}

// String is the kind's name on command lines and in logs.
func (k Kind) String() string {
	if k > 0 && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("fault %d", uint8(k))
}

// ParseKind reads a kind's name.
func ParseKind(name string) (Kind, error) {
	for i, known := range kindNames[1:] {
		if known == name {
			return Kind(i + 1), nil
		}
	}
	return 0, fmt.Errorf("fault: unknown kind %q (one of %s)", name, strings.Join(kindNames[1:], ", "))
}
