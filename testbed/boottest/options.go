package boottest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/go-vsmmu/vsmmuv3/testbed/boottest/vm"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
)

// Options describe a boot. An empty path stands for the file that make puts beside the program.
type Options struct {
	Kernel      string // the guest's: an image, a Debian package, or a directory that contains either
	Modules     string // the guest's: a directory or a Debian package; empty: those beside Kernel
	HostKernel  string // the emulated host's, as Kernel
	HostModules string // as Modules
	Agent       string // the build of this program for linux/arm64
	QEMU        string // the emulator's binary
	Cmdline     string // appended to the guest's command line
	Accel       string // one of Accels
	Mem         uint64 // the guest's memory in bytes
	Peer        string // Bench only: the root directory of an arm64 QEMU with its libraries
	Rounds      uint   // Bench only: how often each guest boots
	Tables      string // Tables only: the names of vm.Tables, with commas between them; empty for all
	Transport   string // of the disks, one of Transports
	Firmware    string // how the guest finds its hardware, one of Firmwares
	EFI         string // uefi only: the directory with the firmware and the boot loader
	PASIDBits   uint   // pasid-num-bits of the endpoint that has it, 1 to MaxPASIDBits
	Stage       uint   // the stage that the SMMU has, 1 or 2
	Stalls      bool   // the misbehaving endpoint's DMA stalls
	Report      string // the file for the report
	Record      string // the file for a transcript of the SMMU's guest; empty for no transcript
	Rebind      bool   // the guest unbinds the disks from their driver and binds them again
	Moves       uint   // how often the SMMU is saved, discarded and restored; up to MaxMoves
	Timeout     time.Duration
	Out         io.Writer // gets the consoles, the stages and the summary
}

// Accels are the values of Options.Accel: kvm is this machine's own KVM, and tcg is the KVM of a
// host that QEMU emulates. auto means kvm on an arm64 machine that has it, and tcg elsewhere.
var Accels = []string{"auto", "kvm", "tcg"}

// Transports are the values of Options.Transport. With mixed, the disk plain is a PCI function, and
// the others are on MMIO.
var Transports = []string{"mmio", "pci", "mixed"}

// Firmwares are the values of Options.Firmware: dt is a device tree, acpi are ACPI tables without
// firmware, and uefi is EDK2, which boots from a disk.
var Firmwares = []string{"dt", "acpi", "uefi"}

// MinMem and MaxMem bound Options.Mem.
const (
	MinMem = 128 << 20
	MaxMem = 32 << 30
)

// MaxPASIDBits bounds Options.PASIDBits: the width of a SubstreamID.
const MaxPASIDBits = 20

// MaxMoves bounds Options.Moves: at most one for each piece of the disks' DMA.
const MaxMoves = 500

// InputError is an error in the options or on this machine. Nothing was booted.
type InputError struct{ Err error }

func (e *InputError) Error() string { return e.Err.Error() }
func (e *InputError) Unwrap() error { return e.Err }

// Names of the files that make puts beside the program.
const (
	kernelDir = "kernel"
	peerName  = "peer"
	efiDir    = "efi"
	agentName = "testbed-linux-arm64"
)

// complete fills in the defaults and checks everything except the kernels. It reports whether the
// boot uses this machine's own KVM.
func (o *Options) complete(ctx context.Context, why purpose) (direct bool, err error) {
	exe, err := os.Executable()
	if err != nil {
		return false, err
	}
	beside := filepath.Dir(exe)
	if direct, err = chooseAccel(o.Accel); err != nil {
		return false, err
	}
	if o.Mem < MinMem || o.Mem > MaxMem {
		return false, fmt.Errorf("the guest cannot have %d MiB of memory: give from %d MiB to %d GiB",
			o.Mem>>20, MinMem>>20, MaxMem>>30)
	}
	if !slices.Contains(Transports, o.Transport) {
		return false, fmt.Errorf("-transport %s: not one of %v", o.Transport, Transports)
	}
	if !slices.Contains(Firmwares, o.Firmware) {
		return false, fmt.Errorf("-firmware %s: not one of %v", o.Firmware, Firmwares)
	}
	if o.Transport == "pci" && o.Stalls {
		return false, errors.New(
			"no DMA of a PCI device may stall (IHI 0070 §3.12.1): give -transport mmio or no -stall",
		)
	}
	if o.mixed() && o.Firmware == "dt" {
		return false, errors.New("-transport mixed: only with -firmware acpi or uefi")
	}
	if o.uefi() && o.Record != "" {
		return false, errors.New("-record: not with -firmware uefi")
	}
	if o.uefi() && o.EFI == "" {
		o.EFI = filepath.Join(beside, efiDir)
	}
	if o.PASIDBits < 1 || o.PASIDBits > MaxPASIDBits {
		return false, fmt.Errorf("PASIDs of %d bits: give from 1 to %d", o.PASIDBits, MaxPASIDBits)
	}
	if o.Stage < 1 || o.Stage > 2 {
		return false, fmt.Errorf("stage %d: give 1 or 2", o.Stage)
	}
	if o.Stage == 2 && o.Stalls {
		return false, errors.New("-stage 2 with -stall: give only one of them (Linux enables no stalls of stage 2)")
	}
	if o.Moves > MaxMoves {
		return false, fmt.Errorf("-save-restore %d: give up to %d", o.Moves, MaxMoves)
	}
	if o.Moves > 0 && o.Record != "" {
		return false, errors.New("a transcript records one device, and -save-restore makes others: " +
			"give -record alone, and restore with vsmmu replay -restored")
	}
	if names := vm.TableNames(); why == byTables {
		for _, name := range o.tables() {
			if !slices.Contains(names, name) {
				return false, fmt.Errorf("-only %s: not one of %v", name, names)
			}
		}
	}
	if why == benchmark && o.Rounds < 1 {
		return false, errors.New("0 rounds: measure at least once")
	}
	if o.Agent == "" {
		o.Agent = filepath.Join(beside, agentName)
		if !exists(o.Agent) && runtime.GOOS == "linux" && runtime.GOARCH == "arm64" {
			o.Agent = exe
		}
	}
	if _, err := ReadAgent(o.Agent); err != nil {
		return false, err
	}
	fetched := filepath.Join(beside, kernelDir)
	if o.Kernel, err = orFetched(o.Kernel, fetched, "-kernel"); err != nil {
		return false, err
	}
	if o.Modules == "" && holdsModules(o.Kernel) {
		o.Modules = o.Kernel
	}
	if why == benchmark {
		if o.Peer == "" {
			o.Peer = filepath.Join(beside, peerName)
		}
		if o.Peer, err = filepath.Abs(o.Peer); err != nil {
			return false, err
		}
		if !exists(o.Peer) {
			return false, fmt.Errorf(
				"no arm64 QEMU to compare with at %s: run make bench-boot, or give one with -peer DIR",
				o.Peer,
			)
		}
	}
	if direct {
		return true, o.checkOutputs()
	}
	if o.HostKernel, err = orFetched(o.HostKernel, fetched, "-host-kernel"); err != nil {
		return false, err
	}
	if o.HostModules == "" && holdsModules(o.HostKernel) {
		o.HostModules = o.HostKernel
	}
	if o.QEMU == "" {
		o.QEMU = "qemu-system-aarch64"
	}
	if o.QEMU, err = exec.LookPath(o.QEMU); err != nil {
		return false, fmt.Errorf("the emulator: %w: %s", err, qemuAdvice)
	}
	if _, err := qemu.Version(ctx, o.QEMU); err != nil {
		return false, fmt.Errorf("the emulator: %w: %s", err, qemuAdvice)
	}
	return false, o.checkOutputs()
}

const qemuAdvice = "install it (Debian: apt-get install qemu-system-arm), give it with -qemu FILE, " +
	"or run on an arm64 machine with /dev/kvm"

// tables returns the names of the tables by which the guest boots.
func (o *Options) tables() []string {
	if o.Tables == "" {
		return vm.TableNames()
	}
	return strings.Split(o.Tables, ",")
}

func (o *Options) uefi() bool  { return o.Firmware == "uefi" }
func (o *Options) pci() bool   { return o.Transport == "pci" || o.mixed() }
func (o *Options) mixed() bool { return o.Transport == "mixed" }

// chooseAccel reports whether the guest runs on this machine's own KVM.
func chooseAccel(accel string) (direct bool, err error) {
	switch accel {
	case "tcg":
		return false, nil
	case "auto":
		return vm.Available() == nil, nil
	case "kvm":
		if err := vm.Available(); err != nil {
			return false, fmt.Errorf("-accel kvm: %w", err)
		}
		return true, nil
	}
	return false, fmt.Errorf("-accel %s: not one of %v", accel, Accels)
}

func orFetched(path, fetched, flag string) (string, error) {
	if path != "" {
		return path, nil
	}
	if !exists(fetched) {
		return "", fmt.Errorf("no kernel in %s: run make boot, or give an arm64 one with %s FILE", fetched, flag)
	}
	return fetched, nil
}

// holdsModules reports whether the kernel is in a directory or package, which may have its modules
// too.
func holdsModules(kernel string) bool {
	info, err := os.Stat(kernel)
	return err == nil && (info.IsDir() || filepath.Ext(kernel) == ".deb")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, os.ErrNotExist)
}
