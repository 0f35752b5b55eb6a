package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// runBenchmarks takes each measure of each forwarder as often as there are
// rounds. Another one begins in each round. What goes wrong in a measure is an
// outcome; an error is only the end of ctx.
func (s *testbed) runBenchmarks(ctx context.Context, forwarders []forwarder, measures []benchmark, rounds int, log io.Writer) (table, error) {
	t := newTable(forwarders, measures)
	for round := range rounds {
		first := 0 // line of the measure
		for _, m := range measures {
			for i := range forwarders {
				column := (i + round) % len(forwarders)
				f := forwarders[column]
				outcomes := s.runBenchmark(ctx, m, f)
				if ctx.Err() != nil {
					return t, fmt.Errorf("bench: take %s: %w", m.name, context.Cause(ctx))
				}
				for i, o := range outcomes {
					t.rows[first+i].cells[column].add(o)
				}
				fmt.Fprintf(log, "%d/%d %s: %s:%s\n", round+1, rounds, m.name, f.name(), formatResults(outcomes))
				if m.restAfter {
					_ = wait(ctx, s.effort.restDelay) // its end is seen above
				}
			}
			first += len(m.metrics)
		}
	}
	return t, nil
}

// runBenchmark starts a forwarder, takes one measure of it, and stops it. There is an
// outcome for each row.
func (s *testbed) runBenchmark(ctx context.Context, m benchmark, f forwarder) []result {
	ctx, cancel := context.WithTimeout(ctx, s.effort.benchTimeout)
	defer cancel()
	to := s.target
	if m.roundTrip > 0 {
		s.proxy.SetRoundTrip(m.roundTrip)
		to.kubeconfig = s.slowKubeconfig
	}
	var outcomes []result
	err := f.start(ctx, to)
	if err == nil {
		outcomes = m.run(ctx, f, s.effort)
	}
	err = errors.Join(err, f.stop())
	if len(outcomes) == 0 {
		outcomes = []result{{err: err}}
	}
	for len(outcomes) < len(m.metrics) {
		outcomes = append(outcomes, outcomes[0])
	}
	for i, o := range outcomes {
		if o.err != nil { // that it ended by itself explains what went wrong
			outcomes[i].err = errors.Join(o.err, err)
		}
	}
	return outcomes
}

// formatResults are outcomes in a line, for whoever waits.
func formatResults(outcomes []result) string {
	var text strings.Builder
	for _, o := range outcomes {
		if o.err != nil {
			fmt.Fprintf(&text, " %q", o.err)
			continue
		}
		text.WriteString(" " + formatNumber(o.value))
	}
	return text.String()
}

// timedOut tells whether an error says that something took too long.
func timedOut(err error) bool {
	return !errors.Is(err, errExited) && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded))
}
