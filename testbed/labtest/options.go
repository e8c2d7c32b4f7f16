package labtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Options say what to run, and with what. Empty paths stand for what make puts beside the program.
type Options struct {
	Kernel   string // arm64 image with iommufd, of host and guest: plain, or in any wrapping that the boot takes
	Tests    string // bridge/iommufd's tests for linux/arm64
	VMMTests string // internal/vmm's
	Agent    string // cmd/vsmmu for linux/arm64, which is the VMM and the guest's init
	QEMU     string // the emulator's binary
	Firmware string // QEMU_EFI.fd
	Report   string // where the report goes
	Timeout  time.Duration
	Out      io.Writer // the consoles, the stages and the summary
}

// Parts of an installation, beside the program.
const (
	testsName    = "lab/iommufd.test"
	vmmTestsName = "lab/vmm.test"
	agentName    = "testbed-linux-arm64"
	qemuName     = "qemu/qemu-system-aarch64"
	firmwareName = "qemu/QEMU_EFI.fd"
)

// complete fills in the defaults.
func (o *Options) complete() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if o.Kernel == "" {
		return errors.New("no kernel is given: -kernel IMAGE, with iommufd and KVM (make lab-kernel builds one)")
	}
	for _, file := range []struct {
		path       *string
		name, flag string
	}{
		{&o.Tests, testsName, "-tests"},
		{&o.VMMTests, vmmTestsName, "-vmm-tests"},
		{&o.Agent, agentName, "-agent"},
		{&o.QEMU, qemuName, "-qemu"},
		{&o.Firmware, firmwareName, "-firmware"},
	} {
		if *file.path == "" {
			*file.path = filepath.Join(filepath.Dir(exe), file.name)
			if _, err := os.Stat(*file.path); err != nil {
				return fmt.Errorf("%w: run make lab, or give it with %s FILE", err, file.flag)
			}
		}
	}
	return nil
}

// qemuVersion is the emulator's, if it is recent enough: an older one would itself say so in words that nobody understands.
func qemuVersion(ctx context.Context, path string) (string, error) {
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	version := strings.TrimPrefix(line, "QEMU emulator version ")
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return "", fmt.Errorf("%s is not QEMU: it says %q", path, line)
	}
	if major < 9 || major == 9 && minor < 1 {
		return "", fmt.Errorf("%s: QEMU %d.%d has no nested SMMUv3: 9.1 or later is needed (bookworm-backports has one)", path, major, minor)
	}
	return version, nil
}
