package main

import (
	"context"
	"regexp"
	"slices"
	"time"
)

// result is one measured value, or the reason why there is none.
type result struct {
	value float64
	err   error
}

// measured returns a result for each value.
func measured(values ...float64) []result {
	results := make([]result, len(values))
	for i, v := range values {
		results[i].value = v
	}
	return results
}

// benchFunc measures a forwarder that was just started. It returns a result
// for each metric of the benchmark, or a single error that applies to all of
// them. It returns soon after ctx ends and leaves no goroutine or connection
// behind.
type benchFunc func(ctx context.Context, f forwarder, e effort) []result

// metric is a row of the table.
type metric struct {
	title          string
	unit           string
	higherIsBetter bool
}

// benchmark is a benchFunc with the metrics that it measures.
type benchmark struct {
	name      string
	roundTrip time.Duration // added between the forwarder and the API server
	restAfter bool          // the cluster is still busy afterwards
	run       benchFunc
	metrics   []metric
}

// effort is the amount of work of a benchmark.
type effort struct {
	bytes          int64         // to transfer, over all connections
	rateWindow     time.Duration // to count a rate in
	samples        int           // of a latency
	bursts         int           // of simultaneous connections
	idleConns      int           // open idle connections
	sampleInterval time.Duration // between two samples
	settleDelay    time.Duration // until buffers are full or the forwarder is idle
	hangTimeout    time.Duration // for one response; after that the forwarder hangs
	restDelay      time.Duration // after a benchmark that keeps the cluster busy: containerd closes a connection one second after its client
	benchTimeout   time.Duration // for one benchmark, including the forwarder's start
}

func fullEffort() effort {
	return effort{
		bytes: 500e6, rateWindow: 3 * time.Second, samples: 10, bursts: 5, idleConns: 1000,
		sampleInterval: 100 * time.Millisecond, settleDelay: 1500 * time.Millisecond, hangTimeout: 3 * time.Second, restDelay: 1500 * time.Millisecond, benchTimeout: time.Minute,
	}
}

func quickEffort() effort {
	return effort{
		bytes: 40e6, rateWindow: 300 * time.Millisecond, samples: 3, bursts: 1, idleConns: 100,
		sampleInterval: 10 * time.Millisecond, settleDelay: 300 * time.Millisecond, hangTimeout: time.Second, restDelay: 100 * time.Millisecond, benchTimeout: 20 * time.Second,
	}
}

// farRoundTrip is the round trip to the API server that the proxy adds.
const farRoundTrip = 50 * time.Millisecond

// benchmarks returns all benchmarks in the order of the table.
func benchmarks() []benchmark {
	latency := func(titles ...string) (metrics []metric) {
		for _, title := range titles {
			metrics = append(metrics, metric{title: title, unit: "ms"})
		}
		return metrics
	}
	transfers := func(title string) []metric {
		return []metric{{title, "MB/s", true}, {title + ": CPU", "s/GB", false}}
	}
	bySpeaker := func(title string) []string {
		return []string{title + ", server speaks first", title + ", client speaks first"}
	}
	duringStall := func(condition string) []metric {
		return latency("new connection, "+condition, "established connection, "+condition)
	}
	return []benchmark{
		{name: "down/1", metrics: transfers("from a pod, 1 connection"), run: transfer(1, receive)},
		{name: "down/8", metrics: transfers("from a pod, 8 connections"), run: transfer(8, receive)},
		{name: "up/1", metrics: transfers("to a pod, 1 connection"), run: transfer(1, send)},
		{name: "up/8", metrics: transfers("to a pod, 8 connections"), run: transfer(8, send)},
		{name: "connect", metrics: []metric{{"new connections, 16 at once", "1/s", true}}, run: connectRate(16), restAfter: true},
		{name: "http", metrics: []metric{{"HTTP requests, 64 keep-alive connections", "1/s", true}}, run: requestRate(64)},
		{name: "first/near", metrics: latency(slices.Concat(bySpeaker("first byte, warm"), bySpeaker("first byte, slowest of 8 at once"))...), run: firstByteLatency},
		{name: "cold/near/server", metrics: latency(bySpeaker("first byte, cold")[:1]...), run: coldLatency(serverFirst)},
		{name: "cold/near/client", metrics: latency(bySpeaker("first byte, cold")[1:]...), run: coldLatency(clientFirst)},
		{name: "first/far", roundTrip: farRoundTrip, metrics: latency(slices.Concat(bySpeaker("50 ms away: first byte, warm"), bySpeaker("50 ms away: first byte, slowest of 8 at once"))...), run: firstByteLatency},
		{name: "cold/far/server", roundTrip: farRoundTrip, metrics: latency(bySpeaker("50 ms away: first byte, cold")[:1]...), run: coldLatency(serverFirst)},
		{name: "cold/far/client", roundTrip: farRoundTrip, metrics: latency(bySpeaker("50 ms away: first byte, cold")[1:]...), run: coldLatency(clientFirst)},
		{name: "stall/none", metrics: duringStall("undisturbed"), run: latencyDuringStall(noStall)},
		{name: "stall/reader", metrics: duringStall("next to a stalled reader"), run: latencyDuringStall(stalledReader), restAfter: true},
		{name: "stall/pod", metrics: duringStall("next to a stalled pod"), run: latencyDuringStall(stalledPod), restAfter: true},
		{name: "memory", metrics: []metric{{"resident memory, no connections", "MB", false}, {"resident memory, 1,000 open idle connections", "MB", false}}, run: memoryUse, restAfter: true},
	}
}

// selectBenchmarks returns the benchmarks whose name matches.
func selectBenchmarks(only *regexp.Regexp) []benchmark {
	return slices.DeleteFunc(benchmarks(), func(m benchmark) bool { return !only.MatchString(m.name) })
}
