// Package smmuprom is a Prometheus collector of an SMMU's counts. It is a module of its own, so that
// the library does not require Prometheus's client. Copy it, or require it.
package smmuprom

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	vsmmuv3 "github.com/go-vsmmu/vsmmuv3"
)

// Collector collects the counts of one SMMU. Each collection calls Stats once.
type Collector struct{ stats func() vsmmuv3.Stats }

// New returns a collector of smmu.Stats. A VMM that replaces its SMMU, as a restore does, passes a
// function that finds the current one.
func New(stats func() vsmmuv3.Stats) *Collector { return &Collector{stats} }

// desc describes a metric.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("vsmmu_"+name, help, labels, nil)
}

var (
	commands     = desc("commands_total", "Commands executed, or found illegal.", "command")
	errors       = desc("command_errors_total", "Commands that stopped the queue.", "error")
	events       = desc("events_total", "Events by outcome.", "outcome")
	requests     = desc("page_requests_total", "Page requests by outcome.", "outcome")
	refused      = desc("refused_stages_total", "Stages that a host refused.")
	failures     = desc("service_failures_total", "Entries of Service Failure Mode.")
	calls        = desc("host_calls_total", "Calls of a host.", "host", "call")
	callErrors   = desc("host_call_errors_total", "Failed calls of a host.", "host", "call")
	outOfSync    = desc("host_out_of_sync", "1 while a host may hold stale translations.", "host")
	streams      = desc("streams", "Attached streams by what they do.", "disposition")
	transactions = desc("dma_transactions_total", "Transactions of an endpoint.", "stream")
	bytes        = desc("dma_bytes_total", "Bytes of an endpoint.", "stream", "direction")
	misses       = desc("dma_walks_total", "Walks of the guest's tables.", "stream")
	faults       = desc("dma_faults_total", "Failed accesses of an endpoint.", "stream")
)

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	emit := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		emit(d, prometheus.CounterValue, float64(n), labels...)
	}
	for k, n := range s.Device.Commands {
		count(commands, n, k.String())
	}
	for k, n := range s.Device.CommandErrors {
		count(errors, n, k.String())
	}
	for k, n := range s.Device.Events {
		count(events, n, k.String())
	}
	for k, n := range s.Device.PageRequests {
		count(requests, n, k.String())
	}
	count(refused, s.Device.Refused)
	count(failures, s.Device.ServiceFailures)
	for i, h := range s.Device.Hosts {
		name := fmt.Sprintf("%d %s", i, h.Type)
		for k, n := range h.Calls {
			count(calls, n, name, k.String())
			count(callErrors, h.Errors[k], name, k.String())
		}
		stale := 0.0
		if h.OutOfSync {
			stale = 1
		}
		emit(outOfSync, prometheus.GaugeValue, stale, name)
	}
	does := map[string]int{}
	for _, st := range s.Device.Streams {
		does[st.Stage.Disposition.String()]++
	}
	for k, n := range does {
		emit(streams, prometheus.GaugeValue, float64(n), k)
	}
	for sid, e := range s.Host.Endpoints {
		count(transactions, e.Transactions, sid.String())
		count(bytes, e.BytesRead, sid.String(), "read")
		count(bytes, e.BytesWritten, sid.String(), "write")
		count(misses, e.Misses, sid.String())
		count(faults, e.Faults, sid.String())
	}
}
