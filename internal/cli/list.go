package cli

import (
	"encoding/csv"
	"errors"
	"strings"

	"github.com/spf13/pflag"
)

// list is a flag that has several values, separated by commas or given one by one.
// Spaces around them don't count; one with a comma in it stands in quotes.
type list []string

var _ pflag.Value = (*list)(nil)

// Set adds values.
func (l *list) Set(text string) error {
	if strings.TrimSpace(text) == "" {
		return errors.New("it needs a value")
	}
	reader := csv.NewReader(strings.NewReader(text))
	reader.TrimLeadingSpace = true
	values, err := reader.Read()
	if err != nil {
		return err
	}
	for _, value := range values {
		value = strings.TrimSpace(value)
		if value == "" {
			return errors.New("one of its values is empty")
		}
		*l = append(*l, value)
	}
	return nil
}

func (l *list) String() string { return strings.Join(*l, ",") }

// Type is what the help calls it.
func (*list) Type() string { return "strings" }
