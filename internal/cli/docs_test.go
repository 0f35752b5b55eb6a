package cli

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the pages that are made of the code")

const configurationHead = "# Configuration\n" +
	"\n" +
	"<!-- Made by make docs from the flags and from docs/kubeshore.schema.json. -->\n" +
	"\n" +
	"What is forwarded, and what it is called, is said on the command line or in a project's file; the command line\n" +
	"goes first.\n" +
	"\n" +
	"Patterns (`--include`, `--exclude`) are of a service's name or, with a dot, of name.namespace, with `*`, `?` and\n" +
	"`[a-z]`. A service that `--include` names with its namespace is forwarded whatever the namespaces are.\n" +
	"\n" +
	"The first context's services have the names that they have in their cluster, and those of its first namespace their\n" +
	"bare names too. The services of a further context have its alias in their names, `web.shop.eu` and\n" +
	"`web.shop.svc.eu`, and no others. The current context, and a context's own namespace, are those of the start,\n" +
	"whatever `kubectl config` does later; where its cluster is, is read again when the kubeconfig changes. While there is\n" +
	"none, which is said, what was known is used.\n" +
	"\n" +
	"## Commands\n"

const projectHead = "\n## The project's file\n\n" +
	"`kubeshore.yaml`, in the working directory or the nearest folder above it, or what `--config` names. " +
	"A field that isn't known, or a wrong value, is an error with its line. Changes of it are taken up while kubeshore runs, and so is, where there was none, one that " +
	"the working directory gets (the folders above it are looked at only at the start); a file that is wrong, or gone, is reported, and what it said before stands. " +
	"[kubeshore.schema.json](kubeshore.schema.json) tells editors what may stand in it: begin the file with\n\n" +
	"```yaml\n# yaml-language-server: $schema=https://raw.githubusercontent.com/kubeshore/kubeshore/main/docs/kubeshore.schema.json\n```\n\nAll of it:\n\n```yaml\n"

// docs/configuration.md is what the flags and the schema say.
func TestConfigurationPage(t *testing.T) {
	const path = "../../docs/configuration.md"
	var b strings.Builder
	b.WriteString(configurationHead)
	for _, command := range newRoot(Streams{}).Commands() {
		if command.Name() != "help" && !command.Hidden {
			describeCommand(&b, command)
		}
	}
	example, err := os.ReadFile("../project/testdata/all.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(example), "\n") // the schema's line
	b.WriteString(projectHead + body + "```\n")
	describeSchema(t, &b)
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); string(want) != b.String() {
		t.Errorf("%s is stale (%v): make docs", path, err)
	}
}

func describeCommand(b *strings.Builder, command *cobra.Command) {
	fmt.Fprintf(b, "\n### kubeshore %s\n\n%s\n", command.Name(), command.Short)
	if !command.HasAvailableLocalFlags() {
		return
	}
	b.WriteString("\n| flag | | default |\n| --- | --- | --- |\n")
	command.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		if flag.Hidden || flag.Name == "help" {
			return
		}
		name, usage := pflag.UnquoteUsage(flag)
		text := "`--" + flag.Name + "`"
		if flag.Shorthand != "" {
			text = "`-" + flag.Shorthand + "`, " + text
		}
		if name != "" {
			text += " " + strings.ReplaceAll(name, "|", `\|`)
		}
		value := flag.DefValue
		if value == "false" || value == "[]" || value == "0" {
			value = ""
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", text, usage, value)
	})
}

// describeSchema adds a table of the fields of each type of the schema.
func describeSchema(t *testing.T, b *strings.Builder) {
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
		fmt.Fprintf(b, "\n%s:\n\n| field | |\n| --- | --- |\n", part.title)
		names := make([]string, 0, len(part.of.Properties))
		for name := range part.of.Properties {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			description := strings.Join(strings.Fields(part.of.Properties[name].Description), " ")
			if description == "" {
				t.Errorf("%s: %s isn't described", part.title, name)
			}
			fmt.Fprintf(b, "| `%s` | %s |\n", name, description)
		}
	}
}
