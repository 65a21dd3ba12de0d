package kv

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// StatusError is a request that was answered with a status other than success.
type StatusError struct {
	Op     mcbp.Opcode
	VB     uint16
	Status mcbp.Status
	// Message is what the node said in words; often empty.
	Message string
	// Config is the cluster configuration that came with NOT_MY_VBUCKET; often empty.
	Config []byte
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%v vb %d: %v", e.Op, e.VB, e.Status)
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// Unwrap gives the status, so that errors.Is(err, mcbp.StatusNotMyVBucket) finds it.
func (e *StatusError) Unwrap() error { return e.Status }

// maxMessage bounds, in bytes, what an error repeats of a node's words.
const maxMessage = 200

func statusError(p *mcbp.Packet, f mcbp.Frame) *StatusError {
	e := &StatusError{Op: p.Opcode, VB: p.VBucket, Status: f.Status()}
	if e.Status == mcbp.StatusNotMyVBucket {
		e.Config = bytes.Clone(f.Value())
	} else {
		e.Message = message(f)
	}
	return e
}

// message is the words in an error answer: {"error":{"context":"…"}}, or plain text.
func message(f mcbp.Frame) string {
	var said struct {
		Error struct {
			Context string `json:"context"`
		} `json:"error"`
	}
	text := string(f.Value())
	if json.Unmarshal(f.Value(), &said) == nil {
		text = said.Error.Context
	}
	text = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	return strings.ToValidUTF8(text[:min(len(text), maxMessage)], "")
}
