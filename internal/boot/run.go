//go:build linux && (amd64 || arm64)

package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/guest"
	"github.com/go-vsmmu/vsmmuv3/internal/lines"
	"github.com/go-vsmmu/vsmmuv3/internal/report"
	"github.com/go-vsmmu/vsmmuv3/internal/vmm"
	"github.com/go-vsmmu/vsmmuv3/internal/vmm/virtio"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// maxLine bounds a line of the guest's console.
const maxLine = 4 << 10

// Available says what keeps this machine from running the guest itself.
func Available() error {
	if runtime.GOARCH != "arm64" {
		return fmt.Errorf("a linux/arm64 machine can run the guest itself, this is linux/%s", runtime.GOARCH)
	}
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return kvm.Close()
}

// Run boots the guest and follows it to its end, or to that of ctx. What went wrong is in the report, which is not judged.
func Run(ctx context.Context, job Job, image, initrd []byte, sink Sink) *report.Report {
	r := &report.Report{}
	// An error that is there already was met first, and is nearer to the cause.
	if err := run(ctx, job, image, initrd, sink, r); err != nil && r.Error == "" {
		r.Error = err.Error()
	}
	return r
}

func run(ctx context.Context, job Job, image, initrd []byte, sink Sink, r *report.Report) error {
	files := map[string]*os.File{}
	for _, e := range endpoints {
		f, err := newBacking()
		if err != nil {
			return err
		}
		defer f.Close()
		files[e.serial] = f
	}
	c, err := runGuest(ctx, job, image, initrd, files, sink, r)
	if err != nil {
		return err
	}
	r.Guest.PoweredOff = true
	switch {
	case r.Error != "":
		return nil
	case !c.through:
		return errors.New("the guest powered off before its tests were through")
	}
	sink.Stage("the backing files are compared")
	for i := range r.Disks {
		d := &r.Disks[i]
		if d.Backing, err = verify(files[d.Serial], d.Serial); err != nil && d.Error == "" {
			d.Error = err.Error()
		}
	}
	return nil
}

// runGuest returns when the guest has powered off and nothing of the machine is left.
func runGuest(ctx context.Context, job Job, image, initrd []byte, files map[string]*os.File, sink Sink, r *report.Report) (c *control, err error) {
	var rogue *endpoint
	c = newControl(sink, r, func() { stray(rogue, r) })
	console := &lines.Writer{Max: maxLine, Emit: func(line string) { sink.Line(Guest, line) }}
	cmdline := strings.Join([]string{"console=ttyAMA0 earlycon panic=-1", report.DefaultCmdline, job.Cmdline, "--", guest.InitRole}, " ")
	r.Mode = report.ModeOf(cmdline, job.PASIDBits)
	m, err := vmm.New(vmm.Config{
		Kernel: image, Initrd: initrd, Mem: job.Mem, CPUs: job.CPUs, Cmdline: cmdline,
		Console: console, Control: c,
	})
	if err != nil {
		return nil, err
	}
	defer console.Flush()
	defer func() { err = errors.Join(err, m.Close()) }()

	var memory guestmem.Slots
	if err := memory.Add(guestmem.Slot{GPA: vmm.RAMBase, Mem: m.Memory()}); err != nil {
		return nil, err
	}
	host, err := soft.New(soft.Config{Memory: &memory})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	capabilities, err := host.Capabilities()
	if err != nil {
		return nil, err
	}
	ids, err := idr.Derive(nil, capabilities)
	if err != nil {
		return nil, err
	}
	for _, f := range ids.Fields {
		r.IDs = append(r.IDs, report.ID{
			Register: f.Field.Register(), Field: f.Field.String(), Host: f.Host, Guest: f.Guest, Reason: f.Reason,
		})
	}
	notes := newRecorder()
	device, err := vsmmu.New(vsmmu.Config{
		IDs: ids.Regs, Memory: &memory, Interrupts: interrupts{m}, AbortAtReset: true, Trace: notes.trace(),
	})
	if err != nil {
		return nil, err
	}
	// From its end on no endpoint reaches memory, and no interrupt the machine: then both may go.
	defer func() { err = errors.Join(err, device.Close()) }()
	if err := m.AddSMMU(device); err != nil {
		return nil, err
	}
	for _, e := range endpoints {
		ep := &endpoint{id: e.master.StreamID, serial: e.serial, dma: soft.NewEndpoint()}
		notes.endpoints[ep.id] = ep
		if err := device.Attach(ep.id, host, ep.dma); err != nil {
			return nil, err
		}
		block, err := virtio.NewBlock(files[e.serial], diskSize, e.serial)
		if err != nil {
			return nil, err
		}
		if e.serial == guest.PASID {
			e.master.PASIDBits = uint32(job.PASIDBits)
		}
		if err := m.AddDisk(block, ep, e.master); err != nil {
			return nil, err
		}
		if e.serial == guest.Rogue {
			rogue = ep
			r.Fault.StreamID, r.Fault.Address = uint32(ep.id), strayAddress
			continue
		}
		r.Disks = append(r.Disks, report.Disk{Serial: e.serial, StreamID: uint32(ep.id), Error: "the guest did not test it"})
	}

	sink.Stage("the guest's kernel boots")
	err = m.Run(ctx)
	notes.fill(r)
	return c, err
}

// stray makes the misbehaving endpoint's DMA.
func stray(rogue *endpoint, r *report.Report) {
	r.Fault.Made = true
	if err := rogue.ReadAt(make([]byte, 64), strayAddress); err != nil {
		r.Fault.Error = err.Error()
	}
}

// interrupts takes the device's interrupts to the machine.
type interrupts struct{ m *vmm.Machine }

var smmuLines = map[vsmmu.Line]vmm.SMMULine{
	vsmmu.LineEventQ: vmm.SMMUEventQ, vsmmu.LinePRIQ: vmm.SMMUPRIQ,
	vsmmu.LineCmdSync: vmm.SMMUCmdSync, vsmmu.LineGError: vmm.SMMUGError,
}

func (i interrupts) Pulse(line vsmmu.Line) error { return i.m.Pulse(smmuLines[line]) }

func (i interrupts) SignalMSI(addr guestmem.GPA, data uint32) error {
	return i.m.SignalMSI(addr, data)
}
