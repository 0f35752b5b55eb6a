package fwd_test

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"testing"

	"github.com/sirupsen/logrus/hooks/test"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/loopback"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// manyServices returns a snapshot of n Services with two ports and two pods each.
func manyServices(n int) plan.Snapshot {
	var s plan.Snapshot
	for i := range n {
		svc := service(fmt.Sprintf("svc-%05d", i), "a", "b")
		svc.Ports = append(svc.Ports, plan.ServicePort{Name: "admin", Protocol: "TCP", Number: 9000})
		for _, e := range svc.Endpoints {
			e.Ports["admin"] = 9000
		}
		s.Services = append(s.Services, svc)
	}
	return s
}

// BenchmarkPlan measures a plan. The time per Service should be independent of
// their number.
func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			s, o := manyServices(n), options()
			for b.Loop() {
				plan.Plan(s, o)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/service")
		})
	}
}

// These accept everything and do nothing.
type (
	noAliases struct{}
	noNames   struct{}
	noPorts   struct{ fwd.Ports }
)

func (noAliases) Set(context.Context, []netip.Addr) error { return nil }

func (noNames) Changed() <-chan struct{} { return nil }

func (noNames) Set(context.Context, map[netip.Addr][]string) (map[string]error, error) {
	return nil, nil
}

func (noPorts) How() string { return "none" }

func (noPorts) Set(context.Context, []netip.AddrPort) map[netip.AddrPort]error { return nil }

// BenchmarkChange measures planning and applying a change of one Service.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			log, _ := test.NewNullLogger()
			addresses, err := loopback.NewPool([]netip.Prefix{loopback.DefaultPrefix}, "me", nil)
			if err != nil {
				b.Fatal(err)
			}
			step := fwd.ApplyForTest(b, &fwd.Engine{
				Options: options, Addresses: addresses, Aliases: noAliases{}, Names: noNames{}, Ports: noPorts{}, Log: log,
			})
			s := manyServices(n)
			step(s)
			for i := 0; b.Loop(); i++ {
				s.Services[i%n].Ports[0].Number ^= 1
				step(s)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/service")
		})
	}
}
