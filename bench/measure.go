package main

import (
	"context"
	"regexp"
	"slices"
	"time"
)

// result is one figure that was measured, or why there is none.
type result struct {
	value float64
	err   error
}

// measured are outcomes that all were measured.
func measured(values ...float64) []result {
	outcomes := make([]result, len(values))
	for i, v := range values {
		outcomes[i].value = v
	}
	return outcomes
}

// benchFunc takes a measure of a forwarder that has just been started, and returns
// an outcome for each row of the measure; one that is an error is for all of
// them. It returns soon after ctx ends, and leaves nothing of its own running
// or open.
type benchFunc func(ctx context.Context, f forwarder, e effort) []result

// metric is a line of the table.
type metric struct {
	title          string
	unit           string
	higherIsBetter bool // is better
}

// benchmark is a procedure with what its outcomes are.
type benchmark struct {
	name      string
	roundTrip time.Duration // added between the forwarder and the API server
	restAfter bool          // the cluster is busy for a while after it
	run       benchFunc
	metrics   []metric
}

// effort is how much a measure does.
type effort struct {
	bytes           int64         // of a transfer, over all its connections
	rateWindow      time.Duration // in which a rate is counted
	samples         int           // of a latency
	bursts          int
	idleConns       int           // open connections
	sampleInterval  time.Duration // between two samples
	settleDelay     time.Duration // until buffers are full, or nothing more is done
	responseTimeout time.Duration // for one answer to come: after that it hangs
	restDelay       time.Duration // for the cluster, after a measure that keeps it busy: containerd ends a connection a second after its client
	benchTimeout    time.Duration // for the whole measure, the forwarder's start included
}

func fullEffort() effort {
	return effort{
		bytes: 500e6, rateWindow: 3 * time.Second, samples: 10, bursts: 5, idleConns: 1000,
		sampleInterval: 100 * time.Millisecond, settleDelay: 1500 * time.Millisecond, responseTimeout: 3 * time.Second, restDelay: 1500 * time.Millisecond, benchTimeout: time.Minute,
	}
}

func quickEffort() effort {
	return effort{
		bytes: 40e6, rateWindow: 300 * time.Millisecond, samples: 3, bursts: 1, idleConns: 100,
		sampleInterval: 10 * time.Millisecond, settleDelay: 300 * time.Millisecond, responseTimeout: time.Second, restDelay: 100 * time.Millisecond, benchTimeout: 20 * time.Second,
	}
}

// far is the round trip of the slow way.
const far = 50 * time.Millisecond

// benchmarks returns all of them, in the order of the table.
func benchmarks() []benchmark {
	latency := func(titles ...string) (rows []metric) {
		for _, title := range titles {
			rows = append(rows, metric{title: title, unit: "ms"})
		}
		return rows
	}
	transfers := func(what string) []metric {
		return []metric{{what, "MB/s", true}, {what + ": CPU", "s/GB", false}}
	}
	bySpeaker := func(when string) []string {
		return []string{when + ", server speaks first", when + ", client speaks first"}
	}
	besides := func(what string) []metric { return latency("new connection, "+what, "established connection, "+what) }
	return []benchmark{
		{name: "down/1", metrics: transfers("from a pod, 1 connection"), run: transfer(1, receive)},
		{name: "down/8", metrics: transfers("from a pod, 8 connections"), run: transfer(8, receive)},
		{name: "up/1", metrics: transfers("to a pod, 1 connection"), run: transfer(1, send)},
		{name: "up/8", metrics: transfers("to a pod, 8 connections"), run: transfer(8, send)},
		{name: "connect", metrics: []metric{{"new connections, 16 at once", "1/s", true}}, run: connectRate(16), restAfter: true},
		{name: "http", metrics: []metric{{"HTTP requests, 64 kept connections", "1/s", true}}, run: requestRate(64)},
		{name: "first/near", metrics: latency(slices.Concat(bySpeaker("first byte, warm"), bySpeaker("first byte, slowest of 8 at once"))...), run: firstByteLatency},
		{name: "cold/near/server", metrics: latency(bySpeaker("first byte, cold")[:1]...), run: coldLatency(serverFirst)},
		{name: "cold/near/client", metrics: latency(bySpeaker("first byte, cold")[1:]...), run: coldLatency(clientFirst)},
		{name: "first/far", roundTrip: far, metrics: latency(slices.Concat(bySpeaker("50 ms away: first byte, warm"), bySpeaker("50 ms away: first byte, slowest of 8 at once"))...), run: firstByteLatency},
		{name: "cold/far/server", roundTrip: far, metrics: latency(bySpeaker("50 ms away: first byte, cold")[:1]...), run: coldLatency(serverFirst)},
		{name: "cold/far/client", roundTrip: far, metrics: latency(bySpeaker("50 ms away: first byte, cold")[1:]...), run: coldLatency(clientFirst)},
		{name: "beside/nothing", metrics: besides("undisturbed"), run: latencyDuringStall(noStall)},
		{name: "beside/reader", metrics: besides("beside a stalled reader"), run: latencyDuringStall(stalledReader), restAfter: true},
		{name: "beside/pod", metrics: besides("beside a stalled pod"), run: latencyDuringStall(stalledPod), restAfter: true},
		{name: "memory", metrics: []metric{{"resident memory, nothing open", "MB", false}, {"resident memory, 1,000 open idle connections", "MB", false}}, run: memoryUse, restAfter: true},
	}
}

// selectBenchmarks returns the measures whose name matches.
func selectBenchmarks(only *regexp.Regexp) []benchmark {
	return slices.DeleteFunc(benchmarks(), func(m benchmark) bool { return !only.MatchString(m.name) })
}
