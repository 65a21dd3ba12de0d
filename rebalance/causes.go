package rebalance

import (
	"errors"
	"strings"
)

// Causes splits an error into its layers, outermost first: one text per layer, in that layer's own words without those
// of its cause. Where a layer has several causes the first one is followed, which for the errors of this module is the
// first in node or vbucket order. It is empty for nil.
func Causes(err error) []string {
	var causes []string
	for err != nil {
		cause := firstCause(err)
		if own := ownWords(err, cause); own != "" {
			causes = append(causes, own)
		}
		err = cause
	}
	return causes
}

func firstCause(err error) error {
	if cause := errors.Unwrap(err); cause != nil {
		return cause
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, cause := range several.Unwrap() {
			if cause != nil {
				return cause
			}
		}
	}
	return nil
}

// ownWords takes the cause's text off the end of err's. A layer that adds nothing to its cause has no words.
func ownWords(err, cause error) string {
	text := err.Error()
	if cause == nil {
		return text
	}
	before, found := strings.CutSuffix(text, cause.Error())
	if !found {
		return text
	}
	return strings.TrimRight(before, ": ")
}
