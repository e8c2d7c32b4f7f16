package guest

import (
	"errors"
	"fmt"
	"path/filepath"
)

// renumber has Linux number the buses anew with one more before the disk's, which gets another requester ID by that.
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
	if err := errors.Join(write(disk+"/remove", "1"), write(filepath.Dir(disk)+"/remove", "1"), l.ask(AskPort)); err != nil {
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

// requesterID is that of the PCI function whose directory is given.
func requesterID(dir string) (uint32, error) {
	var domain, bus, device, function uint32
	if _, err := fmt.Sscanf(filepath.Base(dir), "%x:%x:%x.%x", &domain, &bus, &device, &function); err != nil {
		return 0, fmt.Errorf("the PCI address of %s: %w", dir, err)
	}
	return bus<<8 | device<<3 | function, nil
}
