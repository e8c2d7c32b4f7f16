package boottest

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/go-vsmmu/vsmmuv3/testbed/boottest/vm"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
)

const (
	// hostMem is what the emulated host has beyond the guest's memory: its initramfs, which holds the guest's too, and
	// the disks' backing files.
	hostMem = 2560 << 20
	// stopGrace is how long the host has to report as far as it came once it was told to stop.
	stopGrace = 30 * time.Second
)

// HostInitRole is the first argument of this program as the emulated host's init.
const HostInitRole = "host-init"

// emulate boots the host in QEMU, and through it the guest. When ctx ends the host is given the time to report, unless
// the boot was interrupted. No process and no file is left when it returns.
func emulate(ctx context.Context, o *Options, host machine, sink vm.Sink) (*report.Report, error) {
	m := qemu.Machine{
		QEMU: o.QEMU, Args: arguments(o), Image: host.image, Initrd: host.initrd,
		Cmdline: "console=ttyAMA0 earlycon panic=-1 -- " + HostInitRole,
	}
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	var r *report.Report
	err := m.Run(life, sink.Line, func(channel io.ReadWriter) (err error) {
		defer context.AfterFunc(ctx, func() {
			if !interrupted(ctx) {
				// Should the channel be what is broken, the grace ends the wait.
				_, _ = io.WriteString(channel, stopWord+"\n")
				select {
				case <-time.After(stopGrace):
				case <-life.Done():
				}
			}
			end(context.Cause(ctx))
		})()
		r, err = receive(channel, sink)
		return err
	})
	switch {
	case errors.Is(err, qemu.ErrStart):
		return nil, &InputError{err}
	case ctx.Err() != nil && r == nil:
		return nil, context.Cause(ctx)
	case ctx.Err() != nil && r.Error != "":
		// Unless the boot has just come to its end by itself, this is what ended it.
		r.Error = context.Cause(ctx).Error() + ": " + r.Error
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errors.New("the emulated host went down without a report")
	}
	return r, err
}

// arguments are what the host is made of: the virt machine with EL2, so that it has KVM.
func arguments(o *Options) []string {
	return []string{
		"-M", "virt,virtualization=on,gic-version=3",
		"-cpu", "max,pauth-impdef=on", // QARMA, the architected pointer authentication, costs much to emulate
		"-accel", "tcg,thread=multi,tb-size=1024",
		"-smp", "2",
		"-m", strconv.FormatUint((hostMem+o.Mem)>>20, 10) + "M",
		"-nic", "none", // spares the ROM packages
	}
}
