package tunnel_test

import (
	"testing"

	"go.uber.org/goleak"
)

// The server side of the tests is the upstream library's, which lingers where
// a pod doesn't read.
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
