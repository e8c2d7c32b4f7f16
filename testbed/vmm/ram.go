//go:build linux && (amd64 || arm64)

package vmm

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ram is the guest's memory: one mapping, at guest-physical address RAMBase.
type ram []byte

func newRAM(size uint64) (ram, error) {
	if size == 0 || size%align2M != 0 || size > maxMem {
		return nil, fmt.Errorf(
			"%w: %#x bytes: not a multiple of 2 MiB up to %d GiB",
			ErrMemory,
			size,
			uint64(maxMem)>>30,
		)
	}
	mem, err := unix.Mmap(
		-1,
		0,
		int(size),
		unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE,
	)
	if err != nil {
		return nil, fmt.Errorf("%w: %d MiB: mmap: %w", ErrMemory, size>>20, err)
	}
	return mem, nil
}

func (r ram) close() error { return unix.Munmap(r) }

// at returns the memory of s, which plan has placed inside r.
func (r ram) at(s span) []byte { return r[s.start-RAMBase:][:s.size] }
