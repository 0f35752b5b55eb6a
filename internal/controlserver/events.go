package controlserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/kubeshore/kubeshore/pkg/control"
)

// follow answers with events as they come (Server-Sent Events,
// https://html.spec.whatwg.org/multipage/server-sent-events.html). What a reader gets is
// what is other than what it had last, so a slow one misses no state and holds up nobody;
// what it doesn't take in time is its end.
func (s *Server) follow(w http.ResponseWriter, req *http.Request) (any, error) {
	changed, last := s.Daemon.Changed(), s.Daemon.Status()
	out := newStream(w, "text/event-stream")
	defer out.setEnd(nil)
	if err := out.writeEvent(control.Event{Status: &last}); err != nil {
		return nil, nil //nolint:nilnil // the reader has gone
	}
	tick := time.NewTicker(trafficInterval)
	defer tick.Stop()
	for said := time.Now(); ; {
		select {
		case <-req.Context().Done():
			return nil, nil //nolint:nilnil // it is answered
		case <-changed:
		case <-tick.C:
		}
		changed = s.Daemon.Changed()
		now := s.Daemon.Status()
		events := changes(last, now)
		last = now
		for _, e := range events {
			if err := out.writeEvent(e); err != nil {
				return nil, nil //nolint:nilnil // the reader has gone
			}
			said = time.Now()
		}
		if time.Since(said) > keepAliveInterval {
			if _, err := out.Write([]byte(": still here\n\n")); err != nil {
				return nil, nil //nolint:nilnil // the reader has gone
			}
			said = time.Now()
		}
	}
}

// writeEvent writes an event, whose type is which of its fields is set.
func (s stream) writeEvent(e control.Event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s, "event: %s\ndata: %s\n\n", kindOf(e), data)
	return err
}

func kindOf(e control.Event) string {
	switch {
	case e.Status != nil:
		return "status"
	case e.Service != nil:
		return "service"
	case e.Gone != nil:
		return "gone"
	}
	return "overview"
}

// changes returns what is other now.
func changes(before, now control.Status) []control.Event {
	var events []control.Event
	if !reflect.DeepEqual(before.Overview, now.Overview) {
		events = append(events, control.Event{Overview: &now.Overview})
	}
	old := make(map[control.ServiceID]control.Service, len(before.Services))
	for _, s := range before.Services {
		old[s.ID().Key()] = s
	}
	for _, s := range now.Services {
		prev, known := old[s.ID().Key()]
		delete(old, s.ID().Key())
		if !known || !reflect.DeepEqual(prev, s) {
			events = append(events, control.Event{Service: &s})
		}
	}
	for _, s := range before.Services {
		if _, gone := old[s.ID().Key()]; gone {
			id := s.ID()
			events = append(events, control.Event{Gone: &id})
		}
	}
	for i := range events {
		events[i].More = i < len(events)-1
	}
	return events
}
