package labtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Options describe a run of the lab. An empty path means the file that make puts beside the
// program.
type Options struct {
	Kernel   string // arm64 image of host and guest, plain or wrapped, with the options of testdata/lab/kernel.config
	Tests    string // test binary of package kerneltest for linux/arm64
	VMMTests string // test binary of package vmm for linux/arm64
	Agent    string // build of cmd/testbed for linux/arm64, which is the VMM and the guest's init
	QEMU     string // the emulator's binary, QEMU 9.1 or later
	Firmware string // QEMU_EFI.fd
	Report   string // the file for the report
	Only     string // the name of the one machine to run; empty for all
	Run      string // pattern of the tests that run, for a machine that Only names; empty for its usual tests
	IDs      IDs    // fields of the ID registers that differ, for a machine whose SMMU is ours
	Timeout  time.Duration
	Out      io.Writer // gets the consoles, the stages and the summary
}

// Paths of the files that make builds and fetches, relative to the program's directory.
const (
	testsName    = "lab/iommufd.test"
	vmmTestsName = "lab/vmm.test"
	agentName    = "testbed-linux-arm64"
	qemuName     = "qemu/qemu-system-aarch64"
	firmwareName = "qemu/QEMU_EFI.fd"
)

// complete fills in the defaults. If a default file does not exist, complete returns an error. With
// absent it leaves the path empty instead.
func (o *Options) complete(absent bool) error {
	if o.Kernel == "" {
		return errors.New("no kernel: give an arm64 image with -kernel IMAGE (make lab-kernel builds one)")
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	for _, file := range []struct {
		path             *string
		name, what, flag string
	}{
		{&o.Tests, testsName, "the tests of bridge/iommufd", "-tests"},
		{&o.VMMTests, vmmTestsName, "the tests of the VMM", "-vmm-tests"},
		{&o.Agent, agentName, "the build of testbed for linux/arm64", "-agent"},
		{&o.QEMU, qemuName, "the emulator", "-qemu"},
		{&o.Firmware, firmwareName, "the firmware", "-firmware"},
	} {
		if *file.path != "" {
			continue
		}
		path := filepath.Join(filepath.Dir(exe), file.name)
		switch _, err := os.Stat(path); {
		case err == nil:
			*file.path = path
		case !absent || !errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("%s: %w (run make lab, or give it with %s FILE)", file.what, err, file.flag)
		}
	}
	return nil
}
