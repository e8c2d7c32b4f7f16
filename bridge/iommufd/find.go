//go:build linux && (amd64 || arm64)

package iommufd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// FindDevice returns the VFIO device node of the PCI device at an address such as 0000:00:02.0, for
// Host.Add. It fails if the device is not bound to vfio-pci.
func FindDevice(address string) (path string, err error) {
	return findDevice("/sys/bus/pci/devices", address)
}

func findDevice(devices, address string) (string, error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("iommufd: find PCI device %s: %w", address, err)
	}
	dir := filepath.Join(devices, address)
	if address == "" || filepath.Base(dir) != address {
		return fail(fmt.Errorf("%q is not a PCI address (want an address such as 0000:00:02.0)", address))
	}
	if _, err := os.Stat(dir); err != nil {
		return fail(err)
	}
	nodes, err := os.ReadDir(filepath.Join(dir, "vfio-dev"))
	if err == nil && len(nodes) == 1 {
		return filepath.Join("/dev/vfio/devices", nodes[0].Name()), nil
	}
	driver := "no driver"
	if link, err := os.Readlink(filepath.Join(dir, "driver")); err == nil {
		driver = "the driver " + filepath.Base(link)
	} else if b, _ := os.ReadFile(filepath.Join(dir, "driver_override")); strings.TrimSpace(string(b)) == "vfio-pci" {
		return fail(errors.New("driver_override is vfio-pci but the device did not bind " +
			"(see dmesg; -22 means the IOMMU is not cache-coherent)"))
	}
	return fail(fmt.Errorf("bound to %s and without VFIO device node "+
		"(write vfio-pci to %s/driver_override, then %s to /sys/bus/pci/drivers_probe; "+
		"the kernel needs CONFIG_VFIO_DEVICE_CDEV)",
		driver, dir, address))
}
