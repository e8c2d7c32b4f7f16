package kernel

import (
	"bytes"
	"debug/elf"
	"fmt"
	"slices"
	"strings"
)

// KVM is a driver for Check: the hypervisor, which arm64 kernels have built in or not at all.
const KVM = "kvm"

// traces are strings that a kernel image contains if it has the driver built in: the name under
// which the driver registers itself, or its messages. An image without any of a driver's traces
// does not have the driver.
var traces = map[string][]string{
	"virtio_blk":     {"virtio_blk"},
	"virtio_console": {"virtio_console"},
	"virtio_mmio":    {"virtio-mmio"},
	"virtio_pci":     {"virtio-pci"},
	"arm_smmu_v3":    {"arm-smmu-v3"},
	KVM:              {"kvm-arm.mode", "HYP mode not available"},
}

// Check returns an error if the modules belong to another kernel, or if a driver is neither built
// in nor among the modules. The image must be plain. Missing information in the files is no error.
func Check(image []byte, modules []Module, drivers ...string) error {
	if release := Release(image); release != "" {
		for _, m := range modules {
			if built := m.release(); built != "" && built != release {
				return fmt.Errorf("the module %s is for Linux %s, but the kernel is Linux %s", m.Name, built, release)
			}
		}
	}
	for _, driver := range drivers {
		marks := traces[driver]
		if len(marks) == 0 || slices.ContainsFunc(modules, func(m Module) bool { return m.Name == driver }) {
			continue
		}
		if !slices.ContainsFunc(marks, func(s string) bool { return bytes.Contains(image, []byte(s)) }) {
			return &MissingError{driver}
		}
	}
	return nil
}

// MissingError says that a kernel lacks a driver.
type MissingError struct{ Driver string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("the kernel has no %s, neither built in nor as a module", e.Driver)
}

// Release returns the kernel's release, as uname -r prints it, or "" if the image does not contain
// it. The image must be plain.
func Release(image []byte) string {
	// The banner, init/version.c: "Linux version 6.1.0 (builder) (compiler) #1 SMP".
	const banner = "Linux version "
	for {
		_, rest, found := bytes.Cut(image, []byte(banner))
		if !found {
			return ""
		}
		release, _, _ := bytes.Cut(rest[:min(len(rest), 65)], []byte(" ")) // __NEW_UTS_LEN is 64
		if len(release) > 0 && release[0] >= '0' && release[0] <= '9' {
			return string(release)
		}
		image = rest
	}
}

// release returns the release of the kernel for which the module was built, or "" if the module
// does not contain it.
func (m Module) release() string {
	file, err := elf.NewFile(bytes.NewReader(m.Data))
	if err != nil {
		return ""
	}
	magic, _ := modinfo(file, "vermagic")
	release, _, _ := strings.Cut(magic, " ")
	return release
}
