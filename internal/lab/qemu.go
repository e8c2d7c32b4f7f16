package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/go-vsmmu/vsmmuv3/internal/boot"
	"github.com/go-vsmmu/vsmmuv3/internal/lines"
	"github.com/go-vsmmu/vsmmuv3/internal/report"
)

const (
	// maxLine bounds a line of a console.
	maxLine = 4 << 10
	// hostMem is what the emulated host has beyond the guest's memory: its initramfs, which holds the guest's too, and
	// the disks' backing files.
	hostMem = 2560 << 20
	// stopGrace is how long the host has to report as far as it came once it was told to stop.
	stopGrace = 10 * time.Second
	// powerOffGrace is how long the host has to power off once it has reported.
	powerOffGrace = 10 * time.Second
)

// HostInitRole is the first argument of this program as the emulated host's init.
const HostInitRole = "host-init"

// Names of the machines on the consoles.
const (
	hostName = "host"
	qemuName = "qemu"
)

// emulate boots the host in QEMU, and through it the guest. When ctx ends the host is given the time to report, unless
// the boot was interrupted. No process and no file is left when it returns.
func emulate(ctx context.Context, o *Options, host machine, sink boot.Sink) (*report.Report, error) {
	dir, err := os.MkdirTemp("", "vsmmu-")
	if err != nil {
		return nil, &InputError{fmt.Errorf("a place for QEMU's files (TMPDIR names another): %w", err)}
	}
	defer os.RemoveAll(dir)
	image, initrd := filepath.Join(dir, "image"), filepath.Join(dir, "initrd")
	for name, data := range map[string][]byte{image: host.image, initrd: host.initrd} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return nil, &InputError{fmt.Errorf("a place for QEMU's files (TMPDIR names another): %w", err)}
		}
	}
	ours, theirs, err := channelPair()
	if err != nil {
		return nil, err
	}
	defer ours.Close()

	cmd := exec.Command(o.QEMU, arguments(o, image, initrd)...)
	cmd.ExtraFiles = []*os.File{theirs} // its descriptor 3
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, theirs.Close())
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, errors.Join(err, theirs.Close())
	}
	qemu, err := startProcess(cmd)
	theirs.Close()
	if err != nil {
		return nil, &InputError{fmt.Errorf("starting %s: %w", o.QEMU, err)}
	}
	consoles := make(chan struct{}, 2)
	follow := func(name string, r io.Reader) {
		w := lines.Writer{Max: maxLine, Emit: func(line string) { sink.Line(name, line) }}
		_, _ = io.Copy(&w, r) // a pipe whose writer is gone has ended
		w.Flush()
		consoles <- struct{}{}
	}
	go follow(hostName, stdout)
	go follow(qemuName, stderr)

	type answer struct {
		report *report.Report
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		r, err := receive(ours, sink)
		answers <- answer{r, err}
	}()

	var a answer
	select {
	case a = <-answers:
	case <-ctx.Done():
		if !interrupted(ctx) {
			// Should the channel be what is broken, the grace below ends the wait.
			_, _ = io.WriteString(ours, stopWord+"\n")
			select {
			case a = <-answers:
			case <-time.After(stopGrace):
			}
		}
		// Unless the boot has just come to its end by itself, this is what ended it.
		if a.report == nil {
			a.err = context.Cause(ctx)
		} else if a.report.Error != "" {
			a.report.Error = context.Cause(ctx).Error()
		}
	}
	if a.report != nil && !interrupted(ctx) {
		qemu.waitFor(powerOffGrace)
	}
	qemu.kill()
	<-consoles
	<-consoles
	if errors.Is(a.err, io.ErrUnexpectedEOF) {
		a.err = errors.New("the emulated host went down without a report")
	}
	return a.report, a.err
}

// arguments are QEMU's: the virt machine with EL2, so that the host it emulates has KVM.
func arguments(o *Options, image, initrd string) []string {
	return []string{
		"-M", "virt,virtualization=on,gic-version=3",
		"-cpu", "max,pauth-impdef=on", // QARMA, the architected pointer authentication, costs much to emulate
		"-accel", "tcg,thread=multi,tb-size=1024",
		"-smp", "2",
		"-m", strconv.FormatUint((hostMem+o.Mem)>>20, 10) + "M",
		"-nic", "none", // spares the ROM packages
		"-display", "none", "-monitor", "none", "-serial", "stdio",
		"-no-reboot",
		"-device", "virtio-serial-device",
		"-chardev", "socket,id=boot,fd=3",
		"-device", "virtserialport,chardev=boot,name=" + portName,
		"-kernel", image,
		"-initrd", initrd,
		"-append", "console=ttyAMA0 earlycon panic=-1 -- " + HostInitRole,
	}
}
