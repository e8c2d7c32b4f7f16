package vmm

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd"
)

// recorder is a device that remembers its last access.
type recorder struct {
	off   uint64
	size  int
	value uint64
}

func (r *recorder) Load(off uint64, size int) uint64 {
	r.off, r.size = off, size
	return 0xab
}

func (r *recorder) Store(off uint64, size int, value uint64) {
	r.off, r.size, r.value = off, size, value
}

func TestBusDecodes(t *testing.T) {
	var b bus
	var low, high recorder
	require.NoError(t, b.add(0x3000, 0x1000, &high))
	require.NoError(t, b.add(0x1000, 0x1000, &low))

	for _, tt := range []struct {
		name string
		addr uint64
		size int
		want *recorder
		off  uint64
	}{
		{"first byte", 0x1000, 1, &low, 0},
		{"last byte", 0x1fff, 1, &low, 0xfff},
		{"last word", 0x1ff8, 8, &low, 0xff8},
		{"across the end", 0x1ffc, 8, nil, 0},
		{"below all regions", 0xfff, 1, nil, 0},
		{"across the start", 0xffc, 8, nil, 0},
		{"between regions", 0x2000, 4, nil, 0},
		{"second region", 0x3010, 4, &high, 0x10},
		{"above all regions", 0x4000, 4, nil, 0},
		{"at the end of the address space", ^uint64(0), 8, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			low, high = recorder{}, recorder{}
			loaded := b.load(tt.addr, tt.size)
			b.store(tt.addr, tt.size, 7)
			if tt.want == nil {
				assert.Zero(t, loaded)
				assert.Zero(t, low)
				assert.Zero(t, high)
				return
			}
			assert.EqualValues(t, 0xab, loaded)
			assert.Equal(t, recorder{tt.off, tt.size, 7}, *tt.want)
		})
	}
}

func TestBusRefusesOverlaps(t *testing.T) {
	var b bus
	require.NoError(t, b.add(0x1000, 0x1000, &recorder{}))
	for _, base := range []uint64{0x1000, 0x1fff, 0x801} {
		assert.Error(t, b.add(base, 0x800, &recorder{}), "%#x", base)
	}
	assert.NoError(t, b.add(0x2000, 0x800, &recorder{}), "adjacent")
	assert.NoError(t, b.add(0x800, 0x800, &recorder{}), "adjacent")
}

// The devices of the memory map must not overlap each other or the memory.
func TestMemoryMapHasNoOverlaps(t *testing.T) {
	var b bus
	d := &recorder{}
	assert.NoError(t, b.add(gicDistBase, gicDistSize, d))
	assert.NoError(t, b.add(gicRedistBase, gicRedistSize*maxCPUs, d))
	assert.NoError(t, b.add(consoleBase, uartSize, d))
	assert.NoError(t, b.add(controlBase, uartSize, d))
	assert.NoError(t, b.add(smmuBase, smmuSize, d))
	assert.NoError(t, b.add(virtioBase, virtioSize*maxDisks, d))
	assert.NoError(t, b.add(itsBase, itsSize, d))
	assert.NoError(t, b.add(pciMemBase, pciMemSize, d))
	assert.NoError(t, b.add(pciECAMBase, pciBuses<<20, d))
	assert.NoError(t, b.add(pciMem64Base, pciMem64Size, d))
	assert.NoError(t, b.add(RAMBase, maxMem, d))
	assert.LessOrEqual(t, virtioSPI+maxDisks, spis)
	assert.LessOrEqual(t, pciSPI+pciLines, virtioSPI)
	// The doorbells of passed-through devices must not overlap memory.
	assert.GreaterOrEqual(t, uint64(RAMBase), uint64(iommufd.MSIBase+iommufd.MSISize))
}
