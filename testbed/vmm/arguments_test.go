//go:build linux && (amd64 || arm64)

package vmm

import (
	"bytes"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

func TestNilArgumentsAreErrors(t *testing.T) {
	m := new(Machine)
	_, noStream := m.AddPCIDevice(PCIDevice{})
	_, noDevice := m.AddPCIDevice(PCIDevice{Stream: func(smmuv3.StreamID, bool) error { return nil }})
	_, nilConsole := New(Config{CPUs: 1, Console: (*bytes.Buffer)(nil)})
	_, nilControl := New(Config{CPUs: 1, Control: (*net.TCPConn)(nil)})
	for _, tt := range []struct {
		err  error
		want string
	}{
		{m.AddSMMU(nil, smmuv3.IDRegs{}), "vmm: add SMMU: no register file"},
		{m.AddSMMU((*recorder)(nil), smmuv3.IDRegs{}), "vmm: add SMMU: no register file"},
		{m.AddDisk(nil, nil, Master{}), "vmm: add disk: no block device"},
		{m.AddPCIDisk(nil, nil, 0), "vmm: add PCI disk: no block device"},
		{noStream, "vmm: add PCI device: no Stream"},
		{noDevice, "vmm: add PCI device: passthrough: new device: no Physical"},
		{nilConsole, "vmm: new machine: Console holds a nil pointer"},
		{nilControl, "vmm: new machine: Control holds a nil pointer"},
	} {
		assert.EqualError(t, tt.err, tt.want)
	}
	assert.Empty(t, m.bus)
	assert.Empty(t, m.pciSlots)
}

func TestSMMUsAreBounded(t *testing.T) {
	m := new(Machine)
	for range maxSMMUs {
		require.NoError(t, m.AddSMMU(&recorder{}, smmuv3.IDRegs{}))
	}
	assert.EqualError(t, m.AddSMMU(&recorder{}, smmuv3.IDRegs{}), "vmm: add SMMU: the machine has 4, the most it can have")
}

func TestDevicesAreBounded(t *testing.T) {
	m := &Machine{pciSlots: []pciSlot{{device: 1}, {device: pci.Devices - 1}, {device: 3}}}
	assert.EqualError(t, m.AddPCIDisk(nil, nil, 0), "vmm: add PCI disk: no device number is left above 31")
}

func TestLaterCloseReturnsErrClosed(t *testing.T) {
	m := new(Machine)
	m.life.Store(newLife())
	require.NoError(t, m.Close())
	assert.ErrorIs(t, m.Close(), bridge.ErrClosed)
}
