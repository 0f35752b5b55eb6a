// Package logevent marks log entries about a service with the kind of change that
// they report, so that a view of the log need not parse messages. Formatters of
// logrus don't print the mark.
package logevent

import (
	"context"

	"github.com/sirupsen/logrus"
)

// Kind is the kind of change that a log entry reports.
type Kind string

// The kinds of changes to a service.
const (
	Added   Kind = "added"
	Changed Kind = "changed"
	Removed Kind = "removed"
)

// Mark returns the character that messages of this kind begin with: '+', '~' or
// '-'; 0 for an unknown kind.
func (k Kind) Mark() byte {
	switch k {
	case Added:
		return '+'
	case Changed:
		return '~'
	case Removed:
		return '-'
	}
	return 0
}

// key is the key of the Kind in the context of an entry.
type key struct{}

// With returns a copy of the entry with a kind. The copy has no message yet.
func With(entry *logrus.Entry, kind Kind) *logrus.Entry {
	ctx := entry.Context
	if ctx == nil {
		ctx = context.Background()
	}
	return entry.WithContext(context.WithValue(ctx, key{}, kind))
}

// Of returns the kind of the entry; false if it has none.
func Of(entry *logrus.Entry) (Kind, bool) {
	if entry.Context == nil {
		return "", false
	}
	kind, ok := entry.Context.Value(key{}).(Kind)
	return kind, ok
}
