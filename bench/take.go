package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// measureAll takes each measure of each forwarder as often as there are
// rounds. Another one begins in each round. What goes wrong in a measure is an
// outcome; an error is only the end of ctx.
func (s *stage) measureAll(ctx context.Context, forwarders []forwarder, measures []measure, rounds int, log io.Writer) (table, error) {
	t := newTable(forwarders, measures)
	for round := range rounds {
		first := 0 // line of the measure
		for _, m := range measures {
			for i := range forwarders {
				column := (i + round) % len(forwarders)
				f := forwarders[column]
				outcomes := s.take(ctx, m, f)
				if ctx.Err() != nil {
					return t, fmt.Errorf("bench: take %s: %w", m.name, context.Cause(ctx))
				}
				for i, o := range outcomes {
					t.lines[first+i].cells[column].add(o)
				}
				fmt.Fprintf(log, "%d/%d %s: %s:%s\n", round+1, rounds, m.name, f.name(), said(outcomes))
				if m.rest {
					_ = wait(ctx, s.effort.rest) // its end is seen above
				}
			}
			first += len(m.rows)
		}
	}
	return t, nil
}

// take starts a forwarder, takes one measure of it, and stops it. There is an
// outcome for each row.
func (s *stage) take(ctx context.Context, m measure, f forwarder) []outcome {
	ctx, cancel := context.WithTimeout(ctx, s.effort.limit)
	defer cancel()
	to := s.target
	if m.roundTrip > 0 {
		s.proxy.SetRoundTrip(m.roundTrip)
		to.kubeconfig = s.slow
	}
	var outcomes []outcome
	err := f.start(ctx, to)
	if err == nil {
		outcomes = m.run(ctx, f, s.effort)
	}
	err = errors.Join(err, f.stop())
	if len(outcomes) == 0 {
		outcomes = []outcome{{err: err}}
	}
	for len(outcomes) < len(m.rows) {
		outcomes = append(outcomes, outcomes[0])
	}
	for i, o := range outcomes {
		if o.err != nil { // that it ended by itself explains what went wrong
			outcomes[i].err = errors.Join(o.err, err)
		}
	}
	return outcomes
}

// said are outcomes in a line, for whoever waits.
func said(outcomes []outcome) string {
	var text strings.Builder
	for _, o := range outcomes {
		if o.err != nil {
			fmt.Fprintf(&text, " %q", o.err)
			continue
		}
		text.WriteString(" " + number(o.value))
	}
	return text.String()
}

// hangs tells whether an error says that something took too long.
func hangs(err error) bool {
	return !errors.Is(err, errEnded) && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded))
}
