//go:build linux && (amd64 || arm64)

package vmm

import (
	"fmt"
	"slices"
	"sync"
)

// memorySlots allocates the memory slots of a VM. Slot 0 is RAM.
type memorySlots struct {
	vm memoryVM

	mu   sync.Mutex
	used []bool
}

// memoryVM is the part of *kvm.VM that memorySlots uses.
type memoryVM interface {
	SetMemory(slot uint32, gpa uint64, mem []byte) error
	RemoveMemory(slot uint32) error
}

const (
	ramSlot  = 0
	maxSlots = 256 // fewer than KVM has
)

// mapMemory maps mem at gpa for the guest. undo unmaps it.
func (s *memorySlots) mapMemory(gpa uint64, mem []byte) (undo func() error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.Index(s.used, false)
	if at < 0 {
		if at = len(s.used); at == maxSlots {
			return nil, fmt.Errorf("vmm: map memory: more than %d memory slots", maxSlots)
		}
		s.used = append(s.used, false)
	}
	slot := ramSlot + 1 + uint32(at)
	if err := s.vm.SetMemory(slot, gpa, mem); err != nil {
		return nil, err
	}
	s.used[at] = true
	return func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := s.vm.RemoveMemory(slot); err != nil {
			return err
		}
		s.used[at] = false
		return nil
	}, nil
}
