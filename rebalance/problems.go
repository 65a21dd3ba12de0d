package rebalance

import (
	"fmt"
	"slices"
	"strings"
)

// What the janitor, or a failover, could not do in a bucket: failures of nodes and steps, and vbuckets that were left alone.

// allProblems is a list of its own: the failures, then the vbuckets in their order.
func allProblems(errs []error, vbs map[uint16]error) []error {
	all := slices.Clone(errs)
	for _, vb := range sortedKeys(vbs) {
		all = append(all, vbs[vb])
	}
	return all
}

// listed spells out the first problems and counts the rest.
func listed(errs []error) string {
	texts := make([]string, 0, describedProblems+1)
	for i, err := range errs {
		if i == describedProblems {
			texts = append(texts, fmt.Sprintf("… (%d in all)", len(errs)))
			break
		}
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}
