// Package mix has the runs of commands that command queues are measured by: this module's, and those of its peers.
package mix

import "github.com/go-vsmmu/vsmmuv3/smmuv3"

// Log2Size is log2 of the number of commands that one write of CMDQ_PROD adds: as many as a queue can hold.
const Log2Size = 19

// StreamID is the stream that commands name, which has an STE and an endpoint. Behind QEMU's SMMU it is the PCI
// function 00:02.0.
const StreamID smmuv3.StreamID = 0x10

// asid is the address space that is invalidated. It is not HeldASID, or there would be nothing left to look through.
const asid = 7

// HeldASID is the address space of the translations that an SMMU holds meanwhile.
const HeldASID smmuv3.ASID = 1

// Mix is a run of commands that is repeated until the queue is full.
type Mix struct {
	Name     string
	Commands []smmuv3.Command // their number is a power of two
}

// All are the mixes. None of them has an effect on a translation that is held.
var All = []Mix{
	{"SYNC", []smmuv3.Command{sync}},
	{"PREFETCH_CONFIG", []smmuv3.Command{onStream(smmuv3.OpPrefetchConfig, 0)}},
	{"TLBI_NH_ASID", []smmuv3.Command{onASID(smmuv3.OpTLBINHASID, 0)}},
	{"TLBI_NH_VA", []smmuv3.Command{onASID(smmuv3.OpTLBINHVA, 0x1000)}},
	{"TLBI_NH_VA-32pages", []smmuv3.Command{onPages(32, 0, 0x2_0000)}},
	// What has to be cut into aligned powers of two falls into five.
	{"TLBI_NH_VA-31pages-unaligned", []smmuv3.Command{onPages(31, 0, 0x1000)}},
	// And the range that falls into the most of them.
	{"TLBI_NH_VA-widest", []smmuv3.Command{onPages(31, 31, 0x1000)}},
	{"CFGI_STE", []smmuv3.Command{onStream(smmuv3.OpCfgiSTE, leaf)}},
	{"CFGI_CD", []smmuv3.Command{onStream(smmuv3.OpCfgiCD, leaf)}},
	{"TLBI_NH_VA+SYNC", []smmuv3.Command{onASID(smmuv3.OpTLBINHVA, 0x1000), sync}},
	{"63xTLBI_NH_VA+SYNC", unmap(63)},
}

// Fields of commands (Chapter 4).
const leaf = 1 // dw1 bit 0

var sync = smmuv3.Command{uint64(smmuv3.OpSync)}

func onStream(op smmuv3.Opcode, dw1 uint64) smmuv3.Command {
	return smmuv3.Command{uint64(op) | uint64(StreamID)<<32, dw1}
}

func onASID(op smmuv3.Opcode, va uint64) smmuv3.Command {
	return smmuv3.Command{uint64(op) | asid<<48, va}
}

// onPages invalidates n * 2^scale pages of 4 KiB (§4.4.1.1): NUM is dw0 [16:12], SCALE dw0 [24:20], TG dw1 [11:10].
func onPages(n, scale uint64, va uint64) smmuv3.Command {
	const tg4K = 1
	c := onASID(smmuv3.OpTLBINHVA, va|tg4K<<10)
	c[0] |= (n-1)<<12 | scale<<20
	return c
}

// unmap is what a driver without range invalidation gives the queue to unmap n pages.
func unmap(n uint64) []smmuv3.Command {
	var run []smmuv3.Command
	for i := range n {
		run = append(run, onASID(smmuv3.OpTLBINHVA, (i+1)<<12))
	}
	return append(run, sync)
}
