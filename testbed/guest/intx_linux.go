package guest

import (
	"errors"
	"os"
)

// intx tests the disks while the NVMe disk may not use MSIs, and counts its interrupts. QEMU's disk
// keeps INTx asserted until it has read the doorbells that the driver leaves in memory, so the line
// interrupts much more often than MSIs do.
func (l *labInit) intx() error {
	messages := func(allowed string) error {
		return unbound(func(dir string) error { return write(dir+"/msi_bus", allowed) })
	}
	if err := messages("0"); err != nil {
		return err
	}
	if _, err := waitForNVMe(); err != nil {
		return err
	}
	before, err := nvmeInterrupts()
	if err != nil {
		return err
	}
	if err := l.step(StepINTx); err != nil {
		return err
	}
	n, err := nvmeInterrupts()
	if err != nil {
		return err
	}
	// The type of interrupt does not change in the step, so Messages needs no subtraction.
	n.Line -= before.Line
	return errors.Join(l.send(LabMessage{Interrupts: &n}), messages("1"))
}

// nvmeInterrupts counts the NVMe disk's interrupts since it was bound.
func nvmeInterrupts() (LabInterrupts, error) {
	table, err := os.ReadFile("/proc/interrupts")
	return countInterrupts(string(table), "nvme"), err
}
