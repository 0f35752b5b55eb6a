package project

import (
	"encoding/json"
	"flag"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

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

// Fields that begin with x-, anchors, aliases, merge keys and single values for lists are
// accepted.
func TestLoadLenient(t *testing.T) {
	got, err := Load("testdata/lenient.yaml")
	if err != nil {
		t.Fatal(err)
	}
	ports := map[Port]Port{80: 8080}
	want := File{
		Contexts: []Context{{Name: "dev", Namespaces: []Namespace{"shop"}}}, Namespaces: []Namespace{"shop"}, Include: []Pattern{"web"}, Domain: "shop",
		Services: map[ServiceName]Service{
			"web.shop": {Ports: ports, Names: []Domain{"shop.example.com"}}, "db.shop": {Ports: ports, Local: true}, "api.shop": {},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Aliases can make a small file large. Reading it stays fast.
func TestLoadManyAliases(t *testing.T) {
	var b strings.Builder
	b.WriteString("x-a: &a [" + strings.Repeat("web,", 5_000) + "]\ncontexts:\n")
	for range 5_000 {
		b.WriteString("- {name: x, include: *a}\n")
	}
	path := filepath.Join(t.TempDir(), Name)
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := Load(path); err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("got %v after %v, want an error at once", err, time.Since(start))
	}
}

// FuzzParse expects problems, not panics, of any content.
func FuzzParse(f *testing.F) {
	archive, err := txtar.ParseFile("testdata/errors.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		f.Add(file.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, problems := parse("FILE", data)
		for _, problem := range problems {
			if !strings.HasPrefix(problem, "FILE:") || strings.Contains(problem, "\n") {
				t.Errorf("problem %q", problem)
			}
		}
	})
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
	relax(s, s.Definitions)
	for _, definition := range s.Definitions {
		relax(definition, s.Definitions)
	}
	return s
}

// relax changes the schema of a struct to what [Decode] accepts beyond the types: single
// values for lists of them, and fields that begin with x-.
func relax(s *jsonschema.Schema, definitions jsonschema.Definitions) {
	if s.Properties == nil {
		return
	}
	s.PatternProperties = map[string]*jsonschema.Schema{"^x-": {}}
	for field := s.Properties.Oldest(); field != nil; field = field.Next() {
		list := field.Value
		if list.Type == "array" && definitions[path.Base(list.Items.Ref)].Properties == nil {
			field.Value = &jsonschema.Schema{Description: list.Description, OneOf: []*jsonschema.Schema{{Type: list.Type, Items: list.Items}, list.Items}}
		}
	}
}

func stringSchema(pattern string) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: pattern}
}

const dnsLabel = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"

func (HostPattern) JSONSchema() *jsonschema.Schema   { return stringSchema(".") }
func (PublicPattern) JSONSchema() *jsonschema.Schema { return stringSchema(".") }

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
