package term

import (
	"fmt"
	"strconv"
)

// Bytes returns a number of bytes with a decimal unit, e.g. 1.2kB.
func Bytes(n uint64) string {
	if n < 1000 {
		return strconv.FormatUint(n, 10) + "B"
	}
	value, unit := float64(n)/1000, 0
	for value >= 999.5 && unit < 4 {
		value, unit = value/1000, unit+1
	}
	if value < 9.95 {
		return fmt.Sprintf("%.1f%cB", value, "kMGTP"[unit])
	}
	return fmt.Sprintf("%.0f%cB", value, "kMGTP"[unit])
}
