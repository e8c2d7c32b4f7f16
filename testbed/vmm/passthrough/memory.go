//go:build linux && (amd64 || arm64)

package passthrough

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

// memory is the memory behind a base address register.
type memory struct {
	areas   []area
	claimed bool
	at      uint64 // the claimed address
}

// area is a part of a memory that the guest accesses directly.
type area struct {
	off  uint64
	mem  []byte
	undo func() error // unmaps it from the guest; nil if it is not mapped
}

// mapBARs maps the areas of all registers: whole pages without the MSI-X table and the pending
// bits.
func (d *Device) mapBARs() error {
	page := uint64(os.Getpagesize())
	for bar := range d.memory {
		size := d.bars.Size(bar)
		if size == 0 || size%page != 0 || !d.phys.CanMap(bar) {
			continue
		}
		for _, free := range without(size, page, d.intr.msix.in(bar)) {
			mem, err := d.phys.Map(bar, free.off, free.size)
			if err != nil {
				return fmt.Errorf("passthrough: new device: %w", err)
			}
			d.memory[bar].areas = append(d.memory[bar].areas, area{off: free.off, mem: mem})
		}
	}
	return nil
}

func (d *Device) unmapBARs() (err error) {
	for bar := range d.memory {
		m := &d.memory[bar]
		m.areas = slices.DeleteFunc(m.areas, func(a area) bool {
			// Memory that the guest still accesses stays mapped: its addresses must not be reused.
			if stuck := a.withdraw(); stuck != nil {
				err = errors.Join(err, stuck)
				return false
			}
			err = errors.Join(err, d.phys.Unmap(a.mem))
			return true
		})
	}
	return err
}

// withdraw unmaps the area from the guest. After an error it is still mapped, and withdraw can be
// called again.
func (a *area) withdraw() error {
	if a.undo == nil {
		return nil
	}
	if err := a.undo(); err != nil {
		return err
	}
	a.undo = nil
	return nil
}

// span is a part of a region.
type span struct{ off, size uint64 }

func (s span) end() uint64 { return s.off + s.size }

// contains reports whether all of size bytes at off are in s, and meets whether any are.
func (s span) contains(off uint64, size int) bool {
	return off >= s.off && off+uint64(size) <= s.end()
}

func (s span) meets(off uint64, size int) bool { return off < s.end() && s.off < off+uint64(size) }

// without returns the parts of [0, size) outside of the pages of spans, which are in ascending
// order.
func without(size, page uint64, spans []span) (rest []span) {
	at := uint64(0)
	for _, s := range spans {
		if from := s.off &^ (page - 1); from > at {
			rest = append(rest, span{at, from - at})
		}
		at = max(at, (s.end()+page-1)&^(page-1))
	}
	if at < size {
		rest = append(rest, span{at, size - at})
	}
	return rest
}

// Decode implements pci.Function. It maps the memories at the addresses of the base address
// registers, if the command register enables memory accesses.
func (d *Device) Decode() {
	if d.space.command&pci.CommandMemory == 0 {
		return // already withdrawn
	}
	for bar := range d.memory {
		if m := &d.memory[bar]; m.claimed && m.at != d.bars.Base(bar) {
			d.withdrawBAR(bar)
		}
	}
	for bar := range d.memory {
		if size := d.bars.Size(bar); size != 0 && !d.memory[bar].claimed {
			d.place(bar, d.bars.Base(bar), size)
		}
	}
}

func (d *Device) place(bar int, base, size uint64) {
	if !d.slot.Claim(bar, base, size) {
		return
	}
	m := &d.memory[bar]
	m.claimed, m.at = true, base
	for i := range m.areas {
		a := &m.areas[i]
		if a.undo != nil {
			continue // withdraw failed
		}
		var err error
		// If this fails, the VMM executes each access.
		if a.undo, err = d.machine.MapMemory(base+a.off, a.mem); err != nil {
			d.complain("map memory; the VMM executes each access", err)
		}
	}
}

// withdraw unmaps all memory from the guest.
func (d *Device) withdraw() {
	for bar := range d.memory {
		d.withdrawBAR(bar)
	}
}

func (d *Device) withdrawBAR(bar int) {
	m := &d.memory[bar]
	if !m.claimed {
		return
	}
	m.claimed = false
	d.slot.Release(bar)
	for i := range m.areas {
		if err := m.areas[i].withdraw(); err != nil {
			d.complain("unmap memory", err)
		}
	}
}

// LoadMemory implements pci.Function.
func (d *Device) LoadMemory(bar int, off uint64, size int) uint64 {
	if v, ok := d.intr.msix.load(bar, off, size); ok {
		return v
	}
	var p [8]byte
	if err := d.phys.ReadRegion(bar, p[:size], off); err != nil {
		return ^uint64(0) >> (64 - 8*size)
	}
	return binary.LittleEndian.Uint64(p[:])
}

// StoreMemory implements pci.Function.
func (d *Device) StoreMemory(bar int, off uint64, size int, value uint64) func() {
	if vector, ok := d.intr.msix.store(bar, off, size, value); ok {
		if vector >= 0 {
			d.updateVector(vector)
		}
		return nil
	}
	var p [8]byte
	binary.LittleEndian.PutUint64(p[:], value)
	if err := d.phys.WriteRegion(bar, p[:size], off); err != nil {
		d.complain("store to memory", err)
	}
	return nil
}
