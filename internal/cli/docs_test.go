package cli

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the generated pages and the golden files")

// The data of docs/templates/configuration.md.
type (
	configurationPage struct {
		Commands []commandDocs
		Example  string
		Objects  []objectDocs
	}
	commandDocs struct {
		Name, Short string
		Flags       []flagDocs
	}
	flagDocs   struct{ Name, Usage, Default string }
	objectDocs struct {
		Title  string
		Fields []fieldDocs
	}
	fieldDocs struct{ Name, Description string }
)

// docs/configuration.md is generated from the flags and the schema.
func TestConfigurationPage(t *testing.T) {
	const path = "../../docs/configuration.md"
	var page configurationPage
	for _, command := range newRoot(Streams{}).Commands() {
		if command.Name() != "help" && !command.Hidden {
			page.Commands = append(page.Commands, describeCommand(command))
		}
	}
	example, err := os.ReadFile("../project/testdata/all.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, page.Example, _ = strings.Cut(string(example), "\n") // without the schema's line
	page.Objects = describeSchema(t)
	var b strings.Builder
	if err := template.Must(template.ParseFiles("../../docs/templates/configuration.md")).Execute(&b, page); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); string(got) != b.String() {
		t.Errorf("%s is stale (%v); run make docs", path, err)
	}
}

func describeCommand(command *cobra.Command) commandDocs {
	docs := commandDocs{Name: command.Name(), Short: command.Short}
	command.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		if flag.Hidden || flag.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(flag)
		name := "`--" + flag.Name + "`"
		if flag.Shorthand != "" {
			name = "`-" + flag.Shorthand + "`, " + name
		}
		if value != "" {
			name += " " + strings.ReplaceAll(value, "|", `\|`)
		}
		def := flag.DefValue
		if def == "false" || def == "[]" || def == "0" {
			def = ""
		}
		docs.Flags = append(docs.Flags, flagDocs{name, usage, def})
	})
	return docs
}

// describeSchema returns the fields of each type of the project file's schema.
func describeSchema(t *testing.T) (docs []objectDocs) {
	t.Helper()
	data, err := os.ReadFile("../../docs/kubeshore.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	type object struct {
		Properties map[string]struct {
			Description string `json:"description"`
		} `json:"properties"`
	}
	var schema struct {
		object

		Defs map[string]object `json:"$defs"`
	}
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct {
		title string
		of    object
	}{{"The file", schema.object}, {"A context", schema.Defs["Context"]}, {"A service", schema.Defs["Service"]}} {
		o := objectDocs{Title: part.title}
		for _, name := range slices.Sorted(maps.Keys(part.of.Properties)) {
			description := strings.Join(strings.Fields(part.of.Properties[name].Description), " ")
			if description == "" {
				t.Errorf("%s: field %s has no description", part.title, name)
			}
			o.Fields = append(o.Fields, fieldDocs{name, description})
		}
		docs = append(docs, o)
	}
	return docs
}
