package tunnel

import "fmt"

// Transport is a protocol between kubeshore and the API server. *Transport is a
// pflag.Value.
type Transport int

const (
	// Auto tries both protocols until one gets through to the API server, first
	// the one that last worked, initially SPDY.
	Auto Transport = iota
	// SPDY is SPDY/3.1 directly after an HTTP upgrade. It is the faster one, and
	// the only one that API servers before 1.31 support. It requires the
	// permission to create pods/portforward.
	SPDY
	// WebSocket is SPDY/3.1 inside WebSocket messages (KEP-4006). It requires the
	// permission to get pods/portforward; since 1.35, also to create it.
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

// Set sets t to the transport with that name.
func (t *Transport) Set(name string) error {
	for _, known := range []Transport{Auto, SPDY, WebSocket} {
		if name == known.String() {
			*t = known
			return nil
		}
	}
	return fmt.Errorf("must be %v, %v or %v", Auto, SPDY, WebSocket)
}

// Type returns the placeholder of the flag's value in help texts.
func (*Transport) Type() string { return "auto|spdy|websocket" }
