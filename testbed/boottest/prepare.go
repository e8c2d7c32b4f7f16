package boottest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/testbed/boottest/vm"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/bundle"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/kernel"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/arm64image"
)

// Where the emulated host's initramfs holds the guest's parts.
const (
	jobFile    = "guest/job.json"
	imageFile  = "guest/image"
	initrdFile = "guest/initrd"
	peerDir    = "peer"
)

// The drivers that each machine needs beyond what every arm64 kernel has built in, and the guest's for its disks' transport.
// Those named first are what the others usually depend on: naming them spares a second pass over a package.
var (
	guestDrivers = []string{"virtio", "virtio_ring", "virtio_blk"}
	hostDrivers  = []string{"virtio", "virtio_ring", "virtio_mmio", "virtio_console"}
)

// machine is what is loaded into a machine's memory before it starts.
type machine struct {
	kernel string // the name of the file that the image is from
	image  []byte
	initrd []byte
}

// prepareGuest gathers the guest's kernel, modules and init.
func prepareGuest(o *Options, job vm.Job) (machine, error) {
	transport := "virtio_mmio"
	if job.PCI {
		transport = "virtio_pci"
	}
	return prepare(vm.Guest, o.Kernel, o.Modules, o.Agent, append(slices.Clone(guestDrivers), transport), nil)
}

// prepareHost gathers the emulated host's, with the guest's parts inside.
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
	return prepare(qemu.HostConsole, o.HostKernel, o.HostModules, o.Agent, hostDrivers, files)
}

func prepare(name, kernelPath, modulesPath, agent string, drivers []string, more []kernel.File) (machine, error) {
	file, raw, err := kernel.Image(kernelPath)
	if err != nil {
		return machine{}, fmt.Errorf("the %s's kernel: %w", name, err)
	}
	// Unwrapped here, since not every QEMU knows each wrapping; and looked at before anything is booted.
	image, err := arm64image.Parse(raw)
	if err != nil {
		return machine{}, fmt.Errorf("the %s's kernel: %s: %w", name, file, err)
	}
	init, err := os.ReadFile(agent)
	if err != nil {
		return machine{}, err
	}
	files := append([]kernel.File{{Name: "init", Mode: 0o755, Data: init}}, more...)
	if modulesPath != "" {
		modules, err := kernel.Modules(modulesPath, drivers...)
		if err != nil {
			return machine{}, fmt.Errorf("the %s's modules: %w", name, err)
		}
		files = append(files, kernel.ModuleFiles(modules)...)
	}
	var initrd bytes.Buffer
	if err := kernel.WriteInitramfs(&initrd, files); err != nil {
		return machine{}, fmt.Errorf("making the initramfs: %w", err)
	}
	return machine{filepath.Base(file), image.Data, initrd.Bytes()}, nil
}
