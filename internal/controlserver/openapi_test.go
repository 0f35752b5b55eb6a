package controlserver

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"maps"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"

	"github.com/kubeshore/kubeshore/pkg/control"
)

var update = flag.Bool("update", false, "write docs/openapi.json and the table of states in docs/connections.md")

// object is a JSON object.
type object map[string]any

// template has the parts of docs/openapi.json that don't follow from the code.
type template struct {
	Description string `json:"description"`
	Headers     object `json:"headers"`
}

func readTemplate(t *testing.T) (parts template) {
	t.Helper()
	data, err := os.ReadFile("../../docs/templates/openapi.json")
	if err == nil {
		err = json.Unmarshal(data, &parts)
	}
	for _, name := range []string{control.VersionHeader, control.EndTrailer} {
		if err == nil && parts.Headers[name] == nil {
			t.Errorf("docs/templates/openapi.json lacks the header %s", name)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

// docs/openapi.json is generated from the routes and the types (OpenAPI 3.1, whose schemas
// are JSON Schema 2020-12).
func TestOpenAPI(t *testing.T) {
	parts := readTemplate(t)
	const path = "../../docs/openapi.json"
	reflector := &jsonschema.Reflector{Anonymous: true, AllowAdditionalProperties: true, Mapper: func(of reflect.Type) *jsonschema.Schema {
		if of == reflect.TypeFor[control.State]() {
			schema := &jsonschema.Schema{Type: "string"}
			for _, state := range control.States() {
				schema.Enum = append(schema.Enum, state)
			}
			return schema
		}
		return nil
	}}
	if err := reflector.AddGoComments("github.com/kubeshore/kubeshore/pkg/control", "../../pkg/control", jsonschema.WithFullComment()); err != nil {
		t.Fatal(err)
	}
	for name, text := range reflector.CommentMap {
		reflector.CommentMap[name] = strings.Join(strings.Fields(text), " ")
	}
	schemas := make(map[string]*jsonschema.Schema)
	paths := make(map[string]object)
	for _, r := range routes() {
		if paths[r.path] == nil {
			paths[r.path] = object{}
		}
		paths[r.path][strings.ToLower(r.method)] = r.describe(reflector, schemas)
	}
	for name, schema := range schemas {
		for pair := schema.Properties.Oldest(); pair != nil; pair = pair.Next() {
			if pair.Value.Description == "" {
				t.Errorf("%s.%s has no description", name, pair.Key)
			}
		}
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(object{
		"openapi": "3.1.0", "info": object{"title": "kubeshore", "version": "v1", "description": parts.Description},
		"servers": []object{{"url": "http://kubeshore"}},
		"paths":   paths, "components": object{"schemas": schemas, "headers": parts.Headers},
	}); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(b.String(), "#/$defs/", "#/components/schemas/")
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); string(want) != text {
		t.Errorf("%s is stale (%v): run make docs", path, err)
	}
}

func (r route) describe(reflector *jsonschema.Reflector, schemas map[string]*jsonschema.Schema) object {
	schemaOf := func(value any) object {
		schema := reflector.Reflect(value)
		maps.Copy(schemas, schema.Definitions)
		return object{"schema": object{"$ref": "#/components/schemas/" + reflect.TypeOf(value).Name()}}
	}
	parameters := make([]object, 0, len(r.query)+1)
	if _, rest, ok := strings.Cut(r.path, "{"); ok {
		name, _, _ := strings.Cut(rest, "}")
		parameters = append(parameters, object{"name": name, "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, p := range r.query {
		parameters = append(parameters, object{"name": p.name, "in": "query", "description": p.summary, "schema": object{"type": p.kind}})
	}
	responses := object{}
	for _, status := range slices.Sorted(maps.Keys(r.responses)) {
		a := r.responses[status]
		content := object{"schema": object{"type": "string"}}
		if a.body != nil {
			content = schemaOf(a.body)
		}
		kind := a.contentType
		if kind == "" {
			kind = "application/json"
		}
		headers := object{control.VersionHeader: object{"$ref": "#/components/headers/" + control.VersionHeader}}
		if a.streams {
			headers[control.EndTrailer] = object{"$ref": "#/components/headers/" + control.EndTrailer}
		}
		responses[strconv.Itoa(status)] = object{"description": a.summary, "headers": headers, "content": object{kind: content}}
	}
	operation := object{"operationId": r.operationID, "summary": r.summary, "responses": responses}
	if len(parameters) > 0 {
		operation["parameters"] = parameters
	}
	if r.body != nil {
		operation["requestBody"] = object{"required": true, "content": object{"application/json": schemaOf(r.body)}}
	}
	return operation
}

func TestRoutesRespondAsDescribed(t *testing.T) {
	d := newFakeDaemon(service("web", control.Ready))
	_, _, dir := serve(t, d)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", control.SocketPath(dir))
	}}}
	for _, r := range routes() {
		if r.method != "GET" || r.path == "/v1/events" {
			continue
		}
		resp, err := client.Get("http://kubeshore" + strings.Replace(r.path, "{name}", "web", 1))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		a, described := r.responses[resp.StatusCode]
		kind := a.contentType
		if kind == "" {
			kind = "application/json"
		}
		if !described || !strings.HasPrefix(resp.Header.Get("Content-Type"), kind) || resp.Header.Get(control.VersionHeader) != "v1" {
			t.Errorf("%s: got %s, %v; want a described status, its content type, and the version header", r.path, resp.Status, resp.Header)
		}
	}
}
