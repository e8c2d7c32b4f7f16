//go:build linux && (amd64 || arm64)

// Package vm is the program of the lab's last machine: a VMM whose guest has two disks behind one
// virtual SMMU. The host's SMMU executes stage 1 for the NVMe disk, which is passed through.
// bridge/soft executes it for the emulated disk.
package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/console"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm"
)

// Main runs the VMM and powers the machine off. It does not return.
func Main() {
	machine.Main(func(m *machine.Machine) int {
		if err := run(m); err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", "; ")) // one line: the runner shows the last line line
			return 1
		}
		return 0
	})
}

const (
	guestMem  = 256 << 20
	guestCPUs = 2
	maxLine   = 4 << 10 // bytes of a line of the guest's console
	// bootTimeout ends a boot of the guest that hangs.
	bootTimeout = 10 * time.Minute
)

// run runs the guest and sends the VMM's last message.
func run(m *machine.Machine) (err error) {
	image, err := os.ReadFile("/" + machine.ImageFile)
	if err != nil {
		return err
	}
	initrd, err := os.ReadFile("/" + machine.InitrdFile)
	if err != nil {
		return err
	}
	nvme, path, err := passNVMe()
	if err != nil {
		return err
	}
	disk, err := newBacking()
	if err != nil {
		return err
	}
	defer disk.Close()

	tell := func(g machine.Guest) {
		// The runner ends the lab if the channel breaks.
		_ = m.Send(machine.Message{Guest: &g})
	}
	notes := newNotes()
	c := newControl(notes, tell)
	out := &console.Writer{Max: maxLine, Emit: func(line string) { tell(machine.Guest{Line: &line}) }}
	defer out.Flush()
	host, err := iommufd.Open(iommufd.Config{})
	if err != nil {
		return err
	}
	c.requests = func() uint64 { return host.Stats().Invalidations }
	v, err := newVM(vmm.Config{
		Kernel: image, Initrd: initrd, Mem: guestMem, CPUs: guestCPUs,
		Cmdline: "console=ttyAMA0 earlycon panic=-1 " + machine.NoStallWarnings + " -- " + guest.LabRole,
		Console: out, Control: c,
	}, host, path, disk, notes)
	if err != nil {
		return err
	}
	// The removal ends at the latest when the machine is closed.
	var removing sync.WaitGroup
	c.do = func(ask string) error {
		switch ask {
		case guest.AskPort:
			return v.AddRootPort()
		case guest.AskRemoval:
			removing.Go(func() { tell(machine.Guest{Removed: removePCI(nvme)}) })
			return nil
		}
		return fmt.Errorf("unknown request %.80q", ask)
	}
	err = errors.Join(boots(v, c, tell), v.close())
	removing.Wait()
	figures := machine.Figures(host.Stats())
	if err := errors.Join(err, m.Send(machine.Message{Figures: &figures})); err != nil {
		return err
	}
	end := notes.end()
	end.Virtio, err = check(disk)
	if err != nil {
		end.VirtioError = err.Error()
	}
	return m.Send(machine.Message{Guest: &machine.Guest{End: &end}})
}

// boots runs the guest's boots until it powers off.
func boots(v *vm, c *control, tell func(machine.Guest)) error {
	for number := 1; ; number++ {
		tell(machine.Guest{Stage: fmt.Sprintf("guest: boot %d", number)})
		c.begin(number)
		start := time.Now()
		ctx, cancel := context.WithTimeoutCause(context.Background(), bootTimeout,
			fmt.Errorf("the guest did not end within %v", bootTimeout))
		err := v.Run(ctx)
		cancel()
		end := c.ended()
		tell(machine.Guest{Boot: &machine.Boot{Number: number, End: end, Time: time.Since(start).Seconds()}})
		switch {
		case err == nil && end == guest.EndPowerOff:
			return nil
		case errors.Is(err, vmm.ErrGuestReset) && (end == guest.EndReboot || end == guest.EndCrash):
			// After a crash the SMMU is not reset, as if kexec had started the next kernel.
			if err := v.restart(end == guest.EndReboot); err != nil {
				return err
			}
		case err == nil:
			return fmt.Errorf("the guest powered off early: %s", end)
		default:
			return fmt.Errorf("%w: %s", err, end)
		}
	}
}

// nvmeID is the PCI vendor and device ID of QEMU's NVMe disk.
const nvmeID = "0x1b36:0x0010"

// passNVMe binds the NVMe disk to vfio-pci, and returns its sysfs directory and its VFIO device.
func passNVMe() (dir, path string, err error) {
	dirs := machine.PCIDevices(nvmeID)
	if len(dirs) != 1 {
		return "", "", fmt.Errorf("found %d NVMe disks instead of 1", len(dirs))
	}
	if err := machine.GiveToVFIO(dirs[0]); err != nil {
		return "", "", err
	}
	path, err = iommufd.FindDevice(filepath.Base(dirs[0]))
	return dirs[0], path, err
}

// removePCI makes the host's kernel remove a PCI device. The kernel waits until the device is
// closed.
func removePCI(dir string) *machine.Removed {
	start := time.Now()
	removed := new(machine.Removed)
	if err := os.WriteFile(filepath.Join(dir, "remove"), []byte("1"), 0); err != nil {
		removed.Error = err.Error()
	}
	removed.Seconds = time.Since(start).Seconds()
	return removed
}

// newBacking creates the backing file of the emulated disk.
func newBacking() (*os.File, error) {
	f, err := os.Create("/disk")
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(machine.DiskSize); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// check returns the number of bytes in the emulated disk's backing file, from the start, that the
// guest wrote. Its error says where the bytes differ.
func check(disk *os.File) (int64, error) {
	data := make([]byte, guest.TestSize)
	if _, err := disk.ReadAt(data, 0); err != nil {
		return 0, err
	}
	return guest.LabCheck(guest.LabVirtio, data)
}
