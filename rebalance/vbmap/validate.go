package vbmap

import (
	"errors"
	"fmt"
	"slices"
)

// The ways in which a map can be wrong; errors.Is finds them in what [Validate] returns.
var (
	// ErrVBuckets says that the map has another number of vbuckets than the bucket.
	ErrVBuckets = errors.New("wrong number of vbuckets")
	// ErrLength says that a chain has another number of members than the bucket has copies.
	ErrLength = errors.New("wrong chain length")
	// ErrTwice says that a node is in one chain twice.
	ErrTwice = errors.New("node twice in a chain")
	// ErrGap says that an undefined member comes before a defined one.
	ErrGap = errors.New("undefined member before a defined one")
	// ErrStranger says that a member is none of the known nodes.
	ErrStranger = errors.New("unknown node in a chain")
	// ErrUndefined says that a member is undefined although there are nodes enough.
	ErrUndefined = errors.New("undefined member although there are nodes enough")
)

// ChainError is what is wrong with one vbucket's chain.
type ChainError struct {
	VB    int
	Chain Chain
	// Position is the member that is wrong, from 0; -1 if it is the chain as a whole.
	Position int
	// Err is one of ErrLength, ErrTwice, ErrGap, ErrStranger and ErrUndefined.
	Err error
}

func (e *ChainError) Error() string {
	if e.Position < 0 {
		return fmt.Sprintf("vb %d %v: %v: %d members", e.VB, e.Chain, e.Err, len(e.Chain))
	}
	if e.Chain[e.Position] == Undefined {
		return fmt.Sprintf("vb %d %v: %v: position %d", e.VB, e.Chain, e.Err, e.Position)
	}
	return fmt.Sprintf("vb %d %v: %v: %q at position %d", e.VB, e.Chain, e.Err, e.Chain[e.Position], e.Position)
}

func (e *ChainError) Unwrap() error { return e.Err }

// Rules are what a map must obey beyond being well-formed. The zero value asks for nothing more.
type Rules struct {
	// VBuckets is the number of chains; 0 accepts any.
	VBuckets int
	// Copies is the length of every chain, the replica count plus 1; 0 accepts any, and different ones.
	Copies int
	// Nodes is who may be a member; nil accepts everybody.
	Nodes []string
	// Complete asks that members are undefined only where Nodes are fewer than Copies.
	Complete bool
}

// Validate checks that no node is twice in a chain, that undefined members come last, and whatever rules ask for. It
// returns nil or an error that joins one *[ChainError] for each chain that is wrong, for the first thing that is wrong
// with it. At most 16 chains are reported.
func Validate(m Map, rules Rules) error {
	var errs []error
	if rules.VBuckets != 0 && len(m) != rules.VBuckets {
		errs = append(errs, fmt.Errorf("%w: %d, not %d", ErrVBuckets, len(m), rules.VBuckets))
	}
	known := rules.known()
	const reported = 16
	for vb, chain := range m {
		err := rules.check(vb, chain, known)
		if err == nil {
			continue
		}
		if len(errs) == reported {
			break
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ValidateChain is [Validate] for the chain of one vbucket. Its error is a *[ChainError].
func ValidateChain(vb int, chain Chain, rules Rules) error {
	return rules.check(vb, chain, rules.known())
}

// known is the nodes as a set, nil if everybody is accepted.
func (r Rules) known() map[string]bool {
	if r.Nodes == nil {
		return nil
	}
	known := make(map[string]bool, len(r.Nodes))
	for _, node := range r.Nodes {
		known[node] = true
	}
	return known
}

func (r Rules) check(vb int, chain Chain, known map[string]bool) error {
	position, err := checkChain(chain, r, known)
	if err != nil {
		return &ChainError{VB: vb, Chain: chain, Position: position, Err: err}
	}
	return nil
}

// checkChain finds the first thing that is wrong with a chain and its position.
func checkChain(chain Chain, rules Rules, known map[string]bool) (position int, err error) {
	if rules.Copies != 0 && len(chain) != rules.Copies {
		return -1, ErrLength
	}
	gap := -1
	for i, node := range chain {
		switch {
		case node == Undefined:
			if gap < 0 {
				gap = i
			}
			continue
		case gap >= 0:
			return gap, ErrGap
		case slices.Contains(chain[:i], node):
			return i, ErrTwice
		case known != nil && !known[node]:
			return i, ErrStranger
		}
	}
	if rules.Complete && gap >= 0 && gap < len(rules.Nodes) {
		return gap, ErrUndefined
	}
	return -1, nil
}
