package project

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "update the generated files")

// Each file in testdata/errors.txtar is an invalid project file. Its first line is
// a comment with the expected error.
func TestLoadErrors(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/errors.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range archive.Files {
		t.Run(file.Name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), Name)
			if err := os.WriteFile(path, file.Data, 0o600); err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(file.Data), "\n")
			want := "project file " + strings.ReplaceAll(strings.TrimPrefix(first, "# "), "FILE", path)
			_, err := Load(path)
			if err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	file, err := Load("testdata/all.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for field := range reflect.ValueOf(file).NumField() {
		if reflect.ValueOf(file).Field(field).IsZero() {
			t.Errorf("testdata/all.yaml doesn't set %s", reflect.TypeOf(file).Field(field).Name)
		}
	}
	web := file.Services["web.shop"]
	if web.Address.String() != "127.64.0.80" || web.Ports[80] != 8080 || web.Names[0] != "shop.example.com" || !file.Services["api.shop.eu"].Local {
		t.Errorf("services: got %+v", file.Services)
	}
	if c := file.Contexts[1]; c.Alias != "eu" || c.Namespaces[0] != "*" || c.IngressController != "nginx.ingress-nginx" {
		t.Errorf("second context: got %+v", c)
	}
	if _, err := Load(filepath.Join(t.TempDir(), Name)); err == nil {
		t.Error("missing file: got no error, want one")
	}
	empty := filepath.Join(t.TempDir(), Name)
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if file, err := Load(empty); err != nil || !reflect.DeepEqual(file, File{}) {
		t.Errorf("empty file: got %+v, %v, want the zero File", file, err)
	}
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	deep := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	if path, err := Find(deep); path != "" || err != nil {
		t.Errorf("no file: got %q, %v, want no path", path, err)
	}
	want := filepath.Join(root, Name)
	if err := os.WriteFile(want, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if path, err := Find(deep); path != want || err != nil {
		t.Errorf("got %q, %v, want %q", path, err, want)
	}
}

// The schema for editors is generated from the types and their comments.
func TestSchema(t *testing.T) {
	const path = "../../docs/kubeshore.schema.json"
	got, err := json.MarshalIndent(schema(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); string(want) != string(got) {
		t.Errorf("%s is outdated (%v): run make docs", path, err)
	}
}

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	r := &jsonschema.Reflector{FieldNameTag: "yaml", ExpandedStruct: true, RequiredFromJSONSchemaTags: true, Anonymous: true}
	if err := r.AddGoComments("github.com/kubeshore/kubeshore/internal/project", "."); err != nil {
		t.Fatal(err)
	}
	s := r.Reflect(&File{})
	s.Title = Name
	return s
}

func stringSchema(pattern string) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: pattern}
}

const dnsLabel = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"

func (Pattern) JSONSchema() *jsonschema.Schema   { return stringSchema(".") }
func (Namespace) JSONSchema() *jsonschema.Schema { return stringSchema(`^(\*|` + dnsLabel + `)$`) }
func (Label) JSONSchema() *jsonschema.Schema     { return stringSchema(`^` + dnsLabel + `$`) }

func (Domain) JSONSchema() *jsonschema.Schema {
	anyCase := strings.ReplaceAll(dnsLabel, "a-z", "a-zA-Z")
	return stringSchema(`^` + anyCase + `(\.` + anyCase + `)*$`)
}

func (ServiceName) JSONSchema() *jsonschema.Schema {
	return stringSchema(`^` + dnsLabel + `(\.` + dnsLabel + `)+$`)
}

func (Address) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Format: "ipv4", Pattern: `^127\.`}
}

func (Port) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "integer", Minimum: "1", Maximum: "65535"}
}
