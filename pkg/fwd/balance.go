package fwd

import (
	"fmt"
	"slices"
	"strings"
)

// Balance selects how the pod of a new connection is chosen among its
// candidates. It is a flag value (pflag.Value).
type Balance int

const (
	// RoundRobin chooses the pods in turn.
	RoundRobin Balance = iota
	// LeastConnections chooses the pod with the fewest open connections.
	LeastConnections
	// FirstByName chooses the first pod by name.
	FirstByName
)

var balances = [...]string{RoundRobin: "round-robin", LeastConnections: "least", FirstByName: "first"}

// String returns the flag value.
func (b Balance) String() string { return balances[b] }

// Set parses a flag value: round-robin, least or first.
func (b *Balance) Set(text string) error {
	i := slices.Index(balances[:], text)
	if i < 0 { // pflag adds the flag and the invalid value
		return fmt.Errorf("must be %v, %v or %v", RoundRobin, LeastConnections, FirstByName)
	}
	*b = Balance(i)
	return nil
}

// Type returns the placeholder of the flag's value in help texts.
func (Balance) Type() string { return strings.Join(balances[:], "|") }
