package serve

import (
	"encoding/json"
	"net/http"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/web"
)

// lines is an answer that goes on: a JSON object per line. Each line has a while to be taken.
type lines struct {
	w          http.ResponseWriter
	controller *http.ResponseController
}

func newLines(w http.ResponseWriter) lines {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	return lines{w, http.NewResponseController(w)}
}

func (l lines) write(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return l.raw(append(line, '\n'))
}

func (l lines) raw(text []byte) error {
	web.Extend(l.w, 0)
	_, err := l.w.Write(text)
	return err
}

func (l lines) flush() error { return l.controller.Flush() }

// pulse is an empty line, which says that the stream lives.
func (l lines) pulse() error {
	if err := l.raw([]byte("\n")); err != nil {
		return err
	}
	return l.flush()
}
