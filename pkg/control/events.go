package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"time"
)

// follow answers with events as they come (Server-Sent Events,
// https://html.spec.whatwg.org/multipage/server-sent-events.html).
func (s *Server) follow(w http.ResponseWriter, req *http.Request) (any, error) {
	// What changes between the two is heard of as well: what is said twice does no harm.
	heard, leave := s.events.listen(eventRoom + 2*len(s.Daemon.Status().Services))
	defer leave()
	status := s.Daemon.Status()
	out := newStream(w, "text/event-stream")
	if err := out.event(Event{Status: &status}); err != nil {
		return nil, nil //nolint:nilnil // the reader has gone
	}
	silence := time.NewTicker(15 * time.Second)
	defer silence.Stop()
	for {
		var err error
		select {
		case <-req.Context().Done():
			return nil, nil //nolint:nilnil // it is answered
		case <-silence.C:
			_, err = out.Write([]byte(": still here\n\n"))
		case event, ok := <-heard:
			if !ok { // it is too slow
				return nil, nil //nolint:nilnil // it is answered
			}
			err = out.event(event)
		}
		if err != nil {
			return nil, nil //nolint:nilnil // the reader has gone
		}
	}
}

// event writes an event, whose type is which of its fields is set.
func (s stream) event(e Event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s, "event: %s\ndata: %s\n\n", e.kind(), data)
	return err
}

func (e Event) kind() string {
	switch {
	case e.Status != nil:
		return "status"
	case e.Service != nil:
		return "service"
	case e.Gone != "":
		return "gone"
	}
	return "contexts"
}

// watch sends what changes to those who follow, until ctx ends.
func (s *Server) watch(ctx context.Context) {
	changed := s.Daemon.Changed()
	last := s.Daemon.Status()
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			changed = s.Daemon.Changed()
		case <-tick.C:
			if !s.events.heard() {
				continue
			}
		}
		now := s.Daemon.Status()
		for _, e := range changes(last, now) {
			s.events.send(e)
		}
		last = now
	}
}

// changes returns what is other now.
func changes(before, now Status) []Event {
	var events []Event
	if before.Ready != now.Ready || !reflect.DeepEqual(before.Contexts, now.Contexts) {
		events = append(events, Event{Contexts: now.Contexts})
	}
	old := make(map[string]Service, len(before.Services))
	for _, s := range before.Services {
		old[s.Name] = s
	}
	for _, s := range now.Services {
		prev, known := old[s.Name]
		delete(old, s.Name)
		if !known || !reflect.DeepEqual(prev, s) {
			events = append(events, Event{Service: &s})
		}
	}
	for _, s := range before.Services {
		if _, gone := old[s.Name]; gone {
			events = append(events, Event{Gone: s.Name})
		}
	}
	return events
}
