//go:build linux && (amd64 || arm64)

package iommufd

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"golang.org/x/sys/unix"
)

// Map makes a slot of the guest's memory accessible to devices, at its GPA. The kernel pins the
// memory. GPA, host address and size must be multiples of the page size. The kernel reserves some
// addresses, such as those from MSIBase on, and a slot must not overlap them.
//
// Call Map along with guestmem.Slots.Add, and Unmap before guestmem.Slots.Remove.
func (h *Host) Map(s guestmem.Slot) error {
	if err := h.made(); err != nil {
		return fmt.Errorf("iommufd: map slot at %v, %#x bytes: %w", s.GPA, len(s.Mem), err)
	}
	h.memory.Lock()
	defer h.memory.Unlock()
	fail := func(err error) error {
		return fmt.Errorf("iommufd: map slot at %v, %#x bytes: %w", s.GPA, len(s.Mem), err)
	}
	if h.memory.closed {
		return fail(errHostClosed)
	}
	if len(s.Mem) == 0 || uint64(s.GPA)+uint64(len(s.Mem))-1 < uint64(s.GPA) {
		return fail(fmt.Errorf("%w: it is empty or extends beyond the address space", guestmem.ErrBadSlot))
	}
	switch err := h.k.mapMemory(h.ioas, s); {
	case errors.Is(err, unix.EEXIST):
		return fail(fmt.Errorf("%w: %w", guestmem.ErrOverlap, err))
	case err != nil:
		return fail(err)
	}
	h.memory.slots[s.GPA] = s
	return nil
}

// Unmap removes the slot at gpa. On return no DMA reaches the memory, and the caller can use it for
// something else. After an error DMA may still reach it.
func (h *Host) Unmap(gpa guestmem.GPA) error {
	if err := h.made(); err != nil {
		return fmt.Errorf("iommufd: unmap slot at %v: %w", gpa, err)
	}
	h.memory.Lock()
	defer h.memory.Unlock()
	if h.memory.closed {
		return fmt.Errorf("iommufd: unmap slot at %v: %w", gpa, errHostClosed)
	}
	if err := h.unmap(gpa); err != nil {
		return fmt.Errorf("iommufd: unmap slot at %v: %w", gpa, err)
	}
	return nil
}

func (h *Host) unmap(gpa guestmem.GPA) error {
	s, ok := h.memory.slots[gpa]
	if !ok {
		return guestmem.ErrNoSlot
	}
	n, err := h.k.unmapMemory(h.ioas, gpa, uint64(len(s.Mem)))
	if err != nil {
		return err
	}
	if n != uint64(len(s.Mem)) {
		return fmt.Errorf("%s: the kernel unmapped %#x of %#x bytes", opUnmap, n, len(s.Mem))
	}
	delete(h.memory.slots, gpa)
	return nil
}

// unmapAll unmaps all slots. Map and Unmap fail from then on.
func (h *Host) unmapAll() error {
	h.memory.Lock()
	defer h.memory.Unlock()
	h.memory.closed = true
	var errs []error
	for _, gpa := range slices.Sorted(maps.Keys(h.memory.slots)) {
		errs = append(errs, h.unmap(gpa))
	}
	return errors.Join(errs...)
}
