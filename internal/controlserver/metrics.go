package controlserver

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kubeshore/kubeshore/pkg/control"
	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// Metrics collects the metrics of a running kubeshore for Prometheus. It implements fwd.Meter.
type Metrics struct {
	registry  *prometheus.Registry
	dial      *prometheus.HistogramVec
	firstByte prometheus.Histogram
	held      prometheus.Histogram
	retries   prometheus.Counter
	faults    *prometheus.CounterVec
}

var _ fwd.Meter = (*Metrics)(nil)

// NewMetrics returns empty metrics. It calls status for each scrape.
func NewMetrics(version string, status func() control.Status) *Metrics {
	seconds := prometheus.ExponentialBuckets(0.001, 2, 15) // to 16 s
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		dial: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kubeshore_dial_seconds", Help: "Time to open a stream to a pod, by result.", Buckets: seconds,
		}, []string{"result"}),
		firstByte: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubeshore_first_byte_seconds", Help: "Time from accepting a connection to the first byte from its pod.", Buckets: seconds,
		}),
		held: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubeshore_hold_seconds", Help: "Time that a connection waited for a ready pod, if it had to wait.", Buckets: seconds,
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{Name: "kubeshore_retries_total", Help: "Attempts to connect to a pod after the first one of a connection."}),
		faults:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubeshore_faults_total", Help: "Connections that were reset, by reason."}, []string{"kind"}),
	}
	for _, kind := range fwd.FailureKinds() {
		m.faults.WithLabelValues(string(kind))
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kubeshore_build_info", Help: "Always 1. The label has the version of kubeshore.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(build, m.dial, m.firstByte, m.held, m.retries, m.faults, &statusMetrics{status},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// maxScrapes limits the number of concurrent requests for metrics.
const maxScrapes = 8

// Handler returns the handler that serves the metrics. A metric that can't be collected
// doesn't affect the others.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, ErrorHandling: promhttp.ContinueOnError})
}

// Dialed implements fwd.Meter.
func (m *Metrics) Dialed(took time.Duration, err error) {
	result := "done"
	if err != nil {
		result = "failed"
	}
	m.dial.WithLabelValues(result).Observe(took.Seconds())
}

// FirstByte implements fwd.Meter.
func (m *Metrics) FirstByte(took time.Duration) { m.firstByte.Observe(took.Seconds()) }

// Retried implements fwd.Meter.
func (m *Metrics) Retried() { m.retries.Inc() }

// Held implements fwd.Meter.
func (m *Metrics) Held(took time.Duration) { m.held.Observe(took.Seconds()) }

// Failed implements fwd.Meter.
func (m *Metrics) Failed(kind fwd.FailureKind) { m.faults.WithLabelValues(string(kind)).Inc() }

// The metrics that are computed from the status.
var (
	serviceLabels = []string{"context", "namespace", "service", "pod"}

	servicesDesc    = prometheus.NewDesc("kubeshore_services", "Services, and pods with their own address, by state.", []string{"state"}, nil)
	upstreamDesc    = prometheus.NewDesc("kubeshore_upstream_connections", "Open connections to API servers that carry port-forward streams.", nil, nil)
	refusedDesc     = prometheus.NewDesc("kubeshore_refused_connections_total", "Connections that were reset because of their user, or because they came from another machine.", nil, nil)
	hostsWritesDesc = prometheus.NewDesc("kubeshore_hosts_writes_total", "Number of writes of the hosts file.", nil, nil)
	endpointsDesc   = prometheus.NewDesc("kubeshore_endpoints", "Pods of a service, by readiness.", append(slices.Clip(serviceLabels), "ready"), nil)
	portsDesc       = prometheus.NewDesc("kubeshore_ports", "Ports of a service, by whether they accept connections.", append(slices.Clip(serviceLabels), "accepted"), nil)
	openDesc        = prometheus.NewDesc("kubeshore_connections_open", "Open connections to a service.", serviceLabels, nil)
	totalDesc       = prometheus.NewDesc("kubeshore_connections_total", "Connections to a service so far.", serviceLabels, nil)
	bytesDesc       = prometheus.NewDesc("kubeshore_bytes_total", "Bytes transferred by a service, by direction: up (to its pods) or down.", append(slices.Clip(serviceLabels), "direction"), nil)
)

// statusMetrics is a prometheus.Collector of the metrics that are computed from the status.
type statusMetrics struct{ status func() control.Status }

// Describe implements prometheus.Collector.
func (c *statusMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{servicesDesc, upstreamDesc, refusedDesc, hostsWritesDesc, endpointsDesc, portsDesc, openDesc, totalDesc, bytesDesc} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (c *statusMetrics) Collect(to chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value int, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labelValues(labels)...)
	}
	counter := func(desc *prometheus.Desc, value uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labelValues(labels)...)
	}
	status := c.status()
	states := make(map[control.State]int)
	for _, state := range control.States() {
		states[state] = 0
	}
	for _, s := range status.Services {
		states[s.State]++
		accepted := 0
		for _, p := range s.Ports {
			if p.Problem == "" {
				accepted++
			}
		}
		labels := []string{s.Context, s.Namespace, s.Service, s.Pod}
		gauge(endpointsDesc, s.ReadyPods, append(slices.Clip(labels), "true")...)
		gauge(endpointsDesc, s.Pods-s.ReadyPods, append(slices.Clip(labels), "false")...)
		gauge(portsDesc, accepted, append(slices.Clip(labels), "true")...)
		gauge(portsDesc, len(s.Ports)-accepted, append(slices.Clip(labels), "false")...)
		gauge(openDesc, s.Connections, labels...)
		counter(totalDesc, s.TotalConnections, labels...)
		counter(bytesDesc, s.BytesUp, append(slices.Clip(labels), "up")...)
		counter(bytesDesc, s.BytesDown, append(slices.Clip(labels), "down")...)
	}
	for state, n := range states {
		gauge(servicesDesc, n, string(state))
	}
	gauge(upstreamDesc, status.UpstreamConnections)
	counter(refusedDesc, status.RefusedConnections)
	counter(hostsWritesDesc, status.HostsWrites)
}

// labelValues returns texts as values of labels, which have to be UTF-8: other bytes
// become \xNN. A context's name may be any bytes.
func labelValues(texts []string) []string {
	values := make([]string, len(texts))
	for i, text := range texts {
		var b strings.Builder
		for len(text) > 0 {
			r, size := utf8.DecodeRuneInString(text)
			if r == utf8.RuneError && size == 1 {
				fmt.Fprintf(&b, `\x%02x`, text[0])
			} else {
				b.WriteString(text[:size])
			}
			text = text[size:]
		}
		values[i] = b.String()
	}
	return values
}
