//go:build !linux

package machine

import "context"

// claimsDir isn't used: without sk_lookup, an address and port that another process
// listens at can't be bound.
const claimsDir = ""

// openClaims returns no claims.
func openClaims(string, string) (claims, error) { return noClaims{}, nil }

// cleanClaims does nothing.
func cleanClaims(context.Context, string) (CleanedClaims, error) { return CleanedClaims{}, nil }
