// Package pid1 is what the init of either machine of the test boot needs: file systems, drivers, power off.
package pid1

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/kernel"
	"golang.org/x/sys/unix"
)

// mounts that every init of ours makes. All are virtual: nothing of the machine is touched.
var mounts = []struct{ kind, at string }{
	{"devtmpfs", "/dev"},
	{"proc", "/proc"},
	{"sysfs", "/sys"},
}

// Mount makes the mounts.
func Mount() error {
	for _, m := range mounts {
		// EBUSY: CONFIG_DEVTMPFS_MOUNT has been there before us.
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mounting %s: %w", m.at, err)
		}
	}
	return nil
}

// LoadModules loads the modules that the initramfs holds.
func LoadModules() error {
	files, err := filepath.Glob("/" + kernel.ModulesGlob)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := load(file); err != nil {
			return fmt.Errorf("loading %s: %w", filepath.Base(file), err)
		}
	}
	return nil
}

func load(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// WaitFor polls until ready says so, and reports whether it did before the time was over.
func WaitFor(timeout time.Duration, ready func() bool) bool {
	for end := time.Now().Add(timeout); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ready() {
			return true
		}
	}
	return ready()
}

// PowerOff ends the machine. It returns only if the kernel refuses.
func PowerOff() error {
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
