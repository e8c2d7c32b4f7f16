package boottest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/testbed/boottest/vm"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/bundle"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/kernel"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/arm64image"
)

// Paths of the guest's parts in the emulated host's initramfs.
const (
	jobFile    = "guest/job.json"
	imageFile  = "guest/image"
	initrdFile = "guest/initrd"
	peerDir    = "peer"
)

// The drivers that each machine needs, built in or as modules; the guest also needs the driver of
// its disks' transport. The first drivers are dependencies of the others: naming them avoids a
// second pass over a package.
var (
	guestDrivers = []string{"virtio", "virtio_ring", "virtio_blk"}
	hostDrivers  = []string{"virtio", "virtio_ring", "virtio_mmio", "virtio_console"}
)

// machine has the files that are loaded into a machine's memory.
type machine struct {
	kernel string // the name of the image's file
	image  []byte
	initrd []byte
	loaded int64 // bytes of kernel and initramfs on the disk, if firmware boots the machine
}

// prepareGuest reads the guest's kernel, modules and init.
func prepareGuest(o *Options, job vm.Job) (machine, error) {
	drivers := slices.Clone(guestDrivers)
	if !job.PCI || job.Mixed {
		drivers = append(drivers, "virtio_mmio")
	}
	if job.PCI || len(job.Tables) > 0 {
		drivers = append(drivers, "virtio_pci")
	}
	if job.UEFI && !job.PCI {
		drivers = append(drivers, "virtio_pci") // of the disk that the firmware boots from
	}
	m, err := prepare(vm.Guest, o.Kernel, o.Modules, o.Agent, "arm_smmu_v3", drivers, nil)
	if err == nil && job.UEFI {
		err = m.bootFrom(o.EFI, vm.Cmdline(job))
	}
	return m, err
}

// prepareHost reads the emulated host's kernel, modules and init, and puts the guest's files into
// the host's initramfs.
func prepareHost(o *Options, job vm.Job, guest machine) (machine, error) {
	files := []kernel.File{
		{Name: imageFile, Mode: 0o644, Data: guest.image},
		{Name: initrdFile, Mode: 0o644, Data: guest.initrd},
	}
	if job.Peer != "" {
		peer, err := bundle.Gather(job.Peer, vm.PeerProgram)
		if err != nil {
			return machine{}, fmt.Errorf("the QEMU to compare with: %w", err)
		}
		for _, f := range peer {
			f.Name = path.Join(peerDir, f.Name)
			files = append(files, f)
		}
		job.Peer = "/" + peerDir
	}
	description, err := json.Marshal(job)
	if err != nil {
		return machine{}, err
	}
	files = append(files, kernel.File{Name: jobFile, Mode: 0o644, Data: description})
	return prepare(qemu.HostConsole, o.HostKernel, o.HostModules, o.Agent, kernel.KVM, hostDrivers, files)
}

// prepare reads a kernel and its modules. The kernel must have the drivers, built in or as modules,
// and the driver builtin, built in.
func prepare(
	name, kernelPath, modulesPath, agent, builtin string, drivers []string, more []kernel.File,
) (machine, error) {
	file, raw, err := kernel.Image(kernelPath)
	if err != nil {
		return machine{}, fmt.Errorf("the %s's kernel: %w", name, err)
	}
	// Some versions of QEMU do not unwrap every kind of image.
	image, err := arm64image.Parse(raw)
	if err != nil {
		return machine{}, fmt.Errorf("the %s's kernel: %s: %w", name, file, err)
	}
	init, err := ReadAgent(agent)
	if err != nil {
		return machine{}, err
	}
	files := append([]kernel.File{{Name: "init", Mode: 0o755, Data: init}}, more...)
	var modules []kernel.Module
	if modulesPath != "" {
		if modules, err = kernel.Modules(modulesPath, drivers...); err != nil {
			return machine{}, fmt.Errorf("the %s's modules: %w", name, err)
		}
		files = append(files, kernel.ModuleFiles(modules)...)
	}
	if err := kernel.Check(image.Data, modules, append(slices.Clone(drivers), builtin)...); err != nil {
		return machine{}, fmt.Errorf("the %s's kernel: %s: %w (%s)", name, file, err, advice(name, err, builtin))
	}
	var initrd bytes.Buffer
	if err := kernel.WriteInitramfs(&initrd, files); err != nil {
		return machine{}, fmt.Errorf("the %s's initramfs: %w", name, err)
	}
	return machine{kernel: filepath.Base(file), image: image.Data, initrd: initrd.Bytes()}, nil
}

// advice returns advice for a kernel that lacks a driver or has the modules of another kernel.
func advice(name string, err error, builtin string) string {
	kernelFlag, modulesFlag := "-kernel", "-modules"
	if name == qemu.HostConsole {
		kernelFlag, modulesFlag = "-host-kernel", "-host-modules"
	}
	if missing := new(kernel.MissingError); errors.As(err, &missing) && missing.Driver == builtin {
		return "give another kernel with " + kernelFlag + " FILE"
	}
	return "give the kernel's modules with " + modulesFlag + " DIR"
}
