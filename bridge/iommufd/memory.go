//go:build linux && (amd64 || arm64)

package iommufd

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"golang.org/x/sys/unix"
)

// Map has devices reach a slot of the guest's memory: by its GPA without the guest's stage 1, and through that otherwise. The
// kernel pins the memory. GPA, host address and size must be multiples of the page size. Go beside guestmem.Slots.Add with it,
// and call Unmap before Slots.Remove.
//
// The kernel keeps some addresses for itself, such as those from MSIBase on, and no slot may meet them.
func (h *Host) Map(s guestmem.Slot) error {
	h.memory.Lock()
	defer h.memory.Unlock()
	fail := func(err error) error {
		return fmt.Errorf("iommufd: map slot at %v, %#x bytes: %w", s.GPA, len(s.Mem), err)
	}
	if h.memory.closed {
		return fail(bridge.ErrClosed)
	}
	if len(s.Mem) == 0 || uint64(s.GPA)+uint64(len(s.Mem))-1 < uint64(s.GPA) {
		return fail(fmt.Errorf("%w: it is empty or runs past the end of the address space", guestmem.ErrBadSlot))
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

// Unmap takes away the slot that begins at gpa. When it returns no DMA reaches it, and the memory may be used for something
// else; after an error it may not.
func (h *Host) Unmap(gpa guestmem.GPA) error {
	h.memory.Lock()
	defer h.memory.Unlock()
	if h.memory.closed {
		return fmt.Errorf("iommufd: unmap slot at %v: %w", gpa, bridge.ErrClosed)
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
		return fmt.Errorf("%s: %#x bytes unmapped of %#x", opUnmap, n, len(s.Mem))
	}
	delete(h.memory.slots, gpa)
	return nil
}

// closeMemory is for when nothing else refers to the IOAS.
func (h *Host) closeMemory() error {
	h.memory.Lock()
	defer h.memory.Unlock()
	h.memory.closed = true
	var errs []error
	for _, gpa := range slices.Sorted(maps.Keys(h.memory.slots)) {
		errs = append(errs, h.unmap(gpa))
	}
	return errors.Join(append(errs, h.k.destroy(&h.ioas))...)
}
