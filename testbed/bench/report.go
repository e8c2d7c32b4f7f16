package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// entry is a line of the report. The pointers are nil without a peer.
type entry struct {
	Name        string   `json:"name"`
	NsPerOp     float64  `json:"ns_per_op"`
	AllocsPerOp uint64   `json:"allocs_per_op"`
	Peer        *string  `json:"peer"`
	PeerNsPerOp *float64 `json:"peer_ns_per_op"`
	Ratio       *float64 `json:"ratio"` // the peer's time divided by ours

	Others map[string]float64 `json:"others,omitempty"` // the benchmark's other figures, by unit
}

// peerName is the peer's name in the report.
const peerName = "QEMU smmuv3"

// join adds the peer's times to our results of the same names.
func join(results []result, peers map[string]float64) []entry {
	entries := []entry{} // without results, [] in JSON
	for _, r := range results {
		e := entry{Name: r.name, NsPerOp: r.ns, AllocsPerOp: r.allocs, Others: r.others}
		if ns, ok := peers[r.name]; ok && r.ns > 0 {
			name, ratio := peerName, ns/r.ns
			e.Peer, e.PeerNsPerOp, e.Ratio = &name, &ns, &ratio
		}
		entries = append(entries, e)
	}
	return entries
}

// table writes the report as text.
func table(w io.Writer, entries []entry) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\nns/op\tallocs/op\t%s\tratio\t\t\n", peerName)
	for _, e := range entries {
		peer, ratio := "-", "-"
		if e.Peer != nil {
			peer, ratio = fmt.Sprintf("%.1f", *e.PeerNsPerOp), fmt.Sprintf("%.2f", *e.Ratio)
		}
		// The names come last without a tab, which aligns them to the left.
		name := e.Name
		for _, unit := range slices.Sorted(maps.Keys(e.Others)) {
			name += fmt.Sprintf("  %.4g %s", e.Others[unit], unit)
		}
		fmt.Fprintf(t, "%.1f\t%d\t%s\t%s\t\t%s\n", e.NsPerOp, e.AllocsPerOp, peer, ratio, name)
	}
	return t.Flush()
}
