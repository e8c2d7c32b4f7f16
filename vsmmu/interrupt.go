package vsmmu

import (
	"errors"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// source is a source of interrupts (§3.18.2), as an index of sources.
type source uint8

const (
	srcEVENTQ source = iota
	srcPRIQ
	srcGERROR
)

// sources has a row for each interrupt that registers configure.
var sources = [...]struct {
	line   Line
	enable uint32 // of IRQ_CTRL
	cfg    word   // IRQ_CFG0: the MSI's address; IRQ_CFG1, its data, follows
	abort  uint32 // the error in GERROR if the MSI aborts
}{
	srcEVENTQ: {
		LineEventQ,
		smmuv3.IRQ_CTRL_EVENTQ_IRQEN,
		smmuv3.RegEVENTQ_IRQ_CFG0 / 4,
		smmuv3.GERROR_MSI_EVENTQ_ABT_ERR,
	},
	srcPRIQ: {LinePRIQ, smmuv3.IRQ_CTRL_PRIQ_IRQEN, smmuv3.RegPRIQ_IRQ_CFG0 / 4, smmuv3.GERROR_MSI_PRIQ_ABT_ERR},
	srcGERROR: {
		LineGError,
		smmuv3.IRQ_CTRL_GERROR_IRQEN,
		smmuv3.RegGERROR_IRQ_CFG0 / 4,
		smmuv3.GERROR_MSI_GERROR_ABT_ERR,
	},
}

// interrupts signals interrupts. mu makes a change of GERROR or GERRORN and its interrupt atomic; the
// lock of an output queue does the same for a record. Changes of IRQ_CTRL hold all of them: a
// disabled source has no interrupt in flight (§3.18.1), and an enabled one signals no earlier event
// (§6.3.16).
type interrupts struct {
	mu  sync.Mutex
	out Interrupts
	msi [4]byte // an MSI's data on its way to memory

	// syncMSI belongs to the engine. The interrupt of CMD_SYNC has no enable and takes no lock, so
	// endless SYNCs of a guest do not delay stores that take mu.
	syncMSI [4]byte
}

// raise signals a source if it is enabled. irq.mu is held.
func (d *Device) raise(s source) {
	src := &sources[s]
	if d.regs.get(wIRQCtrl)&src.enable == 0 {
		return
	}
	if !d.send(src.line, d.regs.get64(src.cfg), d.regs.get(src.cfg+2), &d.irq.msi) {
		// MSI_GERROR_ABT raises no interrupt: its MSI would go where the last one aborted (§7.5.1).
		if d.setError(src.abort) && s != srcGERROR {
			d.raise(srcGERROR)
		}
	}
}

// raiseSync signals the completion of a CMD_SYNC, which has an MSI configuration of its own and
// needs no enable (§4.7.3).
func (d *Device) raiseSync(c *smmuv3.Command) {
	if !d.send(LineCmdSync, c.MSIAddr(), c.MSIData(), &d.irq.syncMSI) {
		d.activate(smmuv3.GERROR_MSI_CMDQ_ABT_ERR)
	}
}

// send pulses the wired line, and sends the MSI if there is one. There is none if the address is
// zero before its truncation to the output address size (§4.7.3). ok is false if the MSI aborts.
// The caller owns buf.
func (d *Device) send(line Line, addr uint64, data uint32, buf *[4]byte) (ok bool) {
	if err := d.irq.out.Pulse(line); err != nil {
		d.report("Interrupts.Pulse failed", err)
	}
	d.trace.interrupt(line)
	if !d.msi || addr == 0 {
		return true
	}
	// An MSI may go to memory, too: drivers poll for a CMD_SYNC that way (§3.18).
	gpa := guestmem.GPA(addr & d.outputMask)
	err := d.mem.Store32(gpa, data, buf)
	switch {
	case err == nil:
		d.wrote(gpa, 4)
	case errors.Is(err, guestmem.ErrUnmapped):
		err = d.irq.out.SignalMSI(gpa, data)
	}
	return err == nil
}

// storeIRQCtrl applies and acknowledges IRQ_CTRL at once: with the locks held, no source has an
// interrupt in flight, and no queue has a record of which it may yet signal.
func storeIRQCtrl(d *Device, _, v uint32) uint32 {
	d.eventq.mu.Lock()
	defer d.eventq.mu.Unlock()
	d.priq.mu.Lock()
	defer d.priq.mu.Unlock()
	d.irq.mu.Lock()
	defer d.irq.mu.Unlock()
	d.regs.set(wIRQCtrl, v)
	d.regs.set(wIRQCtrlAck, v)
	return v
}

// active reports whether any of these errors is active (§6.3.19).
func (d *Device) active(errs uint32) bool {
	return (d.regs.get(wGERROR)^d.regs.get(wGERRORN))&errs != 0
}

// setError makes errors active, and reports whether one of them was not active before. irq.mu is
// held.
func (d *Device) setError(errs uint32) bool {
	g := d.regs.get(wGERROR)
	fresh := errs &^ (g ^ d.regs.get(wGERRORN))
	d.regs.set(wGERROR, g^fresh)
	return fresh != 0
}

// storeGERRORN acknowledges errors. An error that becomes active at the same time is acknowledged
// with them, or remains active.
func storeGERRORN(d *Device, _, v uint32) uint32 {
	d.irq.mu.Lock()
	defer d.irq.mu.Unlock()
	if d.active(smmuv3.GERROR_CMDQ_ERR) && (d.regs.get(wGERROR)^v)&smmuv3.GERROR_CMDQ_ERR == 0 {
		// The reason is cleared before the error: once the error is inactive, the engine may stop
		// for another one. The clear is atomic: if the guest itself had made the error look active,
		// the engine may store CONS at the same time.
		d.regs[wCMDQCons].And(^uint32(smmuv3.CMDQ_CONS_ERR))
	}
	d.regs.set(wGERRORN, v)
	return v
}

// activate makes errors active and signals that.
func (d *Device) activate(errs uint32) {
	d.irq.mu.Lock()
	defer d.irq.mu.Unlock()
	if d.setError(errs) {
		d.raise(srcGERROR)
	}
}
