package kv

import (
	"bytes"
	"errors"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// unsaid is what a connection has sent, or might have, that no error may repeat: the password first, then the bodies of the
// login. Peers that have no idea of the protocol may send back what they did not understand, at any time, and then it is
// taken for the header of a frame.
type unsaid [][]byte

// unsaidPiece is how many bytes in a row are too many.
const unsaidPiece = 4

// errUnsaid stands for a malformed frame that repeats what must not be said. What is wrong with it may be a number made of
// its bytes.
var errUnsaid error = &mcbp.MalformedError{Why: "it repeats a part of the login, and is withheld"}

// withhold is err, unless it shows a header with a piece of what is not to be said.
func (u unsaid) withhold(err error) error {
	var malformed *mcbp.MalformedError
	if errors.As(err, &malformed) && u.in(malformed.Header[:]) {
		return errUnsaid
	}
	return err
}

func (u unsaid) in(header []byte) bool {
	for i, words := range u {
		n := min(len(words), unsaidPiece)
		for at := 0; n > 0 && at+n <= len(words); at++ {
			if bytes.Contains(header, words[at:at+n]) {
				return true
			}
		}
		// The header may begin within the password, or end there. Other words of a login may begin like any frame.
		for n := 1; i == 0 && n <= min(len(words), unsaidPiece-1); n++ {
			if bytes.HasPrefix(header, words[len(words)-n:]) || bytes.HasSuffix(header, words[:n]) {
				return true
			}
		}
	}
	return false
}
