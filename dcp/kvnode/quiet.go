package kvnode

import "github.com/shearpin/shearpin/dcp/mcbp"

// Quiet commands are answered only if there is something to say: a read if it finds the document, a change if it fails. A client
// sends many of them and a NOOP behind, whose answer tells that all are done.

// loudForms are the quiet commands' ordinary ones, but for GET, which is 0, as is what has no other form.
var loudForms = [256]mcbp.Opcode{
	mcbp.OpGetKQ:        mcbp.OpGetK,
	mcbp.OpGetAndTouchQ: mcbp.OpGetAndTouch,
	mcbp.OpSetQ:         mcbp.OpSet,
	mcbp.OpAddQ:         mcbp.OpAdd,
	mcbp.OpReplaceQ:     mcbp.OpReplace,
	mcbp.OpDeleteQ:      mcbp.OpDelete,
	mcbp.OpAppendQ:      mcbp.OpAppend,
	mcbp.OpPrependQ:     mcbp.OpPrepend,
	mcbp.OpIncrementQ:   mcbp.OpIncrement,
	mcbp.OpDecrementQ:   mcbp.OpDecrement,
	mcbp.OpQuitQ:        mcbp.OpQuit,
}

// aloud is the ordinary form of a command, quiet or not.
func aloud(op mcbp.Opcode) mcbp.Opcode {
	switch {
	case loudForms[op] != 0:
		return loudForms[op]
	case op == mcbp.OpGetQ:
		return mcbp.OpGet
	}
	return op
}

func isQuiet(op mcbp.Opcode) bool { return aloud(op) != op }

// isQuietRead says whether a miss is not worth an answer.
func isQuietRead(op mcbp.Opcode) bool {
	return op == mcbp.OpGetQ || op == mcbp.OpGetKQ || op == mcbp.OpGetAndTouchQ
}
