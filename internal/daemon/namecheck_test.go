package daemon

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubeshore/kubeshore/internal/resolver"
	"github.com/kubeshore/kubeshore/internal/wake"
	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// answer is the result of a lookup.
type answer struct {
	addrs []netip.Addr
	err   error
}

// The check waits for a name, reports a problem after three failures, withdraws it when
// the name resolves, and ends.
func TestNameCheck(t *testing.T) {
	web, other := netip.MustParseAddr("127.64.0.1"), netip.MustParseAddr("192.0.2.1")
	right, wrong, missing := answer{[]netip.Addr{web}, nil}, answer{[]netip.Addr{other}, nil}, answer{nil, resolver.ErrNotFound}
	for name, test := range map[string]struct {
		answers []answer // the last one is repeated
		want    []string
		took    time.Duration
	}{
		"resolves":               {[]answer{right}, nil, 0},
		"resolves a bit later":   {[]answer{missing, missing, right}, nil, 2 * lookupInterval},
		"recovers":               {[]answer{missing, missing, missing, missing, right}, []string{"resolve web.shop: not found", ""}, 2*lookupInterval + 2*lookupRetryInterval},
		"another address":        {[]answer{wrong, wrong, wrong, right}, []string{"resolve web.shop: got [192.0.2.1], want 127.64.0.1", ""}, 2*lookupInterval + lookupRetryInterval},
		"no answer":              {[]answer{{}, {}, {}, right}, []string{"resolve web.shop: no answer within 5s", ""}, 3*lookupTimeout + 2*lookupInterval + lookupRetryInterval},
		"there is no way to ask": {[]answer{{nil, resolver.ErrUnavailable}}, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var status fwd.Status
				var changed wake.Broadcast
				var reports []string
				c := nameCheck{
					status: func() fwd.Status { return status }, changed: changed.C,
					lookup: func(ctx context.Context, _ string) ([]netip.Addr, error) {
						now := test.answers[0]
						if len(test.answers) > 1 {
							test.answers = test.answers[1:]
						}
						if now.addrs == nil && now.err == nil { // the resolver hangs
							<-ctx.Done()
							return nil, context.Cause(ctx)
						}
						return now.addrs, now.err
					},
					report: func(err error) {
						if err == nil {
							reports = append(reports, "")
						} else {
							reports = append(reports, err.Error())
						}
					},
				}
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					c.run(t.Context())
				}()
				synctest.Wait()
				begin := time.Now()
				status.Hosts = []fwd.HostStatus{{}, {Names: []string{"web.shop"}, Address: web}}
				changed.Fire()
				<-ended
				if got := time.Since(begin); got != test.took || !slices.Equal(reports, test.want) {
					t.Errorf("got reports %q after %v, want %q after %v", reports, got, test.want, test.took)
				}
			})
		})
	}
}

// The end of the run ends the check, also during a lookup and without a name.
func TestNameCheckEnds(t *testing.T) {
	for name, hosts := range map[string][]fwd.HostStatus{
		"without a name":  nil,
		"during a lookup": {{Names: []string{"web.shop"}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var changed wake.Broadcast
				c := nameCheck{
					status: func() fwd.Status { return fwd.Status{Hosts: hosts} }, changed: changed.C,
					lookup: func(ctx context.Context, _ string) ([]netip.Addr, error) {
						<-ctx.Done()
						return nil, context.Cause(ctx)
					},
					report: func(err error) { t.Errorf("got a report: %v", err) },
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				begin := time.Now()
				c.run(ctx)
				if got := time.Since(begin); got != time.Second {
					t.Errorf("ended after %v, want 1s", got)
				}
			})
		})
	}
}
