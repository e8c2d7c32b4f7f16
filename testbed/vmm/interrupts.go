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

// smmuSPIs are the wired interrupts of the SMMU (IHI 0070 §3.18). CMD_SYNC has none, since its
// completion is an MSI: the wired interrupt would cost two KVM requests for every SYNC.
var smmuSPIs = map[vsmmu.Line]uint32{
	vsmmu.LineEventQ: smmuEventQSPI, vsmmu.LinePRIQ: smmuPRIQSPI, vsmmu.LineGError: smmuGErrorSPI,
}

// Pulse signals an edge on a wired interrupt of the SMMU. Pulse and SignalMSI implement
// vsmmu.Interrupts, and may be called from any goroutine.
func (m *Machine) Pulse(line vsmmu.Line) error {
	spi, wired := smmuSPIs[line]
	if !wired {
		return nil
	}
	vm := m.host().vm
	return errors.Join(vm.SetSPI(spi, true), vm.SetSPI(spi, false))
}

// SignalMSI sends an MSI of the SMMU to the ITS, which identifies the SMMU by a DeviceID of its
// own. Any other address is an error: the device itself writes MSIs that go to memory.
func (m *Machine) SignalMSI(addr guestmem.GPA, data uint32) error {
	_, err := m.signal(smmuDeviceID, addr, data)
	return err
}

// SignalEndpointMSI sends an MSI of a device behind the SMMU to the ITS, which identifies the
// device by its StreamID. Any other address is an error that matches guestmem.ErrUnmapped. It
// implements soft.Config.MSI, and may be called from any goroutine.
func (m *Machine) SignalEndpointMSI(sid smmuv3.StreamID, addr guestmem.GPA, data uint32) error {
	sent, err := m.signal(uint32(sid), addr, data)
	if sent && err != nil {
		m.stop(err) // without the interrupt, the guest would wait forever
	}
	return err
}

// signal sends an MSI to the ITS. sent is false if addr is not the doorbell.
func (m *Machine) signal(deviceID uint32, addr guestmem.GPA, data uint32) (sent bool, err error) {
	if addr != doorbell {
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
