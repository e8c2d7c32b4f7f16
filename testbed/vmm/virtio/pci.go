package virtio

import (
	"encoding/binary"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

// Function is a virtio device with one virtqueue on the PCI transport (virtio 1.2 §4.1). It
// implements pci.Function. Its interrupts are MSI-X messages: writes by the device's DMA, to the
// address that the driver programs. It has no INTx, so that a driver without MSI-X polls the ISR
// status.
type Function struct {
	device

	// The following fields are used by calls of the host bridge, which makes one at a time.
	slot      *pci.Slot
	pasidBits uint8
	space     pci.Space
	bars      pci.BARs
	claimed   bool
	at        uint64 // the address that it claimed
	reachable bool   // it has a requester ID

	// Guarded by mu.
	master   bool // it may access memory
	isr      uint32
	messages messages

	message [4]byte // guarded by serving; see ring.scratch
}

// NewFunction returns a function of the given model. Its worker runs until Close. waits says that
// DMA may wait for the guest, as stalled transactions do. The device then makes no DMA on a vCPU's
// goroutine. If pasidBits is not 0, the function has a PASID capability of so many bits, at most
// 20. It uses no PASID. A nil model or dma, and a greater pasidBits, are errors.
func NewFunction(model Model, dma DMA, waits bool, pasidBits uint8) (*Function, error) {
	if pasidBits > pci.MaxPASIDBits {
		return nil, fmt.Errorf("virtio: new PCI function: %d PASID bits: more than %d", pasidBits, pci.MaxPASIDBits)
	}
	f := &Function{messages: newMessages(), pasidBits: pasidBits}
	f.bars.Define(0, barSize, 0)
	if err := f.start(model, dma, waits, f); err != nil {
		return nil, fmt.Errorf("virtio: new PCI function: %w", err)
	}
	f.space = configSpace(model, pasidBits)
	return f, nil
}

// Connect sets the function's slot. The host bridge calls it first.
func (f *Function) Connect(slot *pci.Slot) { f.slot = slot }

// LoadConfig implements pci.Function.
func (f *Function) LoadConfig(off uint32, size int) uint32 {
	if off&^3 == windowData {
		if at, size, ok := f.window(); ok {
			f.space.Put(windowData, 4, uint32(f.LoadMemory(0, at, size)))
		}
	}
	return f.space.Load(off, size)
}

// StoreConfig implements pci.Function.
func (f *Function) StoreConfig(off uint32, size int, value uint32) (rest func()) {
	f.space.Store(off, size, value)
	if v, ok := pci.Merge(f.bars.Load(0), pci.RegBAR0, 4, off, size, value); ok {
		f.bars.Store(0, v)
		f.space.Put(pci.RegBAR0, 4, f.bars.Load(0))
	}
	f.storeMSIXControl(off, size, value)
	f.Decode()
	if off&^3 == windowData {
		if at, size, ok := f.window(); ok {
			return f.StoreMemory(0, at, size, uint64(f.space.Load(windowData, size)))
		}
	}
	if lost := f.updateMaster(); lost {
		return f.settle
	}
	return nil
}

func (f *Function) storeMSIXControl(off uint32, size int, value uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	table := f.messages.table
	if v, ok := pci.Merge(uint32(table.Control()), msixControl, 2, off, size, value); ok {
		table.SetControl(uint16(v))
		f.space.Put(msixControl, 2, uint32(table.Control()))
		f.notify() // a pending message may be unmasked
	}
}

// window returns the memory of BAR 0 that the configuration access capability selects (§4.1.4.9).
func (f *Function) window() (at uint64, size int, ok bool) {
	bar, off, length := f.space.Load(windowBAR, 1), f.space.Load(windowOff, 4), f.space.Load(windowLen, 4)
	switch length {
	case 1, 2, 4:
		return uint64(off), int(length), bar == 0 && off%length == 0 && off < barSize
	}
	return 0, 0, false
}

// Decode implements pci.Function. It claims the addresses of BAR 0 if memory decoding is enabled, and
// releases them otherwise.
func (f *Function) Decode() {
	at, want := f.bars.Base(0), f.space.Load(pci.RegCommand, 2)&pci.CommandMemory != 0
	if f.claimed && (!want || at != f.at) {
		f.slot.Release(0)
		f.claimed = false
	}
	if want && !f.claimed {
		f.claimed, f.at = f.slot.Claim(0, at, barSize), at
	}
}

// updateMaster applies the Bus Master Enable bit. lost is true if the device may no longer access
// memory. Its last access ends before settle returns.
func (f *Function) updateMaster() (lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.master
	f.master = f.reachable && f.space.Load(pci.RegCommand, 2)&pci.CommandMaster != 0
	f.notify() // a request may be waiting
	return was && !f.master
}

// settle waits for the request that is being executed.
func (f *Function) settle() {
	f.serving.Lock()
	defer f.serving.Unlock()
}

// SetRequester implements pci.Function.
func (f *Function) SetRequester(_ pci.RequesterID, ok bool) {
	f.reachable = ok
	if lost := f.updateMaster(); lost {
		f.settle()
	}
}

// Reset implements pci.Function.
func (f *Function) Reset() {
	f.space = configSpace(f.model, f.pasidBits)
	f.bars.Reset()
	f.Decode()
	f.updateMaster()
	f.device.Reset() // waits for the request that is being executed
	f.mu.Lock()
	defer f.mu.Unlock()
	f.messages.table.Reset()
}

// LoadMemory implements pci.Function.
func (f *Function) LoadMemory(_ int, off uint64, size int) uint64 {
	switch at := off % regionSize; off - at {
	case commonRegion:
		return uint64(f.loadCommon(at, size))
	case isrRegion:
		return uint64(f.loadISR(at, size))
	case configRegion:
		return loadConfig(f.model.Config(), at, size)
	case tableRegion:
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.messages.table.Load(at, size)
	case pendingRegion:
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.messages.loadPending(at, size)
	}
	return 0
}

// StoreMemory implements pci.Function.
func (f *Function) StoreMemory(_ int, off uint64, size int, value uint64) (rest func()) {
	switch at := off % regionSize; off - at {
	case commonRegion:
		return func() { f.storeCommon(at, size, uint32(value)) } // a reset waits
	case notifyRegion:
		// The 16-bit index of the queue, at the offset that all queues share (§4.1.4.4, §4.1.5.2).
		if at == 0 && size == 2 && uint16(value) == 0 {
			return f.notified
		}
	case tableRegion:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.messages.table.Store(at, size, value)
		f.notify() // a pending message may be unmasked
	}
	return nil
}

// loadISR reads and clears the ISR status (§4.1.4.5).
func (f *Function) loadISR(at uint64, size int) uint32 {
	if at != 0 || size != 1 {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	isr := f.isr
	f.isr = 0
	return isr
}

func (f *Function) enabled() bool { return f.master }

// raise implements transport. The ISR status has configuration changes with MSI-X as well
// (§4.1.4.5.1).
func (f *Function) raise(cause uint32) {
	msix := f.messages.table.Enabled()
	if !msix || cause == interruptConfig {
		f.isr |= cause
	}
	if msix {
		f.messages.raise(cause)
	}
}

// deliver sends the messages that are pending and not masked. A message whose write fails is lost:
// the SMMU has reported the fault to the guest.
func (f *Function) deliver() {
	for vector := range vectors {
		if addr, data, ok := f.takeMessage(vector); ok {
			binary.LittleEndian.PutUint32(f.message[:], data)
			_ = f.dma.WriteAt(f.message[:], addr)
		}
	}
}

func (f *Function) takeMessage(vector int) (addr uint64, data uint32, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.master {
		return 0, 0, false
	}
	return f.messages.take(vector)
}

func (f *Function) clear() {
	f.isr = 0
	f.messages.unmap()
}
