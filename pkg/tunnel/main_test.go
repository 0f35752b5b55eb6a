package tunnel_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain ignores goroutines of moby/spdystream, the server side of the tests,
// because they linger when a pod doesn't read.
func TestMain(m *testing.M) {
	const server = "github.com/moby/spdystream.(*Connection)."
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(server+"shutdown"),
		goleak.IgnoreAnyFunction(server+"Serve"),
		goleak.IgnoreAnyFunction(server+"frameHandler"),
		goleak.IgnoreAnyFunction(server+"handleResetFrame"),
		goleak.IgnoreAnyFunction(server+"Serve.func1"),
		goleak.IgnoreAnyFunction(server+"Serve.func2"),
	)
}
