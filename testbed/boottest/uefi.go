package boottest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/esp"
)

// Files of Options.EFI: EDK2's ArmVirtQemu, and systemd's boot loader.
const (
	firmwareFile = "QEMU_EFI.fd"
	loaderFile   = "systemd-bootaa64.efi"
)

const efiAdvice = "run make boot BOOT_FLAGS='-firmware uefi', or give their directory with -efi DIR"

// bootFrom changes a machine with a kernel and an initramfs: firmware then boots both from a disk
// with an EFI System Partition. The machine's image is then the firmware, and its initrd is the
// disk.
func (m *machine) bootFrom(dir, cmdline string) error {
	firmware, err := os.ReadFile(filepath.Join(dir, firmwareFile))
	if err != nil {
		return fmt.Errorf("the firmware: %w (%s)", err, efiAdvice)
	}
	if err := checkFirmware(firmware); err != nil {
		return fmt.Errorf("the firmware: %s: %w (%s)", filepath.Join(dir, firmwareFile), err, efiAdvice)
	}
	loader, err := os.ReadFile(filepath.Join(dir, loaderFile))
	if err != nil {
		return fmt.Errorf("the boot loader: %w (%s)", err, efiAdvice)
	}
	if !isPE(loader) {
		return fmt.Errorf("the boot loader: %s is not an EFI program (%s)", filepath.Join(dir, loaderFile), efiAdvice)
	}
	if !isPE(m.image) {
		return errors.New("the guest's kernel has no EFI stub (CONFIG_EFI_STUB): firmware cannot boot it")
	}
	disk, err := esp.Disk(
		esp.File{Path: "EFI/BOOT/BOOTAA64.EFI", Data: loader},
		esp.File{Path: "loader/loader.conf", Data: []byte("timeout 0\ndefault linux.conf\n")},
		esp.File{Path: "loader/entries/linux.conf", Data: fmt.Appendf(nil,
			"title Linux\nlinux /vmlinuz\ninitrd /initrd\noptions %s\n", cmdline)},
		esp.File{Path: "vmlinuz", Data: m.image},
		esp.File{Path: "initrd", Data: m.initrd},
	)
	if err != nil {
		return err
	}
	m.loaded = int64(len(m.image) + len(m.initrd))
	m.image, m.initrd = firmware, disk
	return nil
}

// checkFirmware returns an error if data is not UEFI firmware for a machine's flash.
func checkFirmware(data []byte) error {
	const (
		signature = "_FVH" // of a firmware volume
		most      = 64 << 20
	)
	switch {
	case len(data) > most:
		return fmt.Errorf("%d bytes are more than the flash's %d", len(data), most)
	case !bytes.Contains(data[:min(len(data), 64<<10)], []byte(signature)):
		return errors.New("not UEFI firmware")
	}
	return nil
}

// isPE reports whether data begins as an EFI program does.
func isPE(data []byte) bool { return bytes.HasPrefix(data, []byte("MZ")) }
