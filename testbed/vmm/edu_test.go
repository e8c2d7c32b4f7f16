package vmm

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

func TestStreamIDOfAnEduIsItsPlaceOnTheBus(t *testing.T) {
	assert.EqualValues(t, 0x10, Edu{Device: 2}.StreamID())
	assert.EqualValues(t, 0xff, Edu{Device: 31, Function: 7}.StreamID())
}

func TestSharedLineIsHighWhileAFunctionRaisesIt(t *testing.T) {
	var (
		line   sharedLine
		levels []bool
	)
	set := func(level bool) { levels = append(levels, level) }
	for _, level := range []bool{true, true, false, false, true} {
		line.change(level, set)
	}
	assert.Equal(t, []bool{true, false, true}, levels)
}

// Linux enables stalls for a function whose node has dma-can-stall.
func TestDeviceTreeHasFunctionsThatCanStall(t *testing.T) {
	tree := parse(t, hardware{mem: 1 << 30, cpus: 1, smmus: []smmuv3.IDRegs{{}}, pci: []pciSlot{
		{device: 2},
		{device: 3, function: 1, canStall: true},
	}})
	assert.Contains(t, tree["/pcie@3f000000/device@3,1"], "dma-can-stall")
	assert.NotContains(t, tree, "/pcie@3f000000/device@2,0")
}
