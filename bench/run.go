package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kubeshore/kubeshore/internal/backoff"
)

// runBenchmarks runs each benchmark on each forwarder once per round. A
// different forwarder goes first in each round. A failed benchmark is a
// result; runBenchmarks returns an error only if ctx ends.
func (s *testbed) runBenchmarks(ctx context.Context, forwarders []forwarder, benches []benchmark, rounds int, log io.Writer) (table, error) {
	t := newTable(forwarders, benches)
	for round := range rounds {
		first := 0 // row of the benchmark
		for _, m := range benches {
			for i := range forwarders {
				column := (i + round) % len(forwarders)
				f := forwarders[column]
				results := s.runBenchmark(ctx, m, f)
				if ctx.Err() != nil {
					return t, fmt.Errorf("bench: run %s: %w", m.name, context.Cause(ctx))
				}
				for i, o := range results {
					t.rows[first+i].cells[column].add(o)
				}
				fmt.Fprintf(log, "%d/%d %s: %s:%s\n", round+1, rounds, m.name, f.name(), formatResults(results))
				if m.restAfter {
					_ = backoff.Sleep(ctx, s.effort.restDelay) // the end of ctx is handled above
				}
			}
			first += len(m.metrics)
		}
	}
	return t, nil
}

// runBenchmark starts a forwarder, runs one benchmark on it and stops it. It
// returns a result for each metric.
func (s *testbed) runBenchmark(ctx context.Context, m benchmark, f forwarder) []result {
	ctx, cancel := context.WithTimeout(ctx, s.effort.benchTimeout)
	defer cancel()
	to := s.target
	if m.roundTrip > 0 {
		s.proxy.SetRoundTrip(m.roundTrip)
		to.kubeconfig = s.slowKubeconfig
	}
	var results []result
	err := f.start(ctx, to)
	if err == nil {
		results = m.run(ctx, f, s.effort)
	}
	err = errors.Join(err, f.stop())
	if len(results) == 0 {
		results = []result{{err: err}}
	}
	for len(results) < len(m.metrics) {
		results = append(results, results[0])
	}
	for i, o := range results {
		if o.err != nil { // an unexpected exit explains the failure
			results[i].err = errors.Join(o.err, err)
		}
	}
	return results
}

// formatResults returns the results in one line, for the progress log.
func formatResults(results []result) string {
	var text strings.Builder
	for _, o := range results {
		if o.err != nil {
			fmt.Fprintf(&text, " %q", o.err)
			continue
		}
		text.WriteString(" " + formatNumber(o.value))
	}
	return text.String()
}

// timedOut reports whether err is a timeout of a forwarder that was still
// running.
func timedOut(err error) bool {
	return !errors.Is(err, errExited) && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded))
}
