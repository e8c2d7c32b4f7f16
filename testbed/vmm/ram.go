//go:build linux && (amd64 || arm64)

package vmm

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ram is the guest's memory: one mapping, at RAMBase for the guest.
type ram []byte

func newRAM(size uint64) (ram, error) {
	if size == 0 || size%align2M != 0 || size > maxMem {
		return nil, fmt.Errorf("%w of %#x bytes: not a multiple of 2 MiB up to %d GiB", ErrMemory, size, uint64(maxMem)>>30)
	}
	mem, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("%w of %d MiB: mmap: %w", ErrMemory, size>>20, err)
	}
	return mem, nil
}

func (r ram) close() error { return unix.Munmap(r) }

// at is the memory of s, which plan has placed inside.
func (r ram) at(s span) []byte { return r[s.start-RAMBase:][:s.size] }

// store32 writes one aligned word as hardware does, after all that was written before it.
func (r ram) store32(addr uint64, value uint32) error {
	off := addr - RAMBase
	if addr%4 != 0 || addr < RAMBase || off >= uint64(len(r)) {
		return fmt.Errorf("vmm: write of a word to %#x: no memory", addr)
	}
	var data [4]byte
	binary.LittleEndian.PutUint32(data[:], value)
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&r[off])), binary.NativeEndian.Uint32(data[:]))
	return nil
}
