package guest

import (
	"errors"
	"os"
)

// lines has the disk do without messages, so that its INTx line is all it has to interrupt by.
func (l *labInit) lines() error {
	messages := func(allowed string) error {
		return without(func(dir string) error { return write(dir+"/msi_bus", allowed) })
	}
	if err := errors.Join(messages("0"), l.step(StepINTx)); err != nil {
		return err
	}
	table, err := os.ReadFile("/proc/interrupts")
	if err != nil {
		return err
	}
	n := countInterrupts(string(table), "nvme")
	return errors.Join(l.send(LabMessage{Interrupts: &n}), messages("1"))
}
