package portlist_test

import (
	"testing"

	"github.com/kubeshore/kubeshore/internal/portlist"
)

func TestText(t *testing.T) {
	many := make([]uint16, 0, 21)
	for port := range uint16(21) {
		many = append(many, port+1)
	}
	for _, c := range []struct {
		ports []uint16
		want  string
	}{
		{[]uint16{80}, "port 80"},
		{[]uint16{443, 80}, "ports 443, 80"},
		{many[:20], "ports 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20"},
		{many, "ports 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, … (21 ports)"},
	} {
		if got := portlist.Text(c.ports); got != c.want {
			t.Errorf("%v: got %q, want %q", c.ports, got, c.want)
		}
	}
}
