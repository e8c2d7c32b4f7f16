package vmm

import (
	"cmp"
	"fmt"
	"slices"
)

// MMIODevice is a register file. size is 1, 2, 4 or 8, and off is any offset into it.
type MMIODevice interface {
	Load(off uint64, size int) uint64
	Store(off uint64, size int, value uint64)
}

// bus maps guest-physical addresses to devices. It does not change while the machine runs.
type bus []region

type region struct {
	base, size uint64
	device     MMIODevice
}

// add adds a device at [base, base+size).
func (b *bus) add(base, size uint64, device MMIODevice) error {
	at, _ := b.search(base)
	for _, i := range []int{at - 1, at} {
		if i < 0 || i >= len(*b) {
			continue
		}
		if r := (*b)[i]; base < r.base+r.size && r.base < base+size {
			return fmt.Errorf("vmm: add device: devices at %#x and %#x overlap", r.base, base)
		}
	}
	*b = slices.Insert(*b, at, region{base, size, device})
	return nil
}

// search returns the index of the first region at or above base, and whether it is at base.
func (b *bus) search(base uint64) (int, bool) {
	return slices.BinarySearchFunc(*b, base, func(r region, base uint64) int { return cmp.Compare(r.base, base) })
}

// find returns the device that has all of [addr, addr+size), and the offset of addr. It returns nil
// if there is none.
func (b *bus) find(addr uint64, size int) (MMIODevice, uint64) {
	at, exact := b.search(addr)
	if !exact {
		at--
	}
	if at < 0 {
		return nil, 0
	}
	r := (*b)[at]
	off := addr - r.base
	if off >= r.size || uint64(size) > r.size-off {
		return nil, 0
	}
	return r.device, off
}

// load reads from a device. It returns 0 where there is none.
func (b *bus) load(addr uint64, size int) uint64 {
	if device, off := b.find(addr, size); device != nil {
		return device.Load(off, size)
	}
	return 0
}

// store writes to a device. It has no effect where there is none.
func (b *bus) store(addr uint64, size int, value uint64) {
	if device, off := b.find(addr, size); device != nil {
		device.Store(off, size, value)
	}
}
