package controlserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/kubeshore/kubeshore/pkg/control"
)

const (
	// trafficInterval is the interval between events that report only traffic.
	trafficInterval = time.Second
	// keepAliveInterval is the time without events after which a comment is sent.
	keepAliveInterval = 15 * time.Second
)

// follow responds with Server-Sent Events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html). Each event is computed
// from the difference to the last state that was sent, so slow readers skip intermediate
// states and never block the daemon.
func (s *Server) follow(w http.ResponseWriter, req *http.Request) (any, error) {
	changed, last := s.Daemon.Changed(), s.Daemon.Status()
	out := newStream(w, "text/event-stream")
	defer out.setEnd(nil)
	if err := out.writeEvent(control.Event{Status: &last}); err != nil {
		return nil, nil //nolint:nilnil // the client disconnected
	}
	tick := time.NewTicker(trafficInterval)
	defer tick.Stop()
	for written := time.Now(); ; {
		select {
		case <-req.Context().Done():
			return nil, nil //nolint:nilnil // already responded
		case <-changed:
		case <-tick.C:
		}
		changed = s.Daemon.Changed()
		now := s.Daemon.Status()
		events := changes(last, now)
		last = now
		for _, e := range events {
			if err := out.writeEvent(e); err != nil {
				return nil, nil //nolint:nilnil // the client disconnected
			}
			written = time.Now()
		}
		if time.Since(written) > keepAliveInterval {
			if _, err := out.Write([]byte(": keep-alive\n\n")); err != nil {
				return nil, nil //nolint:nilnil // the client disconnected
			}
			written = time.Now()
		}
	}
}

// writeEvent writes an event with its type and data.
func (s stream) writeEvent(e control.Event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s, "event: %s\ndata: %s\n\n", eventType(e), data)
	return err
}

func eventType(e control.Event) string {
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

// changes returns the events that lead from one status to the next.
func changes(before, now control.Status) []control.Event {
	var events []control.Event
	if !reflect.DeepEqual(before.Overview, now.Overview) {
		events = append(events, control.Event{Overview: &now.Overview})
	}
	removed := make(map[control.ServiceID]control.Service, len(before.Services))
	for _, s := range before.Services {
		removed[s.ID().Key()] = s
	}
	for _, s := range now.Services {
		old, known := removed[s.ID().Key()]
		delete(removed, s.ID().Key())
		if !known || !reflect.DeepEqual(old, s) {
			events = append(events, control.Event{Service: &s})
		}
	}
	for _, s := range before.Services {
		if _, gone := removed[s.ID().Key()]; gone {
			id := s.ID()
			events = append(events, control.Event{Gone: &id})
		}
	}
	for i := range events {
		events[i].More = i < len(events)-1
	}
	return events
}
