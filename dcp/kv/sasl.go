package kv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Mechanism is a SASL mechanism, spelled as engines spell it.
type Mechanism string

// The mechanisms. SCRAM proves that we know the password without sending it, and that the node knows it too. PLAIN sends
// it.
const (
	ScramSHA512 Mechanism = "SCRAM-SHA512"
	ScramSHA256 Mechanism = "SCRAM-SHA256"
	ScramSHA1   Mechanism = "SCRAM-SHA1"
	Plain       Mechanism = "PLAIN"
)

// DefaultMechanisms are all that there are, the strongest first.
func DefaultMechanisms() []Mechanism { return []Mechanism{ScramSHA512, ScramSHA256, ScramSHA1, Plain} }

// authenticate logs in with the best mechanism that may be used. All of it is one step, under one deadline.
func (h *handshake) authenticate(ctx context.Context) error {
	m, err := h.mechanism()
	if err != nil {
		return err
	}
	if m == Plain {
		err = h.plain()
	} else {
		err = h.scram(ctx, m)
	}
	if err != nil {
		return &AuthError{User: h.ep.Credentials.User, Mechanism: m, Err: err}
	}
	return nil
}

// mechanism decides which mechanism to use, and asks the node for its list if that makes a difference. PLAIN is no choice
// at all where others could listen.
func (h *handshake) mechanism() (Mechanism, error) {
	allowed := h.ep.Mechanisms
	if len(allowed) == 0 {
		allowed = DefaultMechanisms()
	}
	safe := allowed
	if !h.ep.AllowPlainAuth && !private(h.conn) {
		safe = slices.DeleteFunc(slices.Clone(allowed), func(m Mechanism) bool { return m == Plain })
	}
	switch {
	case len(safe) == 0:
		return "", ErrPlainRefused
	case len(allowed) == 1:
		return allowed[0], nil
	}
	listed, err := h.listMechanisms()
	if err != nil {
		return "", err
	}
	return chooseMechanism(allowed, safe, listed)
}

// listMechanisms asks for the node's list. A node that knows no such command is older than SCRAM.
func (h *handshake) listMechanisms() ([]Mechanism, error) {
	f, err := h.roundTrip(&mcbp.Packet{Opcode: mcbp.OpSASLListMechs})
	switch {
	case errors.Is(err, mcbp.StatusUnknownCommand), errors.Is(err, mcbp.StatusNotSupported):
		return []Mechanism{Plain}, nil
	case err != nil:
		return nil, err
	}
	var listed []Mechanism
	for word := range strings.FieldsSeq(string(f.Value())) {
		if m := Mechanism(word); slices.Contains(DefaultMechanisms(), m) && !slices.Contains(listed, m) {
			listed = append(listed, m)
		}
	}
	return listed, nil
}

// chooseMechanism takes the first of safe that is listed. safe is allowed without what must not be used on this connection.
func chooseMechanism(allowed, safe, listed []Mechanism) (Mechanism, error) {
	for _, m := range safe {
		if slices.Contains(listed, m) {
			return m, nil
		}
	}
	return "", &MechanismError{
		Allowed: safe, Listed: listed, PlainRefused: slices.Contains(listed, Plain) && slices.Contains(allowed, Plain),
	}
}

func (h *handshake) plain() error {
	_, err := h.roundTrip(&mcbp.Packet{
		Opcode: mcbp.OpSASLAuth,
		Key:    []byte(Plain),
		Value:  []byte("\x00" + h.ep.Credentials.User + "\x00" + h.ep.Credentials.Password),
	})
	return err
}

// scram is SASL_AUTH with our first message, answered by the node's challenge, then SASL_STEP with our proof, answered by
// the node's own.
func (h *handshake) scram(ctx context.Context, m Mechanism) error {
	c, first, err := newScramConversation(m, h.ep.Credentials)
	if err != nil {
		return err
	}
	f, err := h.exchange(&mcbp.Packet{Opcode: mcbp.OpSASLAuth, Key: []byte(m), Value: []byte(first)})
	switch {
	case err != nil:
		return err
	case f.Status() == mcbp.StatusSuccess:
		return fmt.Errorf("%w: it has let us in without a challenge", ErrServerUnproven)
	case f.Status() != mcbp.StatusAuthContinue:
		return &StatusError{Op: f.Opcode(), Status: f.Status()}
	}
	proof, why := c.answer(string(f.Value()))
	if why != "" {
		return &ProtocolError{Answer: f.String(), Why: why}
	}
	if err := ctx.Err(); err != nil { // the derivation of the keys takes its time and cannot be interrupted
		return err
	}
	f, err = h.roundTrip(&mcbp.Packet{Opcode: mcbp.OpSASLStep, Key: []byte(m), Value: []byte(proof)})
	if err != nil {
		return err
	}
	return c.verify(string(f.Value()))
}
