//go:build linux && (amd64 || arm64)

package vm

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/vfio"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/virtio"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// virtioID is the StreamID of the emulated disk. It is above the requester IDs of the machine's PCI
// buses.
const virtioID smmuv3.StreamID = 0x2000

// vm is the virtual machine with its SMMU and disks.
type vm struct {
	*vmm.Machine
	smmu  *vsmmu.Device
	parts []io.Closer // in the order of their creation
}

// newVM creates the machine, which then owns the host. On an error newVM closes the host.
func newVM(cfg vmm.Config, host *iommufd.Host, nvme string, disk *os.File, notes *notes) (_ *vm, err error) {
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	v := &vm{parts: []io.Closer{host}}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.close())
		}
	}()
	if v.Machine, err = vmm.New(cfg); err != nil {
		return nil, err
	}
	v.parts = append(v.parts, v.Machine)
	ram := guestmem.Slot{GPA: vmm.RAMBase, Mem: v.Memory()}
	memory := new(guestmem.Slots)
	if err := errors.Join(memory.Add(ram), host.Map(ram)); err != nil {
		return nil, err
	}
	device, err := host.Add(nvme)
	if err != nil {
		return nil, err
	}
	physical, err := host.Capabilities()
	if err != nil {
		return nil, err
	}
	// The guest gets the features that both hosts have. With MSIs of the SMMU, Linux polls memory
	// for the end of a CMD_SYNC, and loads no register.
	ids, err := idr.Derive(idr.Policy{smmuv3.MSI: 1}, physical, bridge.Capabilities{IDs: soft.DefaultIDs()})
	if err != nil {
		return nil, err
	}
	software, err := soft.New(soft.Config{Memory: memory, IDs: ids.IDs})
	if err != nil {
		return nil, err
	}
	v.parts = append(v.parts, software)
	v.smmu, err = vsmmu.New(vsmmu.Config{
		IDs: ids.IDs, Memory: memory, Interrupts: v.SMMUInterrupts(0), AbortAtReset: true,
		Trace: notes.trace(), Log: log,
	})
	if err != nil {
		return nil, err
	}
	v.parts = append(v.parts, v.smmu)
	if err := v.AddSMMU(v.smmu, ids.IDs); err != nil {
		return nil, err
	}
	if err := v.addVirtio(software, disk); err != nil {
		return nil, err
	}
	return v, v.addNVMe(&counted{host, notes}, device, log)
}

// addVirtio adds the emulated disk.
func (v *vm) addVirtio(host bridge.Host, disk *os.File) error {
	endpoint := soft.NewEndpoint()
	if err := v.smmu.Attach(virtioID, host, endpoint); err != nil {
		return err
	}
	block, err := virtio.NewBlock(disk, machine.DiskSize, guest.LabVirtio)
	if err != nil {
		return err
	}
	return v.AddDisk(block, endpoint, vmm.Master{StreamID: virtioID})
}

// addNVMe passes the NVMe disk through, behind a root port. It attaches the stream with the disk's
// current requester ID.
func (v *vm) addNVMe(host *counted, device *iommufd.Device, log *slog.Logger) error {
	physical, err := vfio.Open(device.FD())
	if err != nil {
		return err
	}
	var at smmuv3.StreamID
	stream := func(sid smmuv3.StreamID, ok bool) (err error) {
		defer func() { host.notes.place(at, ok, err) }()
		if !ok {
			return v.smmu.Detach(at)
		}
		at = sid
		return v.smmu.Attach(sid, host, device)
	}
	remove, err := v.AddPCIDevice(vmm.PCIDevice{Device: physical, BehindPort: true, Log: log, Stream: stream})
	if err != nil {
		return err
	}
	release := func() error { return errors.Join(remove(), device.Close()) }
	watch, err := watchRemoval(physical.EnableRemoval, release)
	if err != nil {
		return err
	}
	v.parts = append(v.parts, watch)
	return nil
}

// restart resets the machine for the next boot, and with smmu also the SMMU.
func (v *vm) restart(smmu bool) error {
	if err := v.Reset(); err != nil || !smmu {
		return err
	}
	return v.smmu.Reset()
}

// close closes the parts in reverse. It closes the SMMU before the hosts, memory and machine.
// Afterwards no endpoint reaches memory, and no interrupt reaches the machine. It closes the
// machine before the host whose device the machine uses.
func (v *vm) close() (err error) {
	for _, part := range slices.Backward(v.parts) {
		err = errors.Join(err, part.Close())
	}
	return err
}
