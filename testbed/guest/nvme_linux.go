package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/pid1"
)

// The NVMe disk's device name, PCI class and driver.
const (
	nvmeDisk   = "nvme0n1"
	nvmeClass  = "0x0108"
	nvmeDriver = "/sys/bus/pci/drivers/nvme/"
)

// nvme returns the sysfs directory of the NVMe disk's PCI function.
func nvme() (string, error) {
	classes, _ := filepath.Glob("/sys/bus/pci/devices/*/class")
	for _, file := range classes {
		if class, _ := os.ReadFile(file); strings.HasPrefix(string(class), nvmeClass) {
			return filepath.Dir(file), nil
		}
	}
	return "", errors.New("no NVMe disk on the PCI bus")
}

// nvmeGroup returns the domain type of the NVMe disk's IOMMU group, or "".
func nvmeGroup() string {
	dir, err := nvme()
	if err != nil {
		return ""
	}
	kind, _ := os.ReadFile(dir + "/iommu_group/type")
	return strings.TrimSpace(string(kind))
}

// waitForNVMe waits for the NVMe disk and returns the sysfs directory of its PCI function.
func waitForNVMe() (dir string, err error) {
	if !pid1.WaitFor(deviceTimeout, func() bool {
		_, err := os.Stat("/dev/" + nvmeDisk)
		return err == nil
	}) {
		return "", fmt.Errorf("%s did not appear", nvmeDisk)
	}
	return nvme()
}

// write writes a text to a file in sysfs.
func write(path, text string) error { return os.WriteFile(path, []byte(text), 0) }

// unbound unbinds the NVMe disk from its driver, calls do, and binds it again.
func unbound(do func(dir string) error) error {
	dir, err := waitForNVMe()
	if err != nil {
		return err
	}
	address := filepath.Base(dir)
	if err := write(nvmeDriver+"unbind", address); err != nil {
		return err
	}
	if err := do(dir); err != nil {
		return err
	}
	return write(nvmeDriver+"bind", address)
}
