package project

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Decode decodes one YAML document into a struct. A single value is accepted for a
// list of them. Fields whose names begin with x- are ignored: they are for other
// programs, and for anchors. Each problem is a line with the path, the line number and
// the field. unknown has the fields that the struct lacks, in the same form.
func Decode(path string, data []byte, into any) (unknown, problems []string) {
	_, c, err := decode(data, into)
	return lines(path, c.unknown), append(lines(path, c.problems), syntaxProblems(path, err)...)
}

// decode is Decode with the document, which is nil if the file is empty.
func decode(data []byte, into any) (root *yaml.Node, c *checker, err error) {
	c = newChecker()
	root = new(yaml.Node)
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(root); errors.Is(err, io.EOF) {
		return nil, c, nil
	} else if err != nil {
		return nil, c, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, c, errors.New("more than one YAML document")
	}
	c.checkDocument(root, into)
	if len(c.problems) > 0 {
		return root, c, nil
	}
	return root, c, root.Decode(into)
}

// problem is a line of a file, and what is wrong there.
type problem struct {
	line int
	text string
}

// lines returns problems of the file at path, a line each.
func lines(path string, problems []problem) []string {
	texts := make([]string, len(problems))
	for i, p := range problems {
		texts[i] = fmt.Sprintf("%s:%d: %s", path, p.line, p.text)
	}
	return texts
}

// linePattern matches an error message with a line number.
var linePattern = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors: +)?line (\d+): (.*)$`)

// splitLine splits the line number, 0 if there is none, from an error message.
func splitLine(message string) (line int, text string) {
	text = strings.Join(strings.Fields(message), " ")
	if found := linePattern.FindStringSubmatch(text); found != nil {
		line, _ = strconv.Atoi(found[1])
		text = found[2]
	}
	return line, text
}

// syntaxProblems returns an error of the YAML library, a line per problem.
func syntaxProblems(path string, err error) []string {
	if err == nil {
		return nil
	}
	var typeError *yaml.TypeError
	texts := []string{err.Error()}
	if errors.As(err, &typeError) {
		texts = slices.Clone(typeError.Errors)
	}
	for i, text := range texts {
		if line, text := splitLine(text); line > 0 {
			texts[i] = fmt.Sprintf("%s:%d: %s", path, line, text)
		} else {
			texts[i] = path + ": " + strings.TrimPrefix(text, "yaml: ")
		}
	}
	return texts
}
