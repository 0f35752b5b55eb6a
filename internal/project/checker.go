package project

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kubeshore/kubeshore/internal/similar"
)

// checker compares the nodes of a document with the types that they are decoded into.
// The YAML library's own errors name Go types instead of fields.
type checker struct {
	unknown, problems []problem
	seen              map[visit]bool
}

// visit is a mapping or a list that was checked for a type. Aliases lead to the same
// one many times, and even from itself.
type visit struct {
	node *yaml.Node
	as   reflect.Type
}

func newChecker() *checker { return &checker{seen: make(map[visit]bool)} }

var unmarshaler = reflect.TypeFor[yaml.Unmarshaler]()

// checkDocument checks a document that is to be decoded into a struct.
func (c *checker) checkDocument(root *yaml.Node, into any) {
	if top := resolved(root.Content[0]); !isNull(top) {
		c.check(&root.Content[0], reflect.TypeOf(into).Elem(), "")
	}
}

// check checks the node in a slot of its parent, which isn't null. name is the path of
// fields that leads there.
func (c *checker) check(slot **yaml.Node, as reflect.Type, name string) {
	node := resolved(*slot)
	switch {
	case reflect.PointerTo(as).Implements(unmarshaler):
		value, _ := reflect.New(as).Interface().(yaml.Unmarshaler)
		if err := value.UnmarshalYAML(node); err != nil {
			line, text := splitLine(err.Error())
			c.problems = append(c.problems, problem{max(line, node.Line), name + ": " + text})
		}
	case as.Kind() == reflect.Slice:
		c.checkList(slot, as, name)
	case as.Kind() == reflect.Struct && node.Kind == yaml.MappingNode:
		c.checkStruct(node, as, name)
	case as.Kind() == reflect.Map && node.Kind == yaml.MappingNode:
		c.checkMap(node, as, name)
	case node.Decode(reflect.New(as).Interface()) != nil:
		c.report(node, name, as)
	}
}

// checkList checks a list. It puts a single value into a list of its own, in the
// slot, because the value may have an alias elsewhere.
func (c *checker) checkList(slot **yaml.Node, as reflect.Type, name string) {
	node := resolved(*slot)
	switch {
	case node.Kind == yaml.SequenceNode && !c.isSeen(node, as):
		for i := range node.Content {
			c.checkValue(&node.Content[i], as.Elem(), fmt.Sprintf("%s[%d]", name, i))
		}
	case node.Kind == yaml.ScalarNode && as.Elem().Kind() != reflect.Struct:
		c.check(slot, as.Elem(), name)
		*slot = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: node.Line, Content: []*yaml.Node{*slot}}
	case node.Kind != yaml.SequenceNode:
		c.report(node, name, as)
	}
}

// checkStruct checks a mapping whose keys are a struct's fields.
func (c *checker) checkStruct(node *yaml.Node, as reflect.Type, name string) {
	if c.isSeen(node, as) {
		return
	}
	fields := fieldsOf(as)
	c.eachPair(node, as, name, func(key *yaml.Node, value **yaml.Node) {
		path := strings.TrimPrefix(name+"."+key.Value, ".")
		field, known := fields[key.Value]
		switch {
		case known && !isNull(resolved(*value)):
			c.check(value, field, path)
		case !known && !strings.HasPrefix(key.Value, "x-"):
			text := "unknown field " + path
			if meant := similar.Word(key.Value, slices.Sorted(maps.Keys(fields))); meant != "" {
				text += "; did you mean " + meant + "?"
			}
			c.unknown = append(c.unknown, problem{key.Line, text})
		}
	})
}

// checkMap checks a mapping with any keys of a type. A struct may be null.
func (c *checker) checkMap(node *yaml.Node, as reflect.Type, name string) {
	if c.isSeen(node, as) {
		return
	}
	c.eachPair(node, as, name, func(key *yaml.Node, value **yaml.Node) {
		path := name + "[" + key.Value + "]"
		c.checkValue(&key, as.Key(), path)
		if as.Elem().Kind() != reflect.Struct || !isNull(resolved(*value)) {
			c.checkValue(value, as.Elem(), path)
		}
	})
}

// eachPair calls handle with the keys and values of a mapping, and checks the
// mappings that are merged into it (the key <<).
func (c *checker) eachPair(node *yaml.Node, as reflect.Type, name string, handle func(key *yaml.Node, value **yaml.Node)) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := resolved(node.Content[i]), resolved(node.Content[i+1])
		switch {
		case key.ShortTag() != "!!merge":
			handle(key, &node.Content[i+1])
		case value.Kind == yaml.SequenceNode:
			for j := range value.Content {
				c.checkMerged(value.Content[j], as, name)
			}
		default:
			c.checkMerged(value, as, name)
		}
	}
}

func (c *checker) checkMerged(node *yaml.Node, as reflect.Type, name string) {
	if resolved(node).Kind != yaml.MappingNode {
		c.report(node, strings.TrimPrefix(name+".<<", "."), as)
		return
	}
	c.check(&node, as, name)
}

// checkValue checks a value that can't be null.
func (c *checker) checkValue(slot **yaml.Node, as reflect.Type, name string) {
	if node := resolved(*slot); isNull(node) {
		c.report(node, name, as)
		return
	}
	c.check(slot, as, name)
}

// isSeen reports whether a node was checked for a type before.
func (c *checker) isSeen(node *yaml.Node, as reflect.Type) bool {
	before := c.seen[visit{node, as}]
	c.seen[visit{node, as}] = true
	return before
}

// report adds the problem that a node is of another type.
func (c *checker) report(node *yaml.Node, name string, as reflect.Type) {
	if name == "" {
		name = "the file"
	}
	c.problems = append(c.problems, problem{node.Line, fmt.Sprintf("%s must be %s, not %s", name, expected(as), describe(resolved(node)))})
}

func resolved(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" }

// fieldsOf returns the types of a struct's fields by their names in YAML.
func fieldsOf(as reflect.Type) map[string]reflect.Type {
	fields := make(map[string]reflect.Type, as.NumField())
	for i := range as.NumField() {
		name, _, _ := strings.Cut(as.Field(i).Tag.Get("yaml"), ",")
		fields[name] = as.Field(i).Type
	}
	return fields
}

// expected returns the YAML term for a type.
func expected(as reflect.Type) string {
	switch as.Kind() { //nolint:exhaustive // the others are structs and maps
	case reflect.Slice:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Uint16:
		return "a number"
	}
	return "a mapping"
}

// describe returns a node's value or, if it has several, its kind.
func describe(node *yaml.Node) string {
	switch {
	case node.Kind == yaml.MappingNode:
		return "a mapping"
	case node.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(node):
		return "empty"
	}
	return fmt.Sprintf("%q", shortened(node.Value))
}

// maxQuoted is the length in bytes of a value in an error message.
const maxQuoted = 60

func shortened(text string) string {
	if len(text) > maxQuoted {
		return strings.ToValidUTF8(text[:maxQuoted], "") + "…"
	}
	return text
}
