package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// wordsOf returns the words of a shell command, up to a comment or the next command.
func wordsOf(line string) []string {
	var words []string
	quote, inWord := rune(0), false
	for _, r := range line + " " {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote = r
			if !inWord {
				words, inWord = append(words, ""), true
			}
		case quote == 0 && r == ' ':
			inWord = false
		case quote == 0 && !inWord && strings.ContainsRune("#|&;", r):
			return words
		default:
			if !inWord {
				words, inWord = append(words, ""), true
			}
			words[len(words)-1] += string(r)
		}
	}
	return words
}

// Every example in the help and in the README parses.
func TestExamples(t *testing.T) {
	check := func(where, line string) {
		words := wordsOf(line)
		for len(words) > 0 && (words[0] == "sudo" || words[0] == "-E") {
			words = words[1:]
		}
		if len(words) == 0 || words[0] != "kubeshore" {
			t.Errorf("%s: %q is not a kubeshore command", where, line)
			return
		}
		cmd, rest, err := newRoot(Streams{}).Find(words[1:])
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err == nil {
			err = cmd.ValidateArgs(cmd.Flags().Args())
		}
		if err != nil {
			t.Errorf("%s: %q: %v", where, line, err)
		}
	}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Runnable() && !cmd.Hidden && cmd.Example == "" && cmd.Name() != "help" && cmd.Name() != "completion" && cmd.Parent().Name() != "completion" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Example) {
			check(cmd.CommandPath(), strings.TrimSpace(line))
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(Streams{}))

	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	inBlock := false
	for line := range strings.Lines(string(readme)) {
		if strings.HasPrefix(line, "```") {
			inBlock = !inBlock
		}
		if inBlock && (strings.HasPrefix(line, "kubeshore ") || strings.HasPrefix(line, "sudo kubeshore ")) {
			check("README.md", strings.TrimSpace(line))
		}
	}
}
