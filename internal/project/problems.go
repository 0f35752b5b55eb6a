package project

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The patterns match error messages of the YAML library.
var (
	linePattern         = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors: +)?line (\d+): (.*)$`)
	unknownFieldPattern = regexp.MustCompile(`^field (\S+) not found in type .+$`)
	wrongTypePattern    = regexp.MustCompile("^cannot unmarshal (!!\\w+)(?: `(.*)`)? into (.*)$")
)

// Problems describes an error of decoding a YAML file, one line per problem, with
// the path and the line number. data is the file's content.
func Problems(path string, data []byte, err error) []string {
	var typeError *yaml.TypeError
	texts := []string{err.Error()}
	if errors.As(err, &typeError) {
		texts = slices.Clone(typeError.Errors)
	}
	for i, text := range texts {
		at, line, text := path, 0, strings.Join(strings.Fields(text), " ")
		if found := linePattern.FindStringSubmatch(text); found != nil {
			at, text = path+":"+found[1], found[2]
			line, _ = strconv.Atoi(found[1])
		}
		if found := unknownFieldPattern.FindStringSubmatch(text); found != nil {
			text = "unknown field " + found[1]
		}
		if found := wrongTypePattern.FindStringSubmatch(text); found != nil {
			text = wrongType(data, line, found[1], found[2], found[3])
		}
		texts[i] = at + ": " + text
	}
	return texts
}

// wrongType describes a value of the wrong type. tag is the value's, value its text
// if it is a scalar, shortened by the YAML library, and goType the expected type.
func wrongType(data []byte, line int, tag, value, goType string) string {
	want := typeName(goType)
	var root yaml.Node
	if yaml.Unmarshal(data, &root) == nil {
		prefix := strings.TrimSuffix(value, "...")
		fields := fieldsWith(&root, "", func(n *yaml.Node) bool {
			return n.Line == line && n.ShortTag() == tag && (n.Kind != yaml.ScalarNode || strings.HasPrefix(n.Value, prefix))
		})
		if len(fields) == 1 {
			return fields[0] + " must be " + want
		}
	}
	if value != "" {
		return fmt.Sprintf("expected %s, got %q", want, value)
	}
	return fmt.Sprintf("expected %s, got %s", want, tagNames[tag])
}

// fieldsWith returns the names of the fields below node whose values match. A list's
// item is named by the list's name and its index.
func fieldsWith(node *yaml.Node, name string, matches func(*yaml.Node) bool) (fields []string) {
	visit := func(item *yaml.Node, name string) {
		if matches(item) && name != "" {
			fields = append(fields, name)
		}
		fields = append(fields, fieldsWith(item, name, matches)...)
	}
	for i, item := range node.Content {
		switch node.Kind {
		case yaml.MappingNode:
			if i%2 == 1 {
				visit(item, node.Content[i-1].Value)
			}
		case yaml.SequenceNode:
			visit(item, fmt.Sprintf("%s[%d]", name, i))
		case yaml.DocumentNode, yaml.ScalarNode, yaml.AliasNode:
			visit(item, name)
		}
	}
	return fields
}

// tagNames are YAML's tags in words.
var tagNames = map[string]string{
	"!!map": "a mapping", "!!seq": "a list", "!!str": "text", "!!int": "a number",
	"!!float": "a number", "!!bool": "true or false", "!!null": "nothing",
}

// typeName returns the YAML term for a Go type.
func typeName(goType string) string {
	switch {
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	case goType == "bool":
		return "true or false"
	case goType == "string":
		return "text"
	}
	return "a mapping"
}
