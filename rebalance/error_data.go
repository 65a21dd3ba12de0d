package rebalance

import (
	"encoding/json"
	"errors"
)

// errorData is an error as plain data: what kind it is, its fields, and its cause. It is how an agent's errors travel, so
// that who asked can still use errors.Is and errors.As on them, also from another process.
type errorData struct {
	// Code names the kind; it is empty for an error of a kind that nobody needs to recognise, of which only the text
	// is kept.
	Code string `json:"code,omitempty"`
	// Text is the whole text of an error without a code.
	Text   string          `json:"text,omitempty"`
	Fields json.RawMessage `json:"fields,omitempty"`
	// Causes has one entry per error that the layer wraps.
	Causes []*errorData `json:"causes,omitempty"`
}

// codec translates one kind of error. encode reports whether err is of the kind, and its fields, which may be nil;
// decode makes the error again.
type codec struct {
	code   string
	encode func(err error) (fields any, ok bool)
	decode func(fields json.RawMessage, causes []error) (error, error)
}

// encodeError is nil for nil.
func encodeError(err error) *errorData {
	if err == nil {
		return nil
	}
	data := &errorData{}
	for _, c := range codecs() {
		fields, ok := c.encode(err)
		if !ok {
			continue
		}
		data.Code = c.code
		if fields != nil {
			raw, failed := json.Marshal(fields)
			if failed != nil {
				return &errorData{Text: err.Error()}
			}
			data.Fields = raw
		}
		break
	}
	if data.Code == "" {
		data.Text = err.Error()
	}
	for _, cause := range causesOf(err) {
		data.Causes = append(data.Causes, encodeError(cause))
	}
	return data
}

// decodeError is the inverse of encodeError, up to the types of errors that have no codec: these become a
// [*RemoteError] with the same text and causes.
func decodeError(data *errorData) error {
	if data == nil {
		return nil
	}
	causes := make([]error, len(data.Causes))
	for i, cause := range data.Causes {
		causes[i] = decodeError(cause)
	}
	for _, c := range codecs() {
		if c.code != data.Code {
			continue
		}
		if err, failed := c.decode(data.Fields, causes); failed == nil {
			return err
		}
	}
	return &RemoteError{Text: data.Text, Causes: causes}
}

// RemoteError stands for an error of a type that is not known here, or that nobody needs to recognise.
type RemoteError struct {
	// Text is what the error said, those of its causes included.
	Text   string
	Causes []error
}

func (e *RemoteError) Error() string { return e.Text }

// Unwrap gives errors.Is and errors.As the causes.
func (e *RemoteError) Unwrap() []error { return e.Causes }

func causesOf(err error) []error {
	if cause := errors.Unwrap(err); cause != nil {
		return []error{cause}
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		return several.Unwrap()
	}
	return nil
}
