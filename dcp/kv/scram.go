package kv

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"
)

// The iterations that a node may ask for. Fewer make the proof cheap to search through; more are no protection but work
// for us, which nothing can interrupt.
const (
	minIterations = 4096
	maxIterations = 1 << 20
)

var scramHashes = map[Mechanism]scram.HashGeneratorFcn{ScramSHA512: scram.SHA512, ScramSHA256: scram.SHA256, ScramSHA1: scram.SHA1}

// errScramClient cannot happen: the library fails only where it prepares names, which is not asked for.
var errScramClient = errors.New("SCRAM cannot begin")

// scramConversation is the client's side of RFC 5802. What the library says of a bad message repeats the message, so its
// words are not used.
//
// A conversation has a client of its own: the library's clients keep the keys for every salt that they have ever seen, and
// it is the peer that chooses the salt. Deriving them again costs a connection some milliseconds.
type scramConversation struct {
	steps *scram.ClientConversation
	nonce string
}

// newScramConversation also returns the first message. Names and passwords are sent as they are given: engines do not
// prepare theirs either (RFC 5802 §5.1 would have it).
func newScramConversation(m Mechanism, who Credentials) (c *scramConversation, first string, err error) {
	client, err := scramHashes[m].NewClientUnprepped(who.User, who.Password, "")
	if err != nil {
		return nil, "", errScramClient
	}
	c = &scramConversation{steps: client.WithMinIterations(minIterations).NewConversation()}
	first, err = c.steps.Step("")
	if err != nil {
		return nil, "", errScramClient
	}
	c.nonce = first[strings.LastIndex(first, ",r=")+len(",r="):]
	return c, first, nil
}

// answer is our proof to the node's challenge, or why the challenge is not acceptable.
func (c *scramConversation) answer(challenge string) (proof, why string) {
	if why := badChallenge(challenge, c.nonce); why != "" {
		return "", why
	}
	proof, err := c.steps.Step(challenge)
	if err != nil {
		return "", "the challenge is malformed"
	}
	return proof, ""
}

// badChallenge looks at what decides how much work the challenge is, and at what a typed error should tell apart.
func badChallenge(challenge, nonce string) (why string) {
	fields := strings.Split(challenge, ",")
	if len(fields) < 3 || !strings.HasPrefix(fields[0], "r=") || !strings.HasPrefix(fields[1], "s=") || !strings.HasPrefix(fields[2], "i=") {
		return "the challenge is malformed"
	}
	if theirs := fields[0][len("r="):]; !strings.HasPrefix(theirs, nonce) || theirs == nonce {
		return "the challenge does not extend our nonce"
	}
	salt, err := base64.StdEncoding.DecodeString(fields[1][len("s="):])
	if err != nil || len(salt) == 0 {
		return "the challenge has no salt"
	}
	iterations, err := strconv.ParseUint(fields[2][len("i="):], 10, 32)
	if err != nil {
		return "the challenge has no number of iterations"
	}
	if iterations < minIterations || iterations > maxIterations {
		return fmt.Sprintf("the challenge asks for %d iterations, allowed are %d to %d", iterations, minIterations, maxIterations)
	}
	return ""
}

// verify checks the node's own proof.
func (c *scramConversation) verify(final string) error {
	if _, err := c.steps.Step(final); err != nil || !c.steps.Valid() {
		return ErrServerUnproven
	}
	return nil
}
