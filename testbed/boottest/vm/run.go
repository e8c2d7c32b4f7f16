//go:build linux && (amd64 || arm64)

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/go-vsmmu/vsmmuv3/internal/asjson"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/console"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/kvm"
)

// maxLine bounds a line of the guest's console.
const maxLine = 4 << 10

// Available returns an error if this machine cannot run the guest itself.
func Available() error {
	if runtime.GOARCH != "arm64" {
		return fmt.Errorf("only linux/arm64 machines run the guest themselves, this one is linux/%s", runtime.GOARCH)
	}
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return kvm.Close()
}

// Cmdline returns the command line of a job's guest.
func Cmdline(job Job) string { return cmdline(job, role(job)) }

// Run boots the guest, boots it by each of the job's tables, or runs the benchmark, until its end or
// until ctx ends. With UEFI, image is the firmware, and initrd the disk that it boots from. The report
// has the error, and no verdicts.
func Run(ctx context.Context, job Job, image, initrd []byte, sink Sink) *report.Report {
	r := &report.Report{}
	job = job.complete()
	// Linux patches its scheduler (preempt notifiers) when it creates the first VM, and when the last
	// is gone. KVM of an emulated host has missed notifiers soon after that: it then warns, and the
	// guest hangs. This VM has no vCPU. It makes Linux patch once, and before the guest runs.
	if first, err := kvm.NewVM(); err == nil {
		defer first.Close()
	}
	var err error
	switch {
	case job.Peer != "":
		r.Bench, err = runBench(ctx, job, image, initrd, sink)
	case len(job.Tables) > 0:
		r.Tables, err = runTables(ctx, job, image, initrd, sink)
	default:
		err = run(ctx, job, image, initrd, sink, r)
	}
	// An earlier error is nearer to the cause.
	if err != nil && r.Error == "" {
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
		return errors.New("the guest powered off before the end of its tests")
	}
	sink.Stage("the host compares the backing files")
	for i := range r.Disks {
		d := &r.Disks[i]
		if d.Backing, err = verify(files[d.Serial], d.Serial, guest.SizeOf(job.Quick)); err != nil && d.Error == "" {
			d.Error = err.Error()
		}
	}
	return nil
}

// runGuest runs the guest until it has powered off, and closes the machine.
func runGuest(
	ctx context.Context, job Job, image, initrd []byte, files map[string]*os.File, sink Sink, r *report.Report,
) (c *control, err error) {
	var rogue *endpoint
	t := &tape{Sink: sink, job: job}
	c = newControl(t, r, func() { stray(ctx, rogue, r) })
	out := &console.Writer{Max: maxLine, Emit: func(line string) { sink.Line(Guest, line) }}
	defer out.Flush()
	cmdline := Cmdline(job)
	r.Mode = mode(job, cmdline)
	notes := newRecorder()
	v, err := newVM(vmm.Config{
		Kernel: image, Initrd: initrd, Mem: job.Mem, CPUs: job.CPUs, Cmdline: cmdline, Console: out, Control: c,
	}, job, notes.trace(), t, notes.message)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, v.close())
		c.rogueRun.Wait() // closing the SMMU ends its DMA
	}()
	for _, f := range v.ids.Fields {
		r.IDs = append(r.IDs, asjson.ID{
			Register: f.Field.Register(), Field: f.Field.String(), Host: f.Host, Guest: f.Guest, Reason: f.Reason,
		})
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	mover := newMover(v.smmus[0], job.Moves, cancel)
	for n := range v.smmus {
		intids := map[string]uint32{}
		for line, intid := range job.Wiring.SMMUINTIDs(n, v.ids.IDs) {
			intids[line.String()] = intid
		}
		r.Wiring.SMMUs = append(r.Wiring.SMMUs, intids)
	}
	r.Wiring.ITS = !job.Wiring.NoITS
	for i, e := range endpoints {
		master := job.master(i)
		ep := &endpoint{id: master.StreamID, serial: e.serial, dma: soft.NewEndpoint(), mover: mover, tap: t.dma}
		notes.endpoints[ep.id] = ep
		if err := v.addDisk(files[e.serial], e.serial, job.onPCI(i), master, ep.dma, ep); err != nil {
			return nil, err
		}
		if job.onPCI(i) {
			r.Wiring.Functions++
		} else {
			r.Wiring.Disks = append(r.Wiring.Disks, vmm.DiskINTID(len(r.Wiring.Disks)))
		}
		if e.serial == guest.Rogue {
			rogue = ep
			r.Fault.StreamID, r.Fault.Address = uint32(ep.id), strayAddress
			continue
		}
		r.Disks = append(r.Disks, report.Disk{Serial: e.serial, StreamID: uint32(ep.id), Error: report.NotTested})
	}

	if job.UEFI {
		esp, err := job.addESP(v, initrd, mover, t, notes)
		if err != nil {
			return nil, err
		}
		defer esp.Close()
		r.Wiring.Functions++
		t.Stage("the firmware boots from its disk")
	} else {
		t.Stage("the guest's kernel boots")
	}
	if job.UEFI {
		c.reboots = firmwareReboots
	}
	for err = v.Run(ctx); errors.Is(err, vmm.ErrGuestReset) && r.Reboots < r.Mode.Reboots; {
		r.Reboots++
		if err = v.restart(); err == nil {
			err = v.Run(ctx)
		}
	}
	notes.fill(r)
	mover.fill(r)
	return c, err
}

// firmwareReboots is how often a guest that firmware boots is rebooted before its tests.
const firmwareReboots = 1

// role returns the arguments of the guest's init.
func role(job Job) string {
	words := []string{guest.InitRole}
	for _, w := range []struct {
		is   bool
		word string
	}{{job.Rebind, guest.Rebind}, {job.PCI, guest.PCI}, {job.Quick, guest.Quick}, {job.UEFI, guest.Reboot}} {
		if w.is {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, " ")
}

// mode returns how the guest is booted.
func mode(job Job, cmdline string) report.Mode {
	m := report.ModeOf(cmdline, job.PASIDBits)
	m.PCI, m.Mixed, m.ACPI, m.UEFI = job.PCI, job.Mixed, job.ACPI || job.UEFI, job.UEFI
	m.Stage2, m.Stalls, m.Rebind, m.Moves, m.Quick = job.Stage2, job.Stalls, job.Rebind, job.Moves, job.Quick
	if job.UEFI {
		m.Reboots, m.Loaded = firmwareReboots, job.Loaded
	}
	if job.Wiring.RMR {
		r := vmm.ReservedRange
		m.Reserved = fmt.Sprintf("0x%016x 0x%016x direct", r.Base, r.Base+r.Size-1)
	}
	return m
}

// patience is the time that the misbehaving endpoint waits for the guest. Emulated machines are
// slow.
const patience = 3 * time.Minute

// stray makes the misbehaving endpoint's DMA and waits for its end.
func stray(ctx context.Context, rogue *endpoint, r *report.Report) {
	r.Fault.Made = true
	if r.Mode.Stalls {
		ctx, cancel := context.WithTimeoutCause(
			ctx,
			patience,
			fmt.Errorf("the guest did not resume the DMA within %v", patience),
		)
		defer cancel()
		rogue.dma.AllowStalls(ctx)
	}
	if err := rogue.ReadAt(make([]byte, 64), strayAddress); err != nil {
		r.Fault.Error = err.Error()
	}
}
