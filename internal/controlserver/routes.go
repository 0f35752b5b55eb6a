package controlserver

import (
	"net/http"

	"github.com/kubeshore/kubeshore/pkg/control"
)

// route is an endpoint of the API. The server and the description of the API are made
// of the same.
type route struct {
	method, path string
	id           string // operationId
	summary      string
	query        []parameter
	body         any              // what a request says; nil: nothing
	responses    map[int]response // by status
	handle       func(*Server, http.ResponseWriter, *http.Request) (any, error)
}

type parameter struct{ name, kind, summary string }

// response is what an answer's body is: of a type, or of a content type, or both.
type response struct {
	summary     string
	body        any
	contentType string // if it isn't application/json
	streams     bool   // it goes on, and tells how it has ended by EndTrailer
}

func routes() []route {
	fault := response{summary: "what is wrong", body: control.ErrorResponse{}}
	status := response{summary: "what stands", body: control.Status{}}
	return []route{
		{
			method: http.MethodGet, path: "/v1/status", id: "getStatus", summary: "What stands now.",
			responses: map[int]response{200: status}, handle: (*Server).status,
		},
		{
			method: http.MethodGet, path: "/v1/services/{name}", id: "getService", summary: "One service, by any of its names, or by that of the Service if no other has it.",
			responses: map[int]response{200: {summary: "the service", body: control.Service{}}, 404: fault}, handle: (*Server).service,
		},
		{
			method: http.MethodGet, path: "/v1/events", id: "followEvents", summary: "What changes, as it changes (Server-Sent Events). " +
				"The first event is the whole status. What connections come to is heard of once a second. Who doesn't read in time is cut off.",
			responses: map[int]response{200: {summary: "events", body: control.Event{}, contentType: "text/event-stream", streams: true}}, handle: (*Server).follow,
		},
		{
			method: http.MethodGet, path: "/v1/ready", id: "getReadiness", summary: "Whether services can answer.",
			query:     []parameter{{"service", "string", "the services that count, separated by commas; all if there are none"}},
			responses: map[int]response{200: {summary: "they can", body: control.Readiness{}}, 503: {summary: "some can't", body: control.Readiness{}}}, handle: (*Server).ready,
		},
		{
			method: http.MethodGet, path: "/v1/log", id: "getLog", summary: "The log's lines. The last megabyte is kept.",
			query:     []parameter{{"tail", "integer", "how many of the last lines; all that there are if it isn't given"}, {"follow", "boolean", "whether to go on with those that come"}},
			responses: map[int]response{200: {summary: "lines", contentType: "text/plain", streams: true}, 400: fault}, handle: (*Server).log,
		},
		{
			method: http.MethodPost, path: "/v1/stop", id: "stop", summary: "Take everything back and end. It ends after the answer.",
			responses: map[int]response{200: status}, handle: (*Server).stop,
		},
		{
			method: http.MethodPost, path: "/v1/namespaces/add", id: "addNamespaces", summary: "Forward further namespaces.", body: control.NamespaceChange{},
			responses: map[int]response{200: status, 400: fault, 409: fault}, handle: (*Server).addNamespaces,
		},
		{
			method: http.MethodPost, path: "/v1/namespaces/remove", id: "removeNamespaces", summary: "Forward namespaces no more.", body: control.NamespaceChange{},
			responses: map[int]response{200: status, 400: fault, 409: fault}, handle: (*Server).removeNamespaces,
		},
		{
			method: http.MethodGet, path: "/metrics", id: "getMetrics", summary: "Metrics, for Prometheus.",
			responses: map[int]response{200: {summary: "metrics", contentType: "text/plain"}, 503: {summary: "too many are being answered", contentType: "text/plain"}}, handle: (*Server).metrics,
		},
	}
}
