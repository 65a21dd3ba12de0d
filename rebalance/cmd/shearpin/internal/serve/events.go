package serve

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
)

// eventsAhead is how many events are sent at once if there are as many.
const eventsAhead = 256

// events writes the event log, one object per line: what has happened since an event, and with follow what happens from then on,
// until who asked has gone.
func (m *Manager) events(w http.ResponseWriter, r *http.Request) {
	since, follow, err := eventsAsked(r)
	if err != nil {
		control.Refuse(w, err)
		return
	}
	lines := newLines(w)
	if !follow {
		events, err := m.cluster.EventLog(r.Context(), since)
		if err != nil {
			control.Refuse(w, err)
			return
		}
		for _, event := range events {
			if lines.write(event) != nil {
				return
			}
		}
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	news := make(chan rebalance.LoggedEvent, eventsAhead)
	defer func() {
		cancel()
		for range news { // until who reads the log has ended
		}
	}()
	go func() {
		defer close(news)
		for event := range m.cluster.FollowEventLog(ctx, since) {
			select {
			case news <- event:
			case <-ctx.Done():
				return
			}
		}
	}()
	pulse := time.NewTicker(control.Heartbeat)
	defer pulse.Stop()
	for {
		select {
		case event, more := <-news:
			if !more || lines.write(event) != nil || len(news) == 0 && lines.flush() != nil {
				return
			}
		case <-pulse.C:
			if lines.pulse() != nil {
				return
			}
		}
	}
}

// eventsAsked reads the query of a request.
func eventsAsked(r *http.Request) (since uint64, follow bool, err error) {
	if text := r.FormValue("since"); text != "" {
		if since, err = strconv.ParseUint(text, 10, 64); err != nil {
			return 0, false, &control.FieldError{Field: "since", Value: strconv.Quote(text), Why: "must be the number of an event"}
		}
	}
	if text := r.FormValue("follow"); text != "" {
		if follow, err = strconv.ParseBool(text); err != nil {
			return 0, false, &control.FieldError{Field: "follow", Value: strconv.Quote(text), Why: "must be true or false"}
		}
	}
	return since, follow, nil
}
