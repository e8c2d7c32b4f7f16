package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/pid1"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
	"golang.org/x/sys/unix"
)

// Lab is the guest's whole user space in the lab. It returns in the boot that must crash: the
// kernel then panics.
func Lab() error {
	end, err := lab()
	if err != nil {
		fmt.Fprintln(os.Stderr, progress.InitFailed+err.Error())
	}
	switch end {
	case EndCrash:
		return errors.New("this crash is planned")
	case EndReboot:
		unix.Sync()
		return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	}
	return errors.Join(err, pid1.PowerOff())
}

func lab() (end string, err error) {
	if err := pid1.Mount(); err != nil {
		return "", err
	}
	channel, err := openControl()
	if err != nil {
		return "", err
	}
	l := &labInit{channel}
	if end, err = l.run(); err == nil {
		err = l.send(LabMessage{End: end})
	}
	if err != nil {
		return "", errors.Join(err, l.send(LabMessage{Error: err.Error()}))
	}
	return end, nil
}

type labInit struct{ *control }

func (l *labInit) send(m LabMessage) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return l.sendLine(line)
}

// ask sends a request to the VMM and waits for Done.
func (l *labInit) ask(what string) error {
	return errors.Join(l.send(LabMessage{Ask: what}), l.waitDone())
}

// run runs the steps of a boot and returns the way in which the boot must end.
func (l *labInit) run() (end string, err error) {
	hello, err := sayHello()
	if err != nil {
		return "", err
	}
	if err := l.send(LabMessage{Hello: hello}); err != nil {
		return "", err
	}
	boot, err := l.receive()
	if err != nil {
		return "", err
	}
	if err := waitForSMMU(false); err != nil {
		return "", err
	}
	switch boot {
	case "1":
		return EndReboot, errors.Join(
			l.step(StepFirst),
			l.rebind(),
			l.reset(),
			l.renumber(),
			l.intx(),
			l.measure(),
			l.stray(),
		)
	case "2":
		return EndCrash, l.step(StepReboot)
	case "3":
		return EndPowerOff, errors.Join(l.takenOver(), l.lose())
	}
	return "", fmt.Errorf("the VMM answered %q instead of the boot's number", boot)
}

// step writes, reads and verifies both disks.
func (l *labInit) step(step string) error {
	if err := l.send(LabMessage{Begin: step}); err != nil {
		return err
	}
	names, err := waitForDisks(LabVirtio)
	if err != nil {
		return err
	}
	if _, err := waitForNVMe(); err != nil {
		return err
	}
	for _, d := range []Disk{
		{Serial: LabVirtio, Name: names[LabVirtio], IOMMU: groupType(names[LabVirtio])},
		{Serial: LabNVMe, Name: nvmeDisk, IOMMU: nvmeGroup()},
	} {
		if err := d.test(LabPattern(d.Serial, step), LabSize(step)); err != nil {
			d.Error = err.Error()
		}
		if err := l.send(LabMessage{Disk: &d}); err != nil {
			return err
		}
	}
	return nil
}

// rebind unbinds the NVMe disk from its driver and binds it again.
func (l *labInit) rebind() error {
	if err := unbound(func(string) error { return nil }); err != nil {
		return err
	}
	return l.step(StepRebind)
}

// reset resets the NVMe disk by FLR.
func (l *labInit) reset() error {
	err := unbound(func(dir string) error {
		return errors.Join(write(dir+"/reset_method", "flr"), write(dir+"/reset", "1"))
	})
	if err != nil {
		return err
	}
	return l.step(StepFLR)
}

// takenOver sends the kernel's messages about the SMMU that the crashed kernel left enabled, and
// tests the disks.
func (l *labInit) takenOver() error {
	said, err := kernelLines(smmuDriver)
	if err != nil {
		return err
	}
	if err := l.send(LabMessage{Reset: &LabReset{Kernel: said}}); err != nil {
		return err
	}
	return l.step(StepTakenOver)
}
