// Package pid1 has the common parts of the inits in the test boot's machines: file systems,
// drivers, power off.
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

// mounts are the file systems that Mount mounts.
var mounts = []struct{ kind, at string }{
	{"devtmpfs", "/dev"},
	{"proc", "/proc"},
	{"sysfs", "/sys"},
}

// Mount mounts devtmpfs, proc and sysfs.
func Mount() error {
	for _, m := range mounts {
		// EBUSY: the kernel has mounted it (CONFIG_DEVTMPFS_MOUNT).
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return nil
}

// LoadModules loads the modules in the initramfs.
func LoadModules() error {
	files, err := filepath.Glob("/" + kernel.ModulesGlob)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := load(file); err != nil {
			return fmt.Errorf("load module %s: %w", filepath.Base(file), err)
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

// WaitFor polls ready until it returns true, and reports whether it did within the timeout.
func WaitFor(timeout time.Duration, ready func() bool) bool {
	for end := time.Now().Add(timeout); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ready() {
			return true
		}
	}
	return ready()
}

// PowerOff powers the machine off. It returns only if the kernel refuses.
func PowerOff() error {
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
