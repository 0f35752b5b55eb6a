//go:build !linux

package tunnel

import (
	"errors"
	"net"
)

// lowWaterReader is available on Linux only.
type lowWaterReader struct{}

func (*lowWaterReader) init(net.Conn) {}

func (*lowWaterReader) start() bool { return false }

func (*lowWaterReader) read([]byte) (int, error) { return 0, errors.ErrUnsupported }

func (*lowWaterReader) acked() (uint64, bool) { return 0, false }
