//go:build linux && (amd64 || arm64)

package iommufd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// FindDevice is the device node of the PCI device at an address such as 0000:00:02.0, as Add takes it. The device must be bound
// to vfio-pci, and the error says what it is bound to otherwise.
func FindDevice(address string) (path string, err error) {
	return findDevice("/sys/bus/pci/devices", address)
}

func findDevice(devices, address string) (string, error) {
	dir := filepath.Join(devices, address)
	if _, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("iommufd: PCI device %s: %w", address, err)
	}
	nodes, err := os.ReadDir(filepath.Join(dir, "vfio-dev"))
	if err == nil && len(nodes) == 1 {
		return filepath.Join("/dev/vfio/devices", nodes[0].Name()), nil
	}
	driver := "no driver"
	override, _ := os.ReadFile(filepath.Join(dir, "driver_override"))
	if link, err := os.Readlink(filepath.Join(dir, "driver")); err == nil {
		driver = "the driver " + filepath.Base(link)
	} else if strings.TrimSpace(string(override)) == "vfio-pci" {
		return "", fmt.Errorf("iommufd: PCI device %s: vfio-pci is to have it, and does not take it: the kernel's log says why, such as by error -22 for an IOMMU whose accesses are not cache-coherent, which VFIO insists on",
			address)
	}
	return "", fmt.Errorf("iommufd: PCI device %s is bound to %s and has no VFIO device node: write vfio-pci to %s/driver_override and %s to %s, and see that the kernel has CONFIG_VFIO_DEVICE_CDEV",
		address, driver, dir, address, "/sys/bus/pci/drivers_probe")
}
