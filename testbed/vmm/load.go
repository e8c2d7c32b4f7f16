package vmm

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/arm64image"
)

// ErrMemory matches New's error if the guest's memory is too small for the kernel, the initrd and
// the device tree, or if its size is invalid.
var ErrMemory = errors.New("vmm: new machine: guest memory")

// boot holds the guest-physical ranges of the loaded files.
type boot struct {
	kernel, initrd, tree span
}

const (
	align2M = 2 << 20
	// maxTree is the greatest size of a device tree (booting.rst, section 2). plan always reserves
	// it.
	maxTree = 2 << 20
)

// plan places the kernel at the start of memory, where every kernel can run, followed by the device
// tree and the initrd.
func plan(mem uint64, kernel *arm64image.Image, initrd uint64) (boot, error) {
	var b boot
	b.kernel = span{RAMBase + kernel.TextOffset, kernel.Size}
	b.tree = span{alignUp(b.kernel.end()), maxTree}
	b.initrd = span{b.tree.end(), initrd}
	if need := b.initrd.end() - RAMBase; need > mem {
		return boot{}, fmt.Errorf(
			"%w: %d MiB are too small: kernel, initrd and device tree take %d MiB",
			ErrMemory,
			mem>>20,
			need>>20+1,
		)
	}
	return b, nil
}

func alignUp(addr uint64) uint64 { return (addr + align2M - 1) &^ (align2M - 1) }
