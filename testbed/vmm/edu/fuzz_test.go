package edu

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci/pcitest"
)

// store returns a store of 8 bytes to the BAR.
func store(off uint32, v uint64) pcitest.Access { return pcitest.Store(off, 3, v) }

// FuzzFunction checks that no sequence of accesses makes a function panic or hang, or lets it make
// DMA after a reset without Bus Master Enable.
func FuzzFunction(f *testing.F) {
	for _, seed := range []struct {
		name string
		do   []pcitest.Access
	}{
		{"a DMA to the last address", []pcitest.Access{store(0x80, 0x4_0000), store(0x88, ^uint64(0)), store(0x90, 4096), store(0x98, 7)}},
		{"the end of the buffer", []pcitest.Access{store(0x80, 0x4_0fff), store(0x88, iova), store(0x90, 1), store(0x98, 3)}},
		{"beyond the buffer", []pcitest.Access{store(0x80, 0x4_0fff), store(0x88, iova), store(0x90, 2), store(0x98, 3)}},
		{"transactions of one byte", []pcitest.Access{store(0x1028, 1), store(0x90, 4096), store(0x98, 1)}},
		{"larger transactions than a page", []pcitest.Access{store(0x1028, ^uint64(0)), store(0x90, 4096), store(0x98, 1)}},
		{"ATS over the end of a page", []pcitest.Access{store(0x1010, 0x28), store(0x80, 0x4_0000), store(0x88, iova+0xffc), store(0x90, 8), store(0x98, 3)}},
		{"each command, with the largest PASID", []pcitest.Access{store(0x1010, 0xf_ffff_0000_0021), store(0x1018, 1), store(0x1018, 2), store(0x1018, 3),
			store(0x1018, 4), store(0x1018, 5), store(0x1018, 6)}},
		{"no such command", []pcitest.Access{store(0x1018, 0), store(0x1018, 7), store(0x1018, 0xff)}},
		{"a page request of group 511", []pcitest.Access{store(0x1010, 0x20), store(0x1018, 4|3<<9|511<<16)}},
		{"a hang and a reset", []pcitest.Access{store(0x1030, 1), pcitest.StoreConfig(0x58, 1, 0x8000), pcitest.StoreConfig(0x10, 2, barAt), pcitest.StoreConfig(4, 1, 6)}},
		{"logs that are empty", []pcitest.Access{store(0x10a0, 0), store(0x10d0, 0), pcitest.Load(0x1090, 3), pcitest.Load(0x1098, 3)}},
		{"an MSI to RAM", []pcitest.Access{pcitest.StoreConfig(0x44, 2, ram), pcitest.StoreConfig(0x42, 1, 1), pcitest.Store(0x60, 2, 1)}},
		{"MSI-X at the end of its table", []pcitest.Access{store(0x20_0018, ^uint64(0)), store(0x20_0020, 1), pcitest.StoreConfig(0x92, 1, 0x8000), pcitest.Store(0x60, 2, 0x100)}},
		{"the largest factorial", []pcitest.Access{pcitest.Store(0x08, 2, 0xffff_ffff)}},
		{"BAR over the end of the bridge's window", []pcitest.Access{pcitest.StoreConfig(0x10, 2, barAt+0xf8_0000), pcitest.Load(0xff_fff8, 3)}},
		{"the last registers of the configuration space", []pcitest.Access{pcitest.StoreConfig(0xfc, 2, 1), pcitest.StoreConfig(0xffc, 2, 1), pcitest.LoadConfig(0xffc, 2)}},
	} {
		f.Add(pcitest.Input(seed.do...))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		const most = 64 // accesses, to keep the fuzzer fast
		r := newATSRig(t)
		pcitest.Do(input, most, pcitest.Function{
			Load: r.window.Load, LoadConfig: r.config, Store: r.window.Store, StoreConfig: r.setConfig,
		})
		r.host.Reset()
		r.place()
		assert.Zero(t, r.load(0x98), "nothing runs after a reset")
		require.NoError(t, r.mem.WriteAt(make([]byte, 8), dataAt))
		r.setConfig(0x04, 2, 2)
		r.fill()
		r.dma(true, iova, 8)
		assert.Equal(t, "\x00\x00\x00\x00\x00\x00\x00\x00", r.word(dataAt))
	})
}
