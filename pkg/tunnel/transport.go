package tunnel

import "fmt"

// Transport is what carries the bytes to the API server. It is a pflag.Value.
type Transport int

const (
	// Auto is SPDY or else WebSocket, whichever the server and all that stands
	// before it let through; the one that last worked is tried first.
	Auto Transport = iota
	// SPDY is SPDY/3.1 right behind an HTTP upgrade. It is the faster one, and
	// the only one of API servers before 1.31. It takes the right to create
	// pods/portforward.
	SPDY
	// WebSocket is SPDY/3.1 inside WebSocket messages (KEP-4006). It takes the
	// right to get pods/portforward; from 1.35 on, to create them too.
	WebSocket
)

func (t Transport) String() string {
	switch t {
	case SPDY:
		return "spdy"
	case WebSocket:
		return "websocket"
	case Auto:
		return "auto"
	}
	return fmt.Sprintf("Transport(%d)", int(t))
}

// Set takes what String returns.
func (t *Transport) Set(name string) error {
	for _, known := range []Transport{Auto, SPDY, WebSocket} {
		if name == known.String() {
			*t = known
			return nil
		}
	}
	return fmt.Errorf("must be %v, %v or %v", Auto, SPDY, WebSocket)
}

// Type is what the usage calls a value.
func (*Transport) Type() string { return "transport" }
