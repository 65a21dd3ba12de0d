package vbmap

import (
	"slices"
	"strings"
)

// Undefined is the chain member that nobody is: a copy for which there is no node.
const Undefined = ""

// Chain is the ordered list of one vbucket's copies. Position 0 is the active, the others are replicas. Members may be
// [Undefined]; in a valid chain these come last.
type Chain []string

// Active is the member at position 0, or [Undefined].
func (c Chain) Active() string {
	if len(c) == 0 {
		return Undefined
	}
	return c[0]
}

// Replicas is the defined members after position 0, in order, in a slice of its own.
func (c Chain) Replicas() []string {
	if len(c) == 0 {
		return nil
	}
	return c[1:].Members()
}

// Members is the defined members in order, in a slice of its own.
func (c Chain) Members() []string {
	var members []string
	for _, node := range c {
		if node != Undefined {
			members = append(members, node)
		}
	}
	return members
}

// Contains reports whether node, which must not be [Undefined], has a copy.
func (c Chain) Contains(node string) bool { return slices.Contains(c, node) }

// Equal reports whether both chains have the same members at the same positions.
func (c Chain) Equal(other Chain) bool { return slices.Equal(c, other) }

// Clone is a copy that shares nothing with c.
func (c Chain) Clone() Chain { return slices.Clone(c) }

// Aligned is the chain cut or padded with [Undefined] to exactly copies members, in a slice of its own.
func (c Chain) Aligned(copies int) Chain {
	aligned := make(Chain, copies)
	copy(aligned, c)
	return aligned
}

// Without is the chain after the nodes are gone for good: the survivors keep their order and move forward, the places
// at the end become undefined, the length stays (rebalance.md §7.7, hard failover).
func (c Chain) Without(nodes ...string) Chain {
	left := make(Chain, 0, len(c))
	for _, node := range c {
		if node != Undefined && !slices.Contains(nodes, node) {
			left = append(left, node)
		}
	}
	return left.Aligned(len(c))
}

// String prints the chain as [n0 n1 -].
func (c Chain) String() string {
	var text strings.Builder
	text.WriteByte('[')
	for i, node := range c {
		if i > 0 {
			text.WriteByte(' ')
		}
		if node == Undefined {
			node = "-"
		}
		text.WriteString(node)
	}
	text.WriteByte(']')
	return text.String()
}
