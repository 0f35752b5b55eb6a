package controlserver

import (
	"net/http"

	"github.com/kubeshore/kubeshore/pkg/control"
)

// route is an endpoint of the API. Both the server and docs/openapi.json are made from the
// routes.
type route struct {
	method, path string
	operationID  string
	summary      string
	query        []parameter
	body         any                 // of the request; nil if it has none
	responses    map[int]responseDoc // by status code
	handle       func(*Server, http.ResponseWriter, *http.Request) (any, error)
}

// parameter is a parameter of a request's query.
type parameter struct{ name, kind, summary string }

// responseDoc describes a response: the type of its JSON body, or its content type, or both.
type responseDoc struct {
	summary     string
	body        any
	contentType string // application/json if empty
	streams     bool   // the response ends with control.EndTrailer
}

func routes() []route {
	failure := responseDoc{summary: "The error.", body: control.ErrorResponse{}}
	status := responseDoc{summary: "The status.", body: control.Status{}}
	return []route{
		{
			method: http.MethodGet, path: "/v1/status", operationID: "getStatus", summary: "Get the current status.",
			responses: map[int]responseDoc{200: status}, handle: (*Server).status,
		},
		{
			method: http.MethodGet, path: "/v1/services/{name}", operationID: "getService",
			summary:   "Get a service by any of its names, or by the name of its Service if that is unique.",
			responses: map[int]responseDoc{200: {summary: "The service.", body: control.Service{}}, 404: failure}, handle: (*Server).service,
		},
		{
			method: http.MethodGet, path: "/v1/events", operationID: "followEvents",
			summary: "Follow changes of the status (Server-Sent Events). The first event contains the complete status. " +
				"Changes of traffic are reported once a second. The server disconnects clients that don't read for 10 seconds.",
			responses: map[int]responseDoc{200: {summary: "A stream of events.", body: control.Event{}, contentType: "text/event-stream", streams: true}}, handle: (*Server).follow,
		},
		{
			method: http.MethodGet, path: "/v1/ready", operationID: "getReadiness", summary: "Check whether services are ready. If they are, the response waits for up to 3 seconds until a connection " +
				"to a pod of each, or without names to one pod per namespace, could be opened. No process in a pod is contacted.",
			query:     []parameter{{"service", "string", "Names of the services to check, separated by commas. The default is all services."}},
			responses: map[int]responseDoc{200: {summary: "The services are ready.", body: control.Readiness{}}, 503: {summary: "Some services aren't ready.", body: control.Readiness{}}}, handle: (*Server).ready,
		},
		{
			method: http.MethodGet, path: "/v1/log", operationID: "getLog", summary: "Get the lines of the log. kubeshore keeps the last megabyte.",
			query: []parameter{
				{"tail", "integer", "Number of lines from the end of the log. The default is all available lines."},
				{"follow", "boolean", "Whether to continue with new lines."},
			},
			responses: map[int]responseDoc{200: {summary: "Lines of the log.", contentType: "text/plain", streams: true}, 400: failure}, handle: (*Server).log,
		},
		{
			method: http.MethodPost, path: "/v1/stop", operationID: "stop", summary: "Stop kubeshore and clean up. The response is sent first.",
			responses: map[int]responseDoc{200: status}, handle: (*Server).stop,
		},
		{
			method: http.MethodPost, path: "/v1/namespaces/add", operationID: "addNamespaces", summary: "Forward additional namespaces.", body: control.NamespaceChange{},
			responses: map[int]responseDoc{200: status, 400: failure, 409: failure}, handle: (*Server).addNamespaces,
		},
		{
			method: http.MethodPost, path: "/v1/namespaces/remove", operationID: "removeNamespaces", summary: "Stop forwarding namespaces.", body: control.NamespaceChange{},
			responses: map[int]responseDoc{200: status, 400: failure, 409: failure}, handle: (*Server).removeNamespaces,
		},
		{
			method: http.MethodPost, path: "/v1/login", operationID: "logIn", summary: "Use a credential that a context's credential plugin returned to another process.", body: control.Login{},
			responses: map[int]responseDoc{200: status, 400: failure, 409: failure}, handle: (*Server).logIn,
		},
		{
			method: http.MethodGet, path: "/metrics", operationID: "getMetrics", summary: "Get the metrics, for Prometheus.",
			responses: map[int]responseDoc{200: {summary: "The metrics.", contentType: "text/plain"}, 503: {summary: "Too many requests for metrics are in progress.", contentType: "text/plain"}}, handle: (*Server).metrics,
		},
	}
}
