package guest

import (
	"fmt"
	"os"
	"strings"
)

const deviceTree = "/sys/firmware/devicetree/base"

// describe returns how the kernel found its hardware. plain is the kernel's name of that disk.
func describe(plain string) (*Description, error) {
	d := &Description{By: ByTree}
	var err error
	if d.Bugs, err = kernelLog(blamesFirmware); err != nil {
		return nil, err
	}
	table, err := os.ReadFile("/proc/interrupts")
	if err != nil {
		return nil, err
	}
	d.Interrupts = parseInterrupts(string(table))
	if d.Reserved, err = reserved(plain); err != nil {
		return nil, err
	}
	if _, err := os.Stat("/sys/firmware/acpi/tables/IORT"); err == nil {
		d.By = ByACPI
		return d, nil
	}
	if d.Nodes, err = readTree(deviceTree); err != nil {
		return nil, fmt.Errorf("device tree: %w", err)
	}
	return d, nil
}

// reserved returns the identity-mapped ranges of a disk's group; none without an IOMMU.
func reserved(disk string) (ranges []string, err error) {
	dir, err := masterOf(disk)
	if err != nil {
		return nil, err
	}
	regions, err := os.ReadFile(dir + "/iommu_group/reserved_regions")
	if os.IsNotExist(err) {
		return nil, nil
	}
	for line := range strings.Lines(string(regions)) {
		if line = strings.TrimSpace(line); strings.Contains(line, " direct") {
			ranges = append(ranges, line)
		}
	}
	return ranges, err
}
