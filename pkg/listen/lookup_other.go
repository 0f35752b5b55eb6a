//go:build !linux

package listen

import (
	"context"
	"errors"
)

// newLookup says that there is no such thing.
func newLookup(context.Context) (Taker, error) { return nil, errors.New("only Linux has sk_lookup") }
