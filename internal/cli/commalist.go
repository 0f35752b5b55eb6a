package cli

import (
	"encoding/csv"
	"errors"
	"strings"

	"github.com/spf13/pflag"
)

// commaList is a flag with several values, separated by commas or given one by
// one. Spaces around values are ignored; a value with a comma has to be quoted.
type commaList []string

var _ pflag.Value = (*commaList)(nil)

// Set adds values.
func (l *commaList) Set(text string) error {
	if strings.TrimSpace(text) == "" {
		return errors.New("must not be empty")
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
			return errors.New("must not have empty values")
		}
		*l = append(*l, value)
	}
	return nil
}

func (l *commaList) String() string { return strings.Join(*l, ",") }

// Type returns the flag value's type as the help shows it.
func (*commaList) Type() string { return "strings" }
