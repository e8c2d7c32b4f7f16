//go:build linux && (amd64 || arm64)

package vmm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/kvm"
)

// Run boots the guest. It returns nil when the guest powers off, and ErrGuestReset or ErrGuestCrash
// when it resets or crashes. If ctx ends, the error has its cause and each vCPU's program counter.
// When Run returns, no vCPU runs. Call it once, and once more after each Reset.
func (m *Machine) Run(ctx context.Context) error {
	if err := m.load(); err != nil {
		return err
	}
	life, vcpus := m.life.Load(), m.host().vcpus
	// Go's scheduler takes KVM_RUN for a short system call: a vCPU in the guest keeps its share of
	// GOMAXPROCS for milliseconds.
	if want := len(vcpus) + runtime.NumCPU(); runtime.GOMAXPROCS(0) < want {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(want))
	}
	defer context.AfterFunc(ctx, func() { life.end(context.Cause(ctx)) })()
	var running sync.WaitGroup
	running.Go(func() {
		<-life.ended.Done()
		for _, vcpu := range vcpus {
			vcpu.Stop()
		}
	})
	for _, vcpu := range vcpus {
		running.Go(func() {
			// The goroutine stays locked, so that its thread, which KVM knows, ends with it.
			runtime.LockOSThread()
			life.end(m.runVCPU(life, vcpu))
		})
	}
	running.Wait()
	err := context.Cause(life.ended)
	switch {
	case errors.Is(err, errPowerOff):
		return nil
	case ctx.Err() != nil:
		for _, vcpu := range vcpus {
			err = fmt.Errorf("%w; %s", err, vcpu.Whereabouts())
		}
	}
	return err
}

// errPowerOff ends the life of a machine whose guest powered off.
var errPowerOff = errors.New("vmm: power off")

// runVCPU runs a vCPU until the life of the machine ends. Its error ends that life.
func (m *Machine) runVCPU(life *life, vcpu *kvm.VCPU) error {
	for life.ended.Err() == nil {
		exit, err := vcpu.Run()
		if err != nil {
			return err
		}
		switch exit {
		case kvm.MMIO:
			access := vcpu.MMIO()
			if access.Write {
				m.bus.store(access.Addr, access.Size, access.Value)
			} else {
				vcpu.SetLoaded(m.bus.load(access.Addr, access.Size))
			}
		case kvm.PowerOff:
			return errPowerOff
		case kvm.Reset:
			return ErrGuestReset
		case kvm.Crash:
			return ErrGuestCrash
		}
	}
	return context.Cause(life.ended)
}

// load copies kernel, initrd and device tree to memory, with ACPI tables if the machine has them,
// and sets the entry point of the first vCPU (booting.rst, section 4).
func (m *Machine) load() error {
	seed := make([]byte, 64)
	_, _ = rand.Read(seed) // never fails
	hw := &hardware{
		mem: m.cfg.Mem, cpus: m.cfg.CPUs, cmdline: m.cfg.Cmdline, initrd: m.boot.initrd,
		smmus: m.smmus, wiring: m.cfg.Wiring, disks: m.masters, pci: m.pciSlots, seed: seed,
	}
	if m.uefi != nil {
		return m.loadUEFI(hw)
	}
	what, describe := "device tree", deviceTree
	if m.cfg.ACPI {
		what, describe = "ACPI", func(hw *hardware) ([]byte, error) {
			return describeByACPI(hw, m.boot.tree, span{RAMBase, m.cfg.Mem})
		}
	}
	tree, err := describe(hw)
	if err != nil {
		return fmt.Errorf("vmm: %s: %w", what, err)
	}
	if len(tree) > maxTree {
		return fmt.Errorf("vmm: device tree: %d bytes are more than %d (shorten Cmdline)", len(tree), maxTree)
	}
	copy(m.ram.at(m.boot.kernel), m.kernel.Data)
	copy(m.ram.at(m.boot.initrd), m.cfg.Initrd)
	copy(m.ram.at(m.boot.tree), tree)
	return m.host().vcpus[0].SetEntry(m.boot.kernel.start, m.boot.tree.start)
}
