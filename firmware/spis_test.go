package firmware_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/firmware"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// TestWithSPIsMatchesTheDevice shows that each wire of the node is the SPI on which vsmmu.SPIs
// pulses the line of the same name.
func TestWithSPIsMatchesTheDevice(t *testing.T) {
	n, err := firmware.SMMUNode(firmware.SMMU{Base: 0x0905_0000, PHandle: 2}.WithSPIs(74))
	require.NoError(t, err)
	props := map[string][]byte{}
	for _, p := range n.Props {
		props[p.Name] = p.Value
	}
	const cells = 3 * 4 // the kind, the SPI and the trigger
	described := map[string]uint32{}
	for names := props["interrupt-names"]; len(names) > 0; {
		var name string
		for i, b := range names {
			if b == 0 {
				name, names = string(names[:i]), names[i+1:]
				break
			}
		}
		at := cells * len(described)
		described[name] = binary.BigEndian.Uint32(props["interrupts"][at+4:])
	}
	pulsed := map[string]uint32{}
	for l := range vsmmu.Line(vsmmu.NumLines) {
		wires := vsmmu.SPIs(74, func(spi uint32, _ bool) error {
			pulsed[l.String()] = spi
			return nil
		})
		require.NoError(t, wires.Pulse(l))
	}
	assert.Equal(t, map[string]uint32{"eventq": 74, "priq": 75, "cmdq-sync": 76, "gerror": 77}, described)
	assert.Equal(t, described, pulsed)
}
