package main

import (
	"context"
	"regexp"
	"slices"
	"time"
)

// outcome is one figure that was measured, or why there is none.
type outcome struct {
	value float64
	err   error
}

// figures are outcomes that all were measured.
func figures(values ...float64) []outcome {
	outcomes := make([]outcome, len(values))
	for i, v := range values {
		outcomes[i].value = v
	}
	return outcomes
}

// procedure takes a measure of a forwarder that has just been started, and returns
// an outcome for each row of the measure; one that is an error is for all of
// them. It returns soon after ctx ends, and leaves nothing of its own running
// or open.
type procedure func(ctx context.Context, f forwarder, e effort) []outcome

// row is a line of the table.
type row struct {
	title string
	unit  string
	more  bool // is better
}

// measure is a procedure with what its outcomes are.
type measure struct {
	name      string
	roundTrip time.Duration // added between the forwarder and the API server
	rest      bool          // the cluster is busy for a while after it
	run       procedure
	rows      []row
}

// effort is how much a measure does.
type effort struct {
	bytes   int64         // of a transfer, over all its connections
	span    time.Duration // in which a rate is counted
	samples int           // of a latency
	bursts  int
	idle    int           // open connections
	gap     time.Duration // between two samples
	settle  time.Duration // until buffers are full, or nothing more is done
	answer  time.Duration // for one answer to come: after that it hangs
	rest    time.Duration // for the cluster, after a measure that keeps it busy: containerd ends a connection a second after its client
	limit   time.Duration // for the whole measure, the forwarder's start included
}

func full() effort {
	return effort{
		bytes: 500e6, span: 3 * time.Second, samples: 10, bursts: 5, idle: 1000,
		gap: 100 * time.Millisecond, settle: 1500 * time.Millisecond, answer: 3 * time.Second, rest: 1500 * time.Millisecond, limit: time.Minute,
	}
}

func quick() effort {
	return effort{
		bytes: 40e6, span: 300 * time.Millisecond, samples: 3, bursts: 1, idle: 100,
		gap: 10 * time.Millisecond, settle: 300 * time.Millisecond, answer: time.Second, rest: 100 * time.Millisecond, limit: 20 * time.Second,
	}
}

// far is the round trip of the slow way.
const far = 50 * time.Millisecond

// measures returns all of them, in the order of the table.
func measures() []measure {
	latency := func(titles ...string) (rows []row) {
		for _, title := range titles {
			rows = append(rows, row{title: title, unit: "ms"})
		}
		return rows
	}
	transfers := func(what string) []row {
		return []row{{what, "MB/s", true}, {what + ": CPU", "s/GB", false}}
	}
	bySpeaker := func(when string) []string {
		return []string{when + ", server speaks first", when + ", client speaks first"}
	}
	besides := func(what string) []row { return latency("new connection, "+what, "established connection, "+what) }
	return []measure{
		{name: "down/1", rows: transfers("from a pod, 1 connection"), run: transfer(1, receive)},
		{name: "down/8", rows: transfers("from a pod, 8 connections"), run: transfer(8, receive)},
		{name: "up/1", rows: transfers("to a pod, 1 connection"), run: transfer(1, send)},
		{name: "up/8", rows: transfers("to a pod, 8 connections"), run: transfer(8, send)},
		{name: "connect", rows: []row{{"new connections, 16 at once", "1/s", true}}, run: connectRate(16), rest: true},
		{name: "http", rows: []row{{"HTTP requests, 64 kept connections", "1/s", true}}, run: requestRate(64)},
		{name: "first/near", rows: latency(slices.Concat(bySpeaker("first byte, warm"), bySpeaker("first byte, slowest of 8 at once"))...), run: firstByte},
		{name: "cold/near/server", rows: latency(bySpeaker("first byte, cold")[:1]...), run: coldByte(serverFirst)},
		{name: "cold/near/client", rows: latency(bySpeaker("first byte, cold")[1:]...), run: coldByte(clientFirst)},
		{name: "first/far", roundTrip: far, rows: latency(slices.Concat(bySpeaker("50 ms away: first byte, warm"), bySpeaker("50 ms away: first byte, slowest of 8 at once"))...), run: firstByte},
		{name: "cold/far/server", roundTrip: far, rows: latency(bySpeaker("50 ms away: first byte, cold")[:1]...), run: coldByte(serverFirst)},
		{name: "cold/far/client", roundTrip: far, rows: latency(bySpeaker("50 ms away: first byte, cold")[1:]...), run: coldByte(clientFirst)},
		{name: "beside/nothing", rows: besides("undisturbed"), run: beside(nobody)},
		{name: "beside/reader", rows: besides("beside a stalled reader"), run: beside(stalledReader), rest: true},
		{name: "beside/pod", rows: besides("beside a stalled pod"), run: beside(stalledPod), rest: true},
		{name: "memory", rows: []row{{"resident memory, nothing open", "MB", false}, {"resident memory, 1,000 open idle connections", "MB", false}}, run: memory, rest: true},
	}
}

// selected returns the measures whose name matches.
func selected(only *regexp.Regexp) []measure {
	return slices.DeleteFunc(measures(), func(m measure) bool { return !only.MatchString(m.name) })
}
