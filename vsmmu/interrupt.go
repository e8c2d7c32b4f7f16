package vsmmu

import (
	"encoding/binary"
	"errors"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// source is what can raise an interrupt (§3.18.2), as a row of sources.
type source uint8

const (
	srcEVENTQ source = iota
	srcPRIQ
	srcGERROR
)

// sources says how each register-configured interrupt is enabled, where its
// MSI is configured, and which error tells that the MSI was aborted.
var sources = [...]struct {
	line   Line
	enable uint32 // of IRQ_CTRL
	cfg    word   // IRQ_CFG0: the MSI's address; CFG1, its data, comes after it
	abort  uint32 // of GERROR
}{
	srcEVENTQ: {LineEventQ, smmuv3.IRQ_CTRL_EVENTQ_IRQEN, smmuv3.RegEVENTQ_IRQ_CFG0 / 4, smmuv3.GERROR_MSI_EVENTQ_ABT_ERR},
	srcPRIQ:   {LinePRIQ, smmuv3.IRQ_CTRL_PRIQ_IRQEN, smmuv3.RegPRIQ_IRQ_CFG0 / 4, smmuv3.GERROR_MSI_PRIQ_ABT_ERR},
	srcGERROR: {LineGError, smmuv3.IRQ_CTRL_GERROR_IRQEN, smmuv3.RegGERROR_IRQ_CFG0 / 4, smmuv3.GERROR_MSI_GERROR_ABT_ERR},
}

// interrupts sends them. Its lock makes one step of what is signalled and its
// signal: a source that is disabled has then nothing under way (§3.18.1), and
// one that is enabled signals nothing of before (§6.3.16). GERROR changes under
// it, and GERRORN.
type interrupts struct {
	mu  sync.Mutex
	out Interrupts
	msi [4]byte // an MSI's data on its way to memory

	// The engine's own, for CMD_SYNC, whose interrupt nothing enables: it takes no lock,
	// or a guest that has them signalled without end would keep its stores waiting that do.
	syncMSI [4]byte
}

// raise signals a source, if it is enabled. irq.mu is held.
func (d *Device) raise(s source) {
	src := &sources[s]
	if d.regs.get(wIRQCtrl)&src.enable == 0 {
		return
	}
	if !d.send(src.line, d.regs.get64(src.cfg), d.regs.get(src.cfg+2), &d.irq.msi) {
		// MSI_GERROR_ABT raises no interrupt: it would be sent to where the
		// last one aborted (§7.5.1).
		if d.setError(src.abort) && s != srcGERROR {
			d.raise(srcGERROR)
		}
	}
}

// raiseSync signals the completion of a CMD_SYNC, which carries its own MSI
// configuration and needs no enable (§4.7.3).
func (d *Device) raiseSync(c *smmuv3.Command) {
	if !d.send(LineCmdSync, c.MSIAddr(), c.MSIData(), &d.irq.syncMSI) {
		d.activate(smmuv3.GERROR_MSI_CMDQ_ABT_ERR)
	}
}

// send pulses the wired line, and sends the MSI if there is one: an address of
// zero says that there is none, before it is cut to the output address size
// (§4.7.3). It reports false if the MSI was aborted. The caller owns buf.
func (d *Device) send(line Line, addr uint64, data uint32, buf *[4]byte) (ok bool) {
	if err := d.irq.out.Pulse(line); err != nil {
		d.report("the embedder could not pulse an interrupt line", err)
	}
	d.trace.interrupt(line)
	if !d.ids.Has(smmuv3.MSI) || addr == 0 {
		return true
	}
	// It may go to memory as well as to an interrupt controller: drivers poll for a
	// CMD_SYNC that way (§3.18).
	gpa := guestmem.GPA(addr & d.ids.OutputMask())
	if !d.elsewhere(gpa) {
		binary.LittleEndian.PutUint32(buf[:], data)
		err := d.write(buf[:], gpa)
		if !errors.Is(err, guestmem.ErrUnmapped) {
			return err == nil
		}
	}
	return d.irq.out.SignalMSI(gpa, data) == nil
}

// elsewhere reports whether an address is known to be no memory, without the error
// that a write would fail with, which is made anew each time.
func (d *Device) elsewhere(gpa guestmem.GPA) bool {
	m, ok := d.mem.(guestmem.Mapper)
	if !ok {
		return false
	}
	section := m.Sections().Enter()
	defer section.Leave()
	_, err := m.Slice(gpa, 1, true)
	return errors.Is(err, guestmem.ErrUnmapped)
}

// storeIRQCtrl acknowledges at once: whatever a source had under way is done
// when the lock has been taken.
func storeIRQCtrl(d *Device, _, v uint32) uint32 {
	d.irq.mu.Lock()
	defer d.irq.mu.Unlock()
	d.regs.set(wIRQCtrl, v)
	d.regs.set(wIRQCtrlAck, v)
	return v
}

// active reports whether any of these errors is (§6.3.19).
func (d *Device) active(errs uint32) bool {
	return (d.regs.get(wGERROR)^d.regs.get(wGERRORN))&errs != 0
}

// setError makes errors active, and reports whether one of them was not so
// already. irq.mu is held.
func (d *Device) setError(errs uint32) bool {
	g := d.regs.get(wGERROR)
	fresh := errs &^ (g ^ d.regs.get(wGERRORN))
	d.regs.set(wGERROR, g^fresh)
	return fresh != 0
}

// storeGERRORN acknowledges errors. One that becomes active at the same time is
// either acknowledged with them or seen after.
func storeGERRORN(d *Device, _, v uint32) uint32 {
	d.irq.mu.Lock()
	defer d.irq.mu.Unlock()
	if d.active(smmuv3.GERROR_CMDQ_ERR) && (d.regs.get(wGERROR)^v)&smmuv3.GERROR_CMDQ_ERR == 0 {
		// The reason goes with the error, and before it: once the error is gone
		// the engine may stop anew for another. It may be storing CONS even now,
		// if the error was one that the guest itself had made look active.
		d.regs[wCMDQCons].And(^uint32(smmuv3.CMDQ_CONS_ERR))
	}
	d.regs.set(wGERRORN, v)
	return v
}

// activate makes an error active, and signals that.
func (d *Device) activate(errs uint32) {
	d.irq.mu.Lock()
	defer d.irq.mu.Unlock()
	if d.setError(errs) {
		d.raise(srcGERROR)
	}
}
