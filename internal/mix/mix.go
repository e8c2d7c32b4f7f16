// Package mix has the command sequences of benchmarks. The benchmarks place them in the command
// queues of this module and of its peers.
package mix

import "github.com/go-vsmmu/vsmmuv3/smmuv3"

// Log2Size is log2 of the number of commands that one write of CMDQ_PROD adds. They fill the
// largest queue.
const Log2Size = 19

// StreamID is the stream of the commands, which has an STE and an endpoint. Behind QEMU's SMMU it
// is the PCI function 00:02.0.
const StreamID smmuv3.StreamID = 0x10

// asid is the address space of the invalidations. It differs from HeldASID, so they do not affect
// the held translations.
const asid smmuv3.ASID = 7

// HeldASID is the address space of the translations that the SMMU holds during a measurement.
const HeldASID smmuv3.ASID = 1

// Mix is a run of commands that is repeated until the queue is full.
type Mix struct {
	Name     string
	Commands []smmuv3.Command // a power of two of them
}

// All lists the mixes. None of them affects a held translation.
var All = []Mix{
	{"SYNC", []smmuv3.Command{smmuv3.NewSync()}},
	{"PREFETCH_CONFIG", []smmuv3.Command{smmuv3.NewPrefetchConfig(StreamID)}},
	{"TLBI_NH_ASID", []smmuv3.Command{smmuv3.NewTLBINHASID(0, asid)}},
	{"TLBI_NH_VA", []smmuv3.Command{page(0x1000)}},
	{"TLBI_NH_VA-32pages", []smmuv3.Command{pages(32, 0, 0x2_0000)}},
	// A host that invalidates aligned powers of two needs five.
	{"TLBI_NH_VA-31pages-unaligned", []smmuv3.Command{pages(31, 0, 0x1000)}},
	// This range needs the largest number of aligned powers of two.
	{"TLBI_NH_VA-widest", []smmuv3.Command{pages(31, 31, 0x1000)}},
	{"CFGI_STE", []smmuv3.Command{smmuv3.NewCfgiSTE(StreamID, true)}},
	{"CFGI_CD", []smmuv3.Command{smmuv3.NewCfgiCD(StreamID, 0, true)}},
	{"TLBI_NH_VA+SYNC", []smmuv3.Command{page(0x1000), smmuv3.NewSync()}},
	{"63xTLBI_NH_VA+SYNC", unmap(63)},
}

// page returns the invalidation of a page and of table descriptors.
func page(va uint64) smmuv3.Command { return smmuv3.NewTLBINHVA(0, asid, va, false) }

// pages returns the invalidation of n * 2^scale pages of 4 KiB.
func pages(n, scale uint, va uint64) smmuv3.Command {
	return page(va).WithRange(smmuv3.Granule4K, n-1, scale, 0)
}

// unmap returns the commands by which a driver without range invalidation unmaps n pages.
func unmap(n uint64) []smmuv3.Command {
	var run []smmuv3.Command
	for i := range n {
		run = append(run, page((i+1)<<12))
	}
	return append(run, smmuv3.NewSync())
}
