package rebalance

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Verification is what is compared between the old active and each new copy before a vbucket's switch.
type Verification string

const (
	// VerifyNothing trusts the streams. It is the default.
	VerifyNothing Verification = ""
	// VerifySeqnos compares the branch of history, and that the copy has the seqno that the active had.
	VerifySeqnos Verification = "seqnos"
	// VerifyData compares digests of the documents too, where both nodes offer them: a node of this project does, by its
	// statistic vbucket-digest; other engines do not, and are compared as by VerifySeqnos. Digests can only be compared at the
	// same seqno. If that is not met in a second of trying, because the vbucket is being written to, seqnos have to do.
	VerifyData Verification = "data"
)

func (v Verification) validate() error {
	switch v {
	case VerifyNothing, VerifySeqnos, VerifyData:
		return nil
	}
	return fmt.Errorf("rebalance: Config.Verify is %q, must be empty, %q or %q", string(v), VerifySeqnos, VerifyData)
}

// VerifyError is a new copy that is not what its active is. The switch has not begun: the active has all data.
type VerifyError struct {
	VB             uint16
	Active, Copied string
	// Why says what differs.
	Why string
}

func (e *VerifyError) Error() string {
	return fmt.Sprintf("vb %d on %s is not as on its active %s: %s", e.VB, e.Copied, e.Active, e.Why)
}

// readDigest asks for what a copy's data come to.
type readDigest struct {
	VB uint16 `json:"vb"`
	// Data asks for the digest too.
	Data bool `json:"data"`
}

func (r readDigest) String() string { return "what its data come to" }

// digestAnswer is what a copy's data come to at one moment. Digest is empty if the node offers none.
type digestAnswer struct {
	High   uint64 `json:"high"`
	UUID   uint64 `json:"uuid"`
	Digest string `json:"digest,omitempty"`
}

func (a *agent) readDigest(ctx context.Context, r readDigest) (any, error) {
	if r.Data {
		answer, err := digestOfCopy(ctx, a.nodes.main, r.VB)
		if !notOffered(err) {
			return answer, err
		}
	}
	info, err := a.nodes.main.VBucketSeqno(ctx, r.VB)
	return digestAnswer{High: info.High, UUID: info.UUID}, err
}

// notOffered says that a node does not know a statistic.
func notOffered(err error) bool {
	return errors.Is(err, mcbp.StatusKeyNotFound) || errors.Is(err, mcbp.StatusInvalid) ||
		errors.Is(err, mcbp.StatusUnknownCommand) || errors.Is(err, mcbp.StatusNotSupported) || errors.Is(err, errNoDigest)
}

var errNoDigest = errors.New("no digest")

// digestOfCopy reads the statistic.
func digestOfCopy(ctx context.Context, node nodeKV, vb uint16) (answer digestAnswer, err error) {
	prefix := fmt.Sprintf("vb_%d:", vb)
	told := 0
	var unreadable error
	number := func(text string) (n uint64) {
		told++
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			unreadable = err
		}
		return n
	}
	err = node.Stats(ctx, fmt.Sprintf("vbucket-digest %d", vb), func(key, value string) {
		switch key {
		case prefix + "high_seqno":
			answer.High = number(value)
		case prefix + "uuid":
			answer.UUID = number(value)
		case prefix + "digest":
			told++
			answer.Digest = value
		}
	})
	switch {
	case err != nil:
		return answer, err
	case unreadable != nil || told != 3 || answer.Digest == "":
		return digestAnswer{}, errors.Join(errNoDigest, unreadable)
	}
	return answer, nil
}

func (s sessionKV) Stats(ctx context.Context, group string, each func(key, value string)) error {
	return s.do(ctx, func(c *kv.Client) error { return c.Stats(ctx, group, each) })
}
