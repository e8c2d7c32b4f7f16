//go:build linux && (amd64 || arm64)

package vmm

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu"
)

// AddEdu adds an edu function. The caller attaches its Endpoint to an SMMU under e.StreamID. The
// machine closes the function. An edu function and a passed-through device must not share an INTx
// line. They share a line if their device numbers differ by a multiple of 4.
func (m *Machine) AddEdu(e Edu) (*edu.Function, error) {
	line := uint32(e.Device) % pciLines
	spi, shared := m.line(pciSPI+line), &m.intx[line]
	f, err := edu.New(edu.Config{
		Features: e.Features,
		INTx:     func(level bool) { shared.change(level, spi) },
	})
	if err != nil {
		return nil, fmt.Errorf("vmm: add edu function: %w", err)
	}
	m.edus = append(m.edus, f)
	if err := m.pci.AddFunction(e.Device, e.Function, f, f.Connect); err != nil {
		return nil, fmt.Errorf("vmm: add edu function: %w", err)
	}
	m.pciSlots = append(m.pciSlots, pciSlot{device: e.Device, function: e.Function, canStall: e.Stalls})
	return f, nil
}
