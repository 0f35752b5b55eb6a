//go:build !linux

package listen

import (
	"context"
	"errors"
)

// newLookup returns an error: sk_lookup is a feature of Linux.
func newLookup(context.Context) (Taker, error) {
	return nil, errors.New("sk_lookup is only available on Linux")
}
