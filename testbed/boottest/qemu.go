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
	// hostMem is the emulated host's memory beyond the guest's. Its initramfs, which contains the
	// guest's, and the disks' backing files are in it.
	hostMem = 2560 << 20
	// stopGrace is the time that the host has to report after stopWord.
	stopGrace = 30 * time.Second
)

// HostInitRole is the first argument of this program when it is the emulated host's init.
const HostInitRole = "host-init"

// emulate boots the host in QEMU, and the host boots the guest. When ctx ends, the host gets time
// to report, unless the boot was interrupted. On return no process and no file is left.
func emulate(ctx context.Context, o *Options, host machine, sink vm.Sink) (*report.Report, error) {
	m := qemu.Machine{
		QEMU: o.QEMU, Args: arguments(o), Image: host.image, Initrd: host.initrd,
		Cmdline: "console=ttyAMA0 earlycon panic=-1 -- " + HostInitRole,
	}
	if err := m.CheckSpace(); err != nil {
		return nil, &InputError{err}
	}
	sink.Stage("the host's kernel boots")
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	var r *report.Report
	err := m.Run(life, sink.Line, func(channel io.ReadWriter) (err error) {
		defer context.AfterFunc(ctx, func() {
			if !interrupted(ctx) {
				// If the channel is broken, stopGrace ends the wait.
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
		// The context ended the boot, unless the boot reached its end at the same time.
		r.Error = context.Cause(ctx).Error() + ": " + r.Error
	}
	return r, err
}

// arguments returns QEMU's arguments for the host: the virt machine with EL2, so that the host has
// KVM.
func arguments(o *Options) []string {
	return []string{
		"-M", "virt,virtualization=on,gic-version=3",
		"-cpu", "max,pauth-impdef=on", // QARMA, the architected pointer authentication, is slow to emulate
		"-accel", "tcg,thread=multi,tb-size=1024",
		"-smp", "2",
		"-m", strconv.FormatUint((hostMem+o.Mem)>>20, 10) + "M",
		"-nic", "none", // spares the ROM packages
	}
}
