package machine

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// eduID is the PCI vendor and device ID of QEMU's edu.
const eduID = "0x1234:0x11e8"

// Alone returns the PCI addresses of the edu devices with an IOMMU group of their own.
func (m *Machine) Alone() []string { return addresses(true) }

// Siblings returns the PCI addresses of the edu devices that share an IOMMU group.
func (m *Machine) Siblings() []string { return addresses(false) }

func addresses(alone bool) []string {
	var found []string
	for _, dir := range PCIDevices(eduID) {
		group, _ := os.ReadDir(filepath.Join(dir, "iommu_group/devices"))
		if alone == (len(group) == 1) {
			found = append(found, filepath.Base(dir))
		}
	}
	return found
}

// PCIDevices returns the sysfs directories of the PCI devices with a vendor and device ID, such as
// 0x1234:0x11e8.
func PCIDevices(id string) []string {
	var found []string
	all, _ := filepath.Glob("/sys/bus/pci/devices/*")
	for _, dir := range all {
		vendor, _ := os.ReadFile(filepath.Join(dir, "vendor"))
		device, _ := os.ReadFile(filepath.Join(dir, "device"))
		if strings.TrimSpace(string(vendor))+":"+strings.TrimSpace(string(device)) == id {
			found = append(found, dir)
		}
	}
	return found
}

// GiveToVFIO unbinds a PCI device from its driver, if it has one, and binds it to vfio-pci.
func GiveToVFIO(dir string) error {
	address := []byte(filepath.Base(dir))
	unbind := os.WriteFile(filepath.Join(dir, "driver/unbind"), address, 0)
	if errors.Is(unbind, os.ErrNotExist) {
		unbind = nil
	}
	return errors.Join(
		unbind,
		os.WriteFile(filepath.Join(dir, "driver_override"), []byte("vfio-pci"), 0),
		os.WriteFile("/sys/bus/pci/drivers_probe", address, 0),
	)
}
