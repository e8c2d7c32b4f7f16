//go:build linux && (amd64 || arm64)

package vmm

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/kvm"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// SMMUInterrupts are the interrupts of one of a machine's SMMUs, and implement vsmmu.Interrupts. The
// methods may be called from any goroutine.
type SMMUInterrupts struct {
	m *Machine
	n int
}

// SMMUInterrupts returns the interrupts of the nth SMMU that is added, from 0 on.
func (m *Machine) SMMUInterrupts(n int) SMMUInterrupts { return SMMUInterrupts{m, n} }

// Pulse signals an edge on a wired interrupt of the SMMU, if it is connected. CMD_SYNC usually has
// none, since its completion is an MSI: the wired interrupt costs two KVM requests for every SYNC.
func (i SMMUInterrupts) Pulse(line vsmmu.Line) error {
	if !i.m.cfg.Wiring.wired(line) {
		return nil
	}
	vm, spi := i.m.host().vm, smmuSPI(i.n, line)
	return errors.Join(vm.SetSPI(spi, true), vm.SetSPI(spi, false))
}

// SignalMSI sends an MSI of the SMMU to the ITS, which identifies the SMMU by a DeviceID of its
// own. Any other address is an error: the device itself writes MSIs that go to memory.
func (i SMMUInterrupts) SignalMSI(addr guestmem.GPA, data uint32) error {
	_, err := i.m.signal(smmuDeviceID(i.n), addr, data)
	return err
}

// SignalEndpointMSI sends an MSI of a device behind the SMMU to the ITS, which identifies the
// device by its StreamID plus Wiring.DeviceBase. Any other address is an error that matches guestmem.ErrUnmapped. It
// implements soft.Config.MSI, and may be called from any goroutine.
func (m *Machine) SignalEndpointMSI(sid smmuv3.StreamID, addr guestmem.GPA, data uint32) error {
	sent, err := m.signal(uint32(sid)+m.cfg.Wiring.DeviceBase, addr, data)
	if sent && err != nil {
		m.stop(err) // without the interrupt, the guest would wait forever
	}
	return err
}

// signal sends an MSI to the ITS. sent is false if addr is not the doorbell.
func (m *Machine) signal(deviceID uint32, addr guestmem.GPA, data uint32) (sent bool, err error) {
	if addr != doorbell || m.cfg.Wiring.NoITS {
		return false, fmt.Errorf("vmm: signal MSI to %v: not a doorbell: %w", addr, guestmem.ErrUnmapped)
	}
	_, err = m.host().vm.SignalMSI(kvm.MSI{Addr: doorbell, Data: data, Device: deviceID})
	return true, err
}

// line returns a function that sets the level of an interrupt. If KVM fails to, the machine stops.
func (m *Machine) line(spi uint32) func(level bool) {
	return func(level bool) {
		if err := m.host().vm.SetSPI(spi, level); err != nil {
			m.stop(err)
		}
	}
}
