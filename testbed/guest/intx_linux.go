package guest

import (
	"errors"
	"os"
)

// lines has the disk do without messages, so that its INTx line is all it has to interrupt by. QEMU's disk
// keeps that up for as long as it has not looked at the doorbells that a driver leaves in memory: it interrupts much more often
// than by messages.
func (l *labInit) lines() error {
	messages := func(allowed string) error {
		return without(func(dir string) error { return write(dir+"/msi_bus", allowed) })
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
	// By which ways it can interrupt does not change meanwhile.
	n.Line -= before.Line
	return errors.Join(l.send(LabMessage{Interrupts: &n}), messages("1"))
}

func nvmeInterrupts() (LabInterrupts, error) {
	table, err := os.ReadFile("/proc/interrupts")
	return countInterrupts(string(table), "nvme"), err
}
