//go:build linux && (amd64 || arm64)

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/bundle"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/console"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// runBench makes one guest read one disk, alternately in the test VMM and in QEMU.
func runBench(ctx context.Context, job Job, image, initrd []byte, sink Sink) (*report.Bench, error) {
	sink.Stage("the host fills the disk")
	dir, err := os.MkdirTemp("", "vsmmu-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	disk := filepath.Join(dir, "disk")
	if err := fillDisk(disk); err != nil {
		return nil, err
	}
	b := new(report.Bench)
	if b.Peer, err = peerVersion(ctx, job); err != nil {
		return nil, err
	}
	vmms := []struct {
		name    string
		boot    func(ctx context.Context, job Job, image, initrd []byte, disk string, console io.Writer) error
		results []guest.BenchResult
	}{{name: "our VMM", boot: benchOurs}, {name: "QEMU", boot: benchPeer}}
	for round := range job.Rounds {
		for i := range vmms {
			v := &vmms[i]
			sink.Stage(fmt.Sprintf("round %d of %d: the guest in %s", round+1, job.Rounds, v.name))
			console := newBenchConsole(sink)
			if err := v.boot(ctx, job, image, initrd, disk, console); err != nil {
				return nil, err
			}
			result, err := console.end()
			if err != nil {
				return nil, fmt.Errorf("the guest in %s %w", v.name, err)
			}
			v.results = append(v.results, result)
		}
	}
	return b, b.Compare(vmms[0].results, vmms[1].results)
}

// benchConsole forwards a guest's console and finds the result in it.
type benchConsole struct {
	console.Writer
	result *guest.BenchResult
}

func newBenchConsole(sink Sink) *benchConsole {
	c := new(benchConsole)
	c.Writer = console.Writer{Max: maxLine, Emit: func(line string) {
		sink.Line(Guest, line)
		if r, ok := guest.ParseBenchResult(line); ok {
			c.result = &r
		}
	}}
	return c
}

// end returns the result, after the guest has powered off.
func (c *benchConsole) end() (guest.BenchResult, error) {
	c.Flush()
	if c.result == nil {
		return guest.BenchResult{}, errors.New("powered off before it reported a result")
	}
	return *c.result, nil
}

func fillDisk(path string) error {
	data := make([]byte, guest.BenchSize)
	guest.PatternFor(guest.BenchDisk).Fill(data, 0)
	return os.WriteFile(path, data, 0o600)
}

// benchOurs runs the guest in the test VMM until it has powered off.
func benchOurs(ctx context.Context, job Job, image, initrd []byte, disk string, console io.Writer) (err error) {
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	v, err := newVM(vmm.Config{
		Kernel: image, Initrd: initrd, Mem: job.Mem, CPUs: job.CPUs, Cmdline: benchCmdline(job), Console: console,
	}, job, vsmmu.Trace{}, new(tape), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	endpoint, master := soft.NewEndpoint(), vmm.Master{StreamID: vmm.PCIStreamID(0)}
	if err := v.addDisk(f, guest.BenchDisk, true, master, endpoint, endpoint); err != nil {
		return err
	}
	return v.Run(ctx)
}

// benchCmdline returns the guest's command line. The kernel prints warnings only: each character on
// the console costs two exits, some of them while the disk is already read.
func benchCmdline(job Job) string {
	job.Cmdline = strings.TrimSpace("quiet " + job.Cmdline)
	return cmdline(job, guest.BenchRole)
}

func peerVersion(ctx context.Context, job Job) (string, error) {
	out, err := peerCommand(ctx, job, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("QEMU's version: %w", err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line, nil
}

func peerCommand(ctx context.Context, job Job, args ...string) *exec.Cmd {
	command := append(bundle.Command(job.Peer, PeerProgram), args...)
	return exec.CommandContext(ctx, command[0], command[1:]...)
}

// benchPeer runs the guest in QEMU until it has powered off.
func benchPeer(ctx context.Context, job Job, image, initrd []byte, disk string, console io.Writer) error {
	imageFile, initrdFile := disk+".image", disk+".initrd"
	if err := errors.Join(os.WriteFile(imageFile, image, 0o600), os.WriteFile(initrdFile, initrd, 0o600)); err != nil {
		return err
	}
	cmd := peerCommand(ctx, job,
		"-M", "virt,iommu=smmuv3,gic-version=3", "-accel", "kvm", "-cpu", "host",
		"-smp", strconv.Itoa(job.CPUs), "-m", strconv.FormatUint(job.Mem>>20, 10)+"M",
		"-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", imageFile, "-initrd", initrdFile, "-append", benchCmdline(job),
		"-drive", "if=none,id=disk,format=raw,file="+disk,
		"-device", "virtio-blk-pci,drive=disk,serial="+guest.BenchDisk+",iommu_platform=on,disable-legacy=on",
	)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("starting QEMU: %w", err), context.Cause(ctx))
	}
	_, _ = io.Copy(console, stdout) // ends when QEMU has closed the pipe
	switch err := cmd.Wait(); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("QEMU: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	return nil
}
