package soft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

// move copies between p and guest memory, up to the shorter of both, and returns the number of
// bytes.
func move(p, mem []byte, write bool) int {
	n := min(len(p), len(mem))
	if write {
		guestmem.Store(mem[:n], p[:n])
	} else {
		guestmem.Load(p[:n], mem[:n])
	}
	return n
}

// moveUnmapped copies all of p to or from memory that has no slices.
func (b *binding) moveUnmapped(p []byte, at guestmem.GPA, write bool) (int, *Fault) {
	do := b.host.mem.ReadAt
	if write {
		do = b.host.mem.WriteAt
	}
	if err := do(p, at); err != nil {
		return b.outside(p, at, write, err)
	}
	return len(p), nil
}

// outside completes a transaction for which memory returned an error. A write of four bytes may
// be an MSI.
func (b *binding) outside(p []byte, at guestmem.GPA, write bool, err error) (int, *Fault) {
	if write && len(p) == 4 && at%4 == 0 && b.host.msi != nil && errors.Is(err, guestmem.ErrUnmapped) {
		if err = b.host.msi(b.sid, at, binary.LittleEndian.Uint32(p)); err == nil {
			return len(p), nil
		}
	}
	return 0, b.noMemory(at, err)
}

func (b *binding) noMemory(at guestmem.GPA, err error) *Fault {
	return b.fault(fmt.Errorf("translated to %v: %w", at, err))
}

// words holds buffers for reads of memory without slices. Otherwise each read would allocate one,
// since a buffer passed to an interface escapes.
var words = sync.Pool{New: func() any { return new([8]byte) }}

// load reads an aligned word of guest memory. The caller is in a section.
func (h *Host) load(at uint64) (uint64, error) {
	if h.mapper != nil {
		mem, err := h.mapper.Slice(guestmem.GPA(at), 8, false)
		if err != nil {
			return 0, err
		}
		return guestmem.LoadWord(mem, 8), nil
	}
	p := words.Get().(*[8]byte)
	defer words.Put(p)
	err := h.mem.ReadAt(p[:], guestmem.GPA(at))
	return binary.LittleEndian.Uint64(p[:]), err
}
