package tunnel_test

import (
	"testing"

	"go.uber.org/goleak"
)

// The server side of the tests is the upstream library's, which lingers.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/moby/spdystream.(*Connection).shutdown"))
}
