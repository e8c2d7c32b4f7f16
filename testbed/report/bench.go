package report

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
)

// Bench compares the speed of a guest's disk: through the virtual SMMU in the test VMM, and through
// QEMU's SMMU in QEMU.
type Bench struct {
	// Error says why the comparison is missing or incomplete; empty if it is complete.
	Error    string             `json:"error,omitempty"`
	LastSeen *progress.LastSeen `json:"last_seen,omitempty"` // as in a Report
	// Ratio is our bytes per second over all reads divided by the peer's: above 1 ours is faster.
	Ratio float64 `json:"ratio"`
	Peer  string  `json:"peer"`
	Reads []Read  `json:"reads"`

	Kernel  string           `json:"kernel"`
	IOMMU   string           `json:"iommu_type"` // the disk's domain type in the guest's kernel
	Accel   string           `json:"accel"`      // as in a Report
	Phases  []progress.Phase `json:"phases"`
	Seconds float64          `json:"seconds"`
}

// Read is the best of several sequential reads that bypass the guest's page cache.
type Read struct {
	Name               string  `json:"name"`
	BlockSize          int     `json:"block_size"` // bytes
	Bytes              int64   `json:"bytes"`
	BytesPerSecond     float64 `json:"bytes_per_second"`
	PeerBytesPerSecond float64 `json:"peer_bytes_per_second"`
	Ratio              float64 `json:"ratio"`
}

// Compare fills in the best results of our guests and the peer's. It returns an error if they
// cannot be compared.
func (b *Bench) Compare(ours, peers []guest.BenchResult) error {
	our, err := best("our VMM", ours)
	if err != nil {
		return err
	}
	peer, err := best("the peer", peers)
	if err != nil {
		return err
	}
	if len(our.Reads) == 0 || len(our.Reads) != len(peer.Reads) {
		return errReads
	}
	b.Kernel, b.IOMMU = our.Release, our.IOMMU
	var took, peerTook float64
	for i, r := range our.Reads {
		p := peer.Reads[i]
		if r.BlockSize != p.BlockSize || r.Bytes != p.Bytes || r.Seconds <= 0 || p.Seconds <= 0 {
			return errReads
		}
		took, peerTook = took+r.Seconds, peerTook+p.Seconds
		b.Reads = append(b.Reads, Read{
			Name:      fmt.Sprintf("read/%dKiB", r.BlockSize>>10),
			BlockSize: r.BlockSize, Bytes: r.Bytes,
			BytesPerSecond: float64(r.Bytes) / r.Seconds, PeerBytesPerSecond: float64(r.Bytes) / p.Seconds,
			Ratio: p.Seconds / r.Seconds,
		})
	}
	b.Ratio = peerTook / took
	return nil
}

var errReads = errors.New("the guests made different reads")

// best merges the results of one VMM's guests into one result with the best times.
func best(who string, results []guest.BenchResult) (b guest.BenchResult, err error) {
	for i, r := range results {
		switch {
		case r.Error != "":
			return b, fmt.Errorf("the guest of %s failed: %s", who, r.Error)
		case r.IOMMU != guest.DomainStrict:
			return b, fmt.Errorf("the disk of %s is in a domain %q, not %q", who, r.IOMMU, guest.DomainStrict)
		case i == 0:
			b = r
			b.Reads = slices.Clone(r.Reads)
			continue
		case len(r.Reads) != len(b.Reads):
			return b, errReads
		}
		for j := range b.Reads {
			b.Reads[j].Seconds = min(b.Reads[j].Seconds, r.Reads[j].Seconds)
		}
	}
	return b, nil
}

// Summary writes a text form of the comparison.
func (b *Bench) Summary(w io.Writer) error {
	if b.Error != "" {
		var text strings.Builder
		WriteError(&text, b.Error, b.LastSeen)
		_, err := io.WriteString(w, cli.Printable(text.String()))
		return err
	}
	fmt.Fprintf(w, "\nLinux %s reads its disk through the SMMU, domain type %s; peer: %s\n\n",
		cli.Printable(b.Kernel), cli.Printable(b.IOMMU), cli.Printable(b.Peer))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\tbytes/s\tQEMU\tratio\t\n")
	for _, r := range b.Reads {
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.2f\t\n", r.Name, r.BytesPerSecond, r.PeerBytesPerSecond, r.Ratio)
	}
	fmt.Fprintf(t, "all\t\t\t%.2f\t\n", b.Ratio)
	return t.Flush()
}
