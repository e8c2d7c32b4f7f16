//go:build linux && (amd64 || arm64)

package vm

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/movable"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/virtio"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// vm is a virtual machine with SMMUs.
type vm struct {
	*vmm.Machine
	ids    idr.Result // the ID registers that the guest reads
	memory guestmem.Slots
	smmus  []*movable.SMMU

	parts []io.Closer // close closes them from last to first
}

// cmdline returns the guest's command line.
func cmdline(job Job, role string) string {
	return strings.Join(
		[]string{"console=ttyAMA0 earlycon panic=-1", report.DefaultCmdline, job.Cmdline, "--", role},
		" ",
	)
}

// maxStalls is the number of transactions that may be stalled at a time.
const maxStalls = 8

// newVM returns a machine, which the caller must close. sent, unless nil, is called for each MSI of
// an endpoint.
func newVM(cfg vmm.Config, job Job, trace vsmmu.Trace, t *tape, sent func(smmuv3.StreamID)) (_ *vm, err error) {
	v := new(vm)
	defer func() {
		if err != nil {
			err = errors.Join(err, v.close())
		}
	}()
	cfg.Stalls, cfg.ACPI, cfg.Wiring = job.Stalls, job.ACPI, job.Wiring
	if job.UEFI {
		cfg = vmm.Config{
			Firmware: cfg.Kernel, Mem: cfg.Mem, CPUs: cfg.CPUs, Stalls: cfg.Stalls, Wiring: cfg.Wiring,
			Console: cfg.Console, Control: cfg.Control,
		}
	}
	if v.Machine, err = vmm.New(cfg); err != nil {
		return nil, err
	}
	v.parts = append(v.parts, v.Machine)
	if err := v.memory.Add(guestmem.Slot{GPA: vmm.RAMBase, Mem: v.Memory()}); err != nil {
		return nil, err
	}
	memory, err := guestmem.NewTracked(&v.memory)
	if err != nil {
		return nil, err
	}
	for n := range job.smmus() {
		if err := v.addSMMU(n, job, memory, trace, t, sent); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// identify returns the ID registers of a job's software host, and the policy of its devices.
func identify(job Job) (ids smmuv3.IDRegs, policy idr.Policy) {
	// With an MSI to memory, drivers see the completion of a CMD_SYNC without an exit.
	ids, policy = soft.DefaultIDs(), idr.Policy{smmuv3.MSI: 1}
	if job.Stage2 {
		ids = soft.Stage2IDs()
		policy[smmuv3.S1P], policy[smmuv3.S2P] = 0, 1
	}
	if job.PCI && !job.Stage2 {
		ids.Set(smmuv3.ATS, 1) // the host bridge then has ats-supported
	}
	if job.Stalls {
		ids.Set(smmuv3.StallModel, smmuv3.StallBoth)
		ids.Set(smmuv3.StallMax, maxStalls)
		policy[smmuv3.StallModel] = smmuv3.StallBoth
	}
	for f, value := range job.IDs {
		ids.Set(f, value)
		policy[f] = value
	}
	return ids, policy
}

// addSMMU adds the nth SMMU, with a software host of its own.
func (v *vm) addSMMU(
	n int, job Job, memory *guestmem.Tracked, trace vsmmu.Trace, t *tape, sent func(smmuv3.StreamID),
) error {
	ids, policy := identify(job)
	msi := v.SignalEndpointMSI
	if sent != nil {
		msi = func(sid smmuv3.StreamID, addr guestmem.GPA, data uint32) error {
			err := v.SignalEndpointMSI(sid, addr, data)
			if err == nil {
				sent(sid)
			}
			return err
		}
	}
	hosts := soft.Config{Memory: memory, MSI: msi, IDs: ids}
	host, err := soft.New(hosts)
	if err != nil {
		return err
	}
	capabilities, err := host.Capabilities()
	if err != nil {
		return err
	}
	if v.ids, err = idr.Derive(policy, capabilities); err != nil {
		return err
	}
	device := movable.Config{
		Device: vsmmu.Config{
			IDs: v.ids.IDs, Memory: memory, Interrupts: v.SMMUInterrupts(n), AbortAtReset: !job.UEFI, Trace: trace,
		},
		Host: hosts,
		New:  func(cfg vsmmu.Config) (movable.Device, error) { return t.device(cfg, policy, capabilities) },
	}
	if job.Moves > 0 {
		memory.NewAccount()
		device.Round = func() { memory.NewAccount() }
	}
	s, err := movable.New(device, host)
	if err != nil {
		return err
	}
	v.smmus = append(v.smmus, s)
	v.parts = append(v.parts, s)
	return v.AddSMMU(s, v.ids.IDs)
}

// addDisk adds a disk, as a PCI function or on the MMIO transport. The disk makes its DMA by dma,
// through the endpoint.
func (v *vm) addDisk(
	storage *os.File, serial string, pci bool, master vmm.Master, endpoint *soft.Endpoint, dma virtio.DMA,
) error {
	if err := v.smmus[master.SMMU].Attach(master.StreamID, endpoint); err != nil {
		return err
	}
	info, err := storage.Stat()
	if err != nil {
		return err
	}
	block, err := virtio.NewBlock(storage, info.Size(), serial)
	if err != nil {
		return err
	}
	if pci {
		return v.AddPCIDisk(block, dma, uint8(master.PASIDBits))
	}
	return v.AddDisk(block, dma, master)
}

// restart resets the machine and its SMMUs, so that Run boots again.
func (v *vm) restart() error {
	if err := v.Reset(); err != nil {
		return err
	}
	for _, s := range v.smmus {
		if err := s.Device().Reset(); err != nil {
			return err
		}
	}
	return nil
}

// close closes the SMMU before the parts that it uses. After close, no endpoint reaches memory, and
// no interrupt reaches the machine.
func (v *vm) close() (err error) {
	for _, part := range slices.Backward(v.parts) {
		err = errors.Join(err, part.Close())
	}
	return err
}
