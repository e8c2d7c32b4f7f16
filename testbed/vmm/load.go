package vmm

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/arm64image"
)

// ErrMemory is matched by New's error when the guest's memory is too small for what must go into it, or not of a size that
// a machine can have.
var ErrMemory = errors.New("vmm: guest memory")

// boot is what goes where in the guest's memory, by guest-physical address.
type boot struct {
	kernel, initrd, tree span
}

const (
	align2M = 2 << 20
	// maxTree is the most that arm64 Linux maps of a device tree (booting.rst, section 2). The room is always left.
	maxTree = 2 << 20
)

// plan places the kernel at the start of memory, where all kernels accept to be, and what else it needs behind it.
func plan(mem uint64, kernel *arm64image.Image, initrd uint64) (boot, error) {
	var b boot
	b.kernel = span{RAMBase + kernel.TextOffset, kernel.Size}
	b.tree = span{alignUp(b.kernel.end()), maxTree}
	b.initrd = span{b.tree.end(), initrd}
	if need := b.initrd.end() - RAMBase; need > mem {
		return boot{}, fmt.Errorf("%w of %d MiB is too small: kernel, initrd and device tree alone take %d MiB", ErrMemory, mem>>20, need>>20+1)
	}
	return b, nil
}

func alignUp(addr uint64) uint64 { return (addr + align2M - 1) &^ (align2M - 1) }
