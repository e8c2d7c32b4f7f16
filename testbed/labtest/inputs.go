package labtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/testbed/boottest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/kernel"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
	"github.com/go-vsmmu/vsmmuv3/testbed/report/reportfile"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/arm64image"
)

// The main packages of the programs that are the machines' inits.
const (
	agentPackage    = "github.com/go-vsmmu/vsmmuv3/testbed/cmd/testbed"
	testsPackage    = "github.com/go-vsmmu/vsmmuv3/testbed/labtest/kerneltest.test"
	vmmTestsPackage = "github.com/go-vsmmu/vsmmuv3/testbed/vmm.test"
)

// inputs holds the inputs that the options name.
type inputs struct {
	qemu                   string // its version
	image                  []byte // the plain kernel image
	agent, tests, vmmTests []byte
}

// Check returns a *boottest.InputError if it cannot use a file that the options name, including the
// report. It accepts the absence of a default that make has not yet built or fetched.
func Check(ctx context.Context, o Options) error {
	err := o.complete(true)
	if err == nil {
		_, err = o.chosen()
	}
	if err == nil {
		_, err = o.read(ctx)
	}
	if err == nil {
		err = reportfile.Prepare(o.Report)
	}
	if err != nil {
		return &boottest.InputError{Err: err}
	}
	return nil
}

// read reads and checks everything that the options name. It skips empty paths.
func (o *Options) read(ctx context.Context) (in inputs, err error) {
	if in.image, err = readKernel(o.Kernel); err != nil {
		return in, fmt.Errorf("the kernel: %w", err)
	}
	for _, program := range []struct {
		data                  *[]byte
		path, what, pkg, flag string
	}{
		{&in.agent, o.Agent, "the agent", agentPackage, "-agent"},
		{&in.tests, o.Tests, "the tests of bridge/iommufd", testsPackage, "-tests"},
		{&in.vmmTests, o.VMMTests, "the tests of the VMM", vmmTestsPackage, "-vmm-tests"},
	} {
		if *program.data, err = readProgram(program.path, program.pkg); err != nil {
			return in, fmt.Errorf("%s: %w (run make lab, or give a build for linux/arm64 with %s FILE)",
				program.what, err, program.flag)
		}
	}
	if o.QEMU != "" {
		if in.qemu, err = qemuVersion(ctx, o.QEMU); err != nil {
			return in, fmt.Errorf(
				"the emulator: %w (give QEMU 9.1 or later with -qemu FILE; make lab fetches one)",
				err,
			)
		}
	}
	if o.Firmware != "" {
		if err := checkFirmware(o.Firmware); err != nil {
			return in, fmt.Errorf("the firmware: %w (give QEMU_EFI.fd with -firmware FILE; make lab fetches one)", err)
		}
	}
	return in, o.checkReport()
}

// checkReport returns an error if the report would overwrite an input.
func (o *Options) checkReport() error {
	report, err := os.Stat(o.Report)
	if err != nil {
		return nil
	}
	for _, in := range []struct{ flag, path string }{
		{"-kernel", o.Kernel}, {"-tests", o.Tests}, {"-vmm-tests", o.VMMTests}, {"-agent", o.Agent},
		{"-qemu", o.QEMU}, {"-firmware", o.Firmware},
	} {
		if info, err := os.Stat(in.path); err == nil && os.SameFile(info, report) {
			return fmt.Errorf("-report %s would overwrite the input of %s (give another path)", o.Report, in.flag)
		}
	}
	return nil
}

// kernelOptions are options that the lab's kernel needs built in, since it loads no modules. Each
// has a string that only an image with the option contains. The string is the name of a driver, or
// of a parameter: its prefix is the driver's name only if the driver is built in.
var kernelOptions = []struct{ name, trace string }{
	{"CONFIG_ARM_SMMU_V3", "arm-smmu-v3"},
	{"CONFIG_IOMMUFD", "iommufd.allow_unsafe_interrupts"},
	{"CONFIG_VFIO_PCI", "vfio_pci.ids"},
	{"CONFIG_KVM", "kvm-arm.mode"},
	{"CONFIG_VIRTIO_MMIO", "virtio-mmio"},
	{"CONFIG_VIRTIO_CONSOLE", "virtio_console"},
	{"CONFIG_VIRTIO_BLK", "virtio_blk"},
	{"CONFIG_BLK_DEV_NVME", "nvme.use_threaded_interrupts"},
}

func readKernel(path string) ([]byte, error) {
	const advice = "give an arm64 image with -kernel IMAGE; make lab-kernel builds one"
	file, raw, err := kernel.Image(path)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, advice)
	}
	image, err := arm64image.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w (%s)", file, err, advice)
	}
	var missing []string
	for _, option := range kernelOptions {
		if !bytes.Contains(image.Data, []byte(option.trace)) {
			missing = append(missing, option.name)
		}
	}
	if len(missing) > 0 {
		const advice = "testdata/lab/kernel.config has all options; make lab-kernel builds such a kernel"
		return nil, fmt.Errorf("%s lacks %s, built in (%s)", file, strings.Join(missing, ", "), advice)
	}
	return image.Data, nil
}

func readProgram(path, pkg string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := kernel.CheckProgram(data, pkg); err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return data, nil
}

// checkFirmware returns an error if a file has no UEFI firmware volume. QEMU would run such a file,
// and print nothing.
func checkFirmware(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	// The signature in the header of a volume (PI specification, volume 3,
	// EFI_FIRMWARE_VOLUME_HEADER).
	if !bytes.Contains(data, []byte("_FVH")) {
		return fmt.Errorf("%s is not UEFI firmware", path)
	}
	return nil
}

// qemuVersion returns an emulator's version, and an error if its SMMUv3 does not nest, as before
// 9.1.
func qemuVersion(ctx context.Context, path string) (string, error) {
	version, err := qemu.Version(ctx, path)
	if err != nil {
		return "", err
	}
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return "", fmt.Errorf("%s: unknown version %q", path, version)
	}
	if major < 9 || major == 9 && minor < 1 {
		return "", fmt.Errorf("%s is QEMU %d.%d, whose SMMUv3 does not nest", path, major, minor)
	}
	return version, nil
}
