//go:build linux && (amd64 || arm64)

package vmm

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/kvm"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// SMMUInterrupts returns the interrupts of the nth SMMU that is added, from 0 on. Its MSIs go to the
// ITS, which identifies the SMMU by a DeviceID of its own.
func (m *Machine) SMMUInterrupts(n int) vsmmu.Interrupts {
	setSPI := func(spi uint32, level bool) error { return m.host().vm.SetSPI(spi, level) }
	sendMSI := func(addr guestmem.GPA, data uint32) error {
		_, err := m.signal(smmuDeviceID(n), addr, data)
		return err
	}
	return vsmmu.WithMSI(vsmmu.SPIs(smmuSPI(n), setSPI, m.cfg.Wiring.unwired()...), sendMSI)
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
