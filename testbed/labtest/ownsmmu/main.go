//go:build linux && (amd64 || arm64)

// Package ownsmmu is the program of the lab's machines in which this project's SMMU is the
// hardware. The program is a VMM with vsmmu, bridge/soft and edu functions. Its guest is a Linux
// host with iommufd that runs package kerneltest.
//
// While the tests run, mover saves, discards and restores the SMMU many times, at each kind of
// moment.
package ownsmmu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/console"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm"
)

// Main runs the VMM and powers the machine off. It does not return.
func Main() {
	machine.Main(func(m *machine.Machine) int {
		if err := run(m); err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", "; ")) // one line: the runner shows the last line
			return 1
		}
		return 0
	})
}

const (
	guestMem  = 512 << 20
	guestCPUs = 2
	maxLine   = 4 << 10 // bytes of a line of the guest's console

	// quiet leaves warnings, and what ends a kernel. Each character that a guest prints costs three
	// exits of an emulated hypervisor: a whole boot log takes longer than the boot.
	quiet = "loglevel=5"

	// The guest's init must start within bootTimeout. The guest must end within runTimeout.
	bootTimeout = 4 * time.Minute
	runTimeout  = 30 * time.Minute
)

// run runs the guest and sends the VMM's last message.
func run(m *machine.Machine) error {
	var job machine.OwnJob
	text, err := os.ReadFile("/" + machine.JobFile)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &job); err != nil {
		return fmt.Errorf("%s: %w", machine.JobFile, err)
	}
	image, err := os.ReadFile("/" + machine.ImageFile)
	if err != nil {
		return err
	}
	initrd, err := os.ReadFile("/" + machine.InitrdFile)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	late := time.AfterFunc(bootTimeout, func() {
		stop(fmt.Errorf("the guest's init did not start within %v", bootTimeout))
	})
	defer late.Stop()
	channel := newChannel(m, func() { late.Stop() })
	out := &console.Writer{Max: maxLine, Emit: func(line string) { tell(m, machine.Guest{Line: &line}) }}
	defer out.Flush()
	v, err := newVM(vmm.Config{
		Kernel: image, Initrd: initrd, Mem: guestMem, CPUs: guestCPUs,
		Cmdline: "console=ttyAMA0 earlycon " + quiet + " panic=-1 " + machine.NoStallWarnings + " " + job.Cmdline,
		Console: out, Control: channel,
	}, job)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, runTimeout, fmt.Errorf("the guest did not end within %v", runTimeout))
	defer cancel()
	moving, ended := context.WithCancel(ctx)
	failed := v.mover.run(moving, stop)
	err = v.Run(ctx)
	ended()
	err = errors.Join(err, <-failed)
	own := v.report()
	if err := errors.Join(err, v.close()); err != nil {
		return err
	}
	return m.Send(machine.Message{Own: own})
}

// tell sends a message about the guest. The runner ends the lab if the channel breaks.
func tell(m *machine.Machine, g machine.Guest) { _ = m.Send(machine.Message{Guest: &g}) }
