package guest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/pid1"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
	"golang.org/x/sys/unix"
)

// Init is the guest's whole user space: it tests the disks, reports to the VMM, and powers off.
func Init() error {
	err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, progress.InitFailed+err.Error()) // the channel may have failed
	}
	return errors.Join(err, pid1.PowerOff())
}

func run() error {
	if err := pid1.Mount(); err != nil {
		return err
	}
	channel, err := openControl()
	if err != nil {
		return err
	}
	defer channel.Close()
	err = exercise(channel)
	if err != nil {
		return errors.Join(err, channel.send(Message{Error: err.Error()}))
	}
	return nil
}

// exercise tests the disks and reports the faults that the VMM causes.
func exercise(c *control) error {
	hello, err := sayHello()
	if err != nil {
		return err
	}
	if err := c.send(Message{Hello: hello}); err != nil {
		return err
	}
	if err := pid1.LoadModules(); err != nil {
		return err
	}
	if err := waitForSMMU(slices.Contains(os.Args, PCI)); err != nil {
		return err
	}
	names, err := waitForDisks(Plain, PASID, Rogue)
	if err != nil {
		return err
	}
	if slices.Contains(os.Args, Reboot) {
		if err := rebootIfAsked(c); err != nil {
			return err
		}
	}
	size := SizeOf(slices.Contains(os.Args, Quick))
	for _, serial := range []string{Plain, PASID} {
		if err := c.send(Message{Stage: "write and read disk " + serial}); err != nil {
			return err
		}
		disk := testDisk(serial, names[serial], size, slices.Contains(os.Args, Rebind))
		if err := c.send(Message{Disk: &disk}); err != nil {
			return err
		}
	}
	driver, err := kernelLines(smmuDriver)
	if err != nil {
		return err
	}
	if err := c.send(Message{Up: &Up{Probe: driver}}); err != nil {
		return err
	}
	if err := c.waitDone(); err != nil {
		return err
	}
	faults, err := faultsAfter(len(driver), groupType(names[Rogue]) != DomainIdentity)
	if err != nil {
		return err
	}
	description, err := describe(names[Plain])
	if err != nil {
		return err
	}
	return c.send(Message{Faults: &Faults{Lines: faults, Description: description}})
}

// rebootIfAsked reports that the disks are there, and reboots the machine if the VMM asks for it. It
// returns if the VMM does not.
func rebootIfAsked(c *control) error {
	if err := c.send(Message{Found: true}); err != nil {
		return err
	}
	switch word, err := c.receive(); {
	case err != nil:
		return err
	case word == Again:
		return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	case word != Done:
		return fmt.Errorf("the VMM answered %q instead of %q or %q", word, Done, Again)
	}
	return nil
}

func sayHello() (*Hello, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	return &Hello{
		Release:  unix.ByteSliceToString(uts.Release[:]),
		Version:  unix.ByteSliceToString(uts.Version[:]),
		PageSize: os.Getpagesize(),
		CPUs:     runtime.NumCPU(),
	}, nil
}
