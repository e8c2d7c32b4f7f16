package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/pid1"
)

// Times that the init gives the kernel. Emulated machines are slow, and slower still on a busy
// machine.
const (
	deviceTimeout = 3 * time.Minute
	faultTimeout  = time.Minute
)

// faultsAfter returns the driver's lines after the first ones. It waits for some if a fault is
// expected.
func faultsAfter(first int, expected bool) (faults []string, err error) {
	if !expected {
		lines, err := kernelLines(smmuDriver)
		return lines[min(first, len(lines)):], err
	}
	// The driver's interrupt thread prints a record as several lines. The record is complete when
	// the number of lines stays the same.
	pid1.WaitFor(faultTimeout, func() bool {
		lines, lerr := kernelLines(smmuDriver)
		before := len(faults)
		faults, err = lines[min(first, len(lines)):], lerr
		return err != nil || len(faults) > 0 && len(faults) == before
	})
	return faults, err
}

// smmuDriver is the SMMU driver's name, with which its lines in the kernel's log begin.
const smmuDriver = "arm-smmu-v3"

// driver is a driver that the disks need, and its directory in sysfs.
type driver struct{ name, path string }

// waitForSMMU checks that the kernel has the drivers, and waits for the SMMU: without either, disks
// never appear.
func waitForSMMU(pci bool) error {
	transport := driver{"virtio_mmio", "/sys/bus/platform/drivers/virtio-mmio"}
	if pci {
		transport = driver{"virtio_pci", "/sys/bus/pci/drivers/virtio-pci"}
	}
	for _, d := range []driver{
		{smmuDriver, "/sys/bus/platform/drivers/arm-smmu-v3"},
		transport,
		{"virtio_blk", "/sys/bus/virtio/drivers/virtio_blk"},
	} {
		if _, err := os.Stat(d.path); err != nil {
			return fmt.Errorf(
				"the kernel has no driver %s, neither built in nor among the modules (give them with -modules DIR)",
				d.name,
			)
		}
	}
	if pid1.WaitFor(deviceTimeout, func() bool {
		up, _ := filepath.Glob("/sys/class/iommu/smmu3.*")
		return len(up) > 0
	}) {
		return nil
	}
	lines, err := kernelLines(smmuDriver)
	return errors.Join(fmt.Errorf("the arm-smmu-v3 driver found no SMMU; its log: %q", lines), err)
}

// waitForDisks waits for disks and returns their kernel names by serial.
func waitForDisks(serials ...string) (map[string]string, error) {
	names := map[string]string{}
	if pid1.WaitFor(deviceTimeout, func() bool {
		files, _ := filepath.Glob("/sys/block/vd*/serial")
		for _, file := range files {
			serial, _ := os.ReadFile(file)
			names[strings.TrimSpace(string(serial))] = filepath.Base(filepath.Dir(file))
		}
		return !slices.ContainsFunc(serials, func(serial string) bool { return names[serial] == "" })
	}) {
		return names, nil
	}
	return nil, fmt.Errorf(
		"waiting for the disks %v: only %v appeared, although the kernel has their drivers",
		serials,
		names,
	)
}

// kernelLines returns the messages in the kernel's log that contain a word, in order, without their
// prefixes.
func kernelLines(word string) ([]string, error) {
	return kernelLog(func(message string) bool { return strings.Contains(message, word) })
}

// kernelLog returns the messages in the kernel's log that match, in order, without their prefixes.
func kernelLog(match func(message string) bool) ([]string, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/kmsg: %w", err)
	}
	defer unix.Close(fd)
	var lines []string
	record := make([]byte, 8192) // a read returns one record, which is never longer
	for {
		n, err := unix.Read(fd, record)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return lines, nil
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR):
			// EPIPE: the kernel overwrote records. The next read continues after them.
			continue
		case err != nil:
			return nil, fmt.Errorf("/dev/kmsg: %w", err)
		case n == 0:
			return lines, nil
		}
		// "prefix;message", then continuation lines that start with a blank.
		_, message, _ := strings.Cut(string(record[:n]), ";")
		message, _, _ = strings.Cut(message, "\n")
		if match(message) {
			lines = append(lines, message)
		}
	}
}
