package fwd

import (
	"fmt"
	"slices"
	"strings"
)

// Balance is how a new connection's pod is chosen among those that can take
// it. It is a flag's value (pflag.Value).
type Balance int

const (
	// RoundRobin takes the pods in turn.
	RoundRobin Balance = iota
	// Least takes the pod that has the fewest connections now.
	Least
	// First takes the first pod by name.
	First
)

var balances = [...]string{RoundRobin: "round-robin", Least: "least", First: "first"}

// String returns what Set understands.
func (b Balance) String() string { return balances[b] }

// Set makes b what the text says: round-robin, least or first.
func (b *Balance) Set(text string) error {
	i := slices.Index(balances[:], text)
	if i < 0 {
		return fmt.Errorf("it is %v, %v or %v", RoundRobin, Least, First) // what pflag puts before names the flag
	}
	*b = Balance(i)
	return nil
}

// Type is what the flag's value is called in the help.
func (Balance) Type() string { return strings.Join(balances[:], "|") }
