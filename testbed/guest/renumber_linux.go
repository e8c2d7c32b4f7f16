package guest

import (
	"errors"
	"fmt"
	"path/filepath"
)

// renumber removes the NVMe disk and its root port, makes the VMM add a port before it, and rescans
// the bus. The disk gets a new bus number and requester ID.
func (l *labInit) renumber() error {
	link, err := waitForNVMe()
	if err != nil {
		return err
	}
	disk, err := filepath.EvalSymlinks(link)
	if err != nil {
		return err
	}
	from, err := requesterID(disk)
	if err != nil {
		return err
	}
	if err := errors.Join(
		write(disk+"/remove", "1"),
		write(filepath.Dir(disk)+"/remove", "1"),
		l.ask(AskPort),
	); err != nil {
		return err
	}
	if err := write("/sys/bus/pci/rescan", "1"); err != nil {
		return err
	}
	if link, err = waitForNVMe(); err != nil {
		return err
	}
	to, err := requesterID(link)
	if err != nil {
		return err
	}
	return errors.Join(l.send(LabMessage{Moved: &LabMove{From: from, To: to}}), l.step(StepRenumber))
}

// requesterID returns the requester ID of the PCI function with a sysfs directory.
func requesterID(dir string) (uint32, error) {
	var domain, bus, device, function uint32
	if _, err := fmt.Sscanf(filepath.Base(dir), "%x:%x:%x.%x", &domain, &bus, &device, &function); err != nil {
		return 0, fmt.Errorf("parse the PCI address %s: %w", filepath.Base(dir), err)
	}
	return bus<<8 | device<<3 | function, nil
}
