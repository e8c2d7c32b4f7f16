package edu

import (
	"encoding/binary"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

// vectors is the number of MSI-X vectors.
const (
	vectors       = 2
	vectorGeneral = 0
	vectorDMA     = 1
)

// interrupts are the state of INTx, MSI and MSI-X.
type interrupts struct {
	status  uint32 // the causes that software has not acknowledged
	line    bool   // the level of INTx
	table   *pci.MSIX
	pending [vectors]bool // messages to send; the only one of MSI is the first
	sending bool          // a goroutine sends messages
}

// reset lowers the line and forgets everything else.
func (i *interrupts) reset(intx func(bool)) {
	if i.line {
		intx(false)
	}
	*i = interrupts{table: pci.NewMSIX(vectors)}
}

// load reads the memory of the MSI-X table and the pending bit array, which accesses of 4 and 8
// bytes can read (§7.7.2).
func (i *interrupts) load(off uint64, size int) (v uint64) {
	switch {
	case off < pendingRegion:
		return i.table.Load(off, size)
	case off == pendingRegion && size >= 4:
		for n, pending := range i.pending {
			if pending {
				v |= 1 << n
			}
		}
	}
	return v
}

func (f *Function) storeMSIXControl(off uint32, size int, value uint32) {
	if !f.cfg.Features.MSIX {
		return
	}
	at := uint32(msixAt + pci.MSIXControl)
	if v, ok := pci.Merge(uint32(f.irq.table.Control()), at, 2, off, size, value); ok {
		f.irq.table.SetControl(uint16(v))
	}
	f.space.Put(at, 2, uint32(f.irq.table.Control()))
}

// raise adds causes of an interrupt. mu is held.
func (f *Function) raise(causes uint32) {
	f.irq.status |= causes
	switch {
	case f.irq.status == 0:
	case f.irq.table.Enabled() && causes&regs.DMADone != 0:
		f.irq.pending[vectorDMA] = true
	case f.irq.table.Enabled(), f.space.msi():
		f.irq.pending[vectorGeneral] = true
	}
	f.signal()
}

// acknowledge removes causes. mu is held.
func (f *Function) acknowledge(causes uint32) {
	f.irq.status &^= causes
	f.signal()
}

// signal sets the level of INTx, and sends the messages that are pending. mu is held.
func (f *Function) signal() {
	byMessage := f.irq.table.Enabled() || f.space.msi()
	status := f.space.Load(pci.RegStatus, 2) &^ pci.StatusInterrupt
	if f.irq.status != 0 && !byMessage && f.cfg.INTx != nil {
		status |= pci.StatusInterrupt
	}
	f.space.Put(pci.RegStatus, 2, status)
	line := status&pci.StatusInterrupt != 0 && f.space.command()&pci.CommandINTxDisable == 0
	if line != f.irq.line {
		f.irq.line = line
		f.cfg.INTx(line)
	}
	if _, _, _, ok := f.message(); ok && !f.irq.sending {
		f.irq.sending = true
		l := f.life
		l.running.Go(func() { f.send(l) })
	}
}

// message returns a message that is pending and not masked. mu is held.
func (f *Function) message() (vector int, addr uint64, data uint32, ok bool) {
	if !f.space.master() {
		return 0, 0, 0, false
	}
	for vector, pending := range f.irq.pending {
		switch {
		case !pending:
		case f.irq.table.Enabled():
			if f.irq.table.Live(vector) {
				return vector, f.irq.table.Addr(vector), f.irq.table.Data(vector), true
			}
		case f.space.msi():
			addr := uint64(f.space.Load(msiAt+pci.MSIAddr+4, 4))<<32 | uint64(f.space.Load(msiAt+pci.MSIAddr, 4))
			return vector, addr, f.space.Load(msiAt+pci.MSIData, 2), true
		}
	}
	return 0, 0, 0, false
}

// send sends messages until none is left. A message whose write fails is lost: the SMMU has
// reported the fault to the guest.
func (f *Function) send(l *life) {
	for {
		f.mu.Lock()
		vector, addr, data, ok := f.message()
		if !ok || l.Err() != nil {
			f.irq.sending = false
			f.mu.Unlock()
			return
		}
		f.irq.pending[vector] = false
		f.mu.Unlock()
		if f.gate.enter(l) != nil {
			continue
		}
		_ = f.endpoint.WriteAt(binary.LittleEndian.AppendUint32(nil, data), addr)
		f.gate.leave()
	}
}
