package virtio

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci/pcitest"
)

// started are the accesses of the initialisation and of a notification.
var started = []pcitest.Access{
	pcitest.StoreConfig(0x10, 2, barAt), pcitest.StoreConfig(0x04, 1, 6),
	pcitest.Store(0x4010, 2, message1), pcitest.Store(0x4014, 2, 0), pcitest.Store(0x4018, 2, 0x52), pcitest.Store(0x401c, 2, 0), pcitest.StoreConfig(0x42, 1, 0x8000),
	pcitest.Store(0x14, 0, 3), pcitest.Store(0x08, 2, 1), pcitest.Store(0x0c, 2, 3), pcitest.Store(0x14, 0, 0xb),
	pcitest.Store(0x18, 1, 8), pcitest.Store(0x1a, 1, 1), pcitest.Store(0x20, 2, descAt), pcitest.Store(0x28, 2, availAt), pcitest.Store(0x30, 2, usedAt),
	pcitest.Store(0x1c, 1, 1), pcitest.Store(0x14, 0, 0xf), pcitest.Store(0x3000, 1, 0),
}

// FuzzFunction checks that no sequence of accesses makes a function panic or hang, while requests
// are available in its ring, and that a function makes no DMA once Bus Master Enable is cleared.
func FuzzFunction(f *testing.F) {
	for _, seed := range []struct {
		name string
		then []pcitest.Access
	}{
		{"nothing after the initialisation", nil},
		{"masked, unmasked", []pcitest.Access{pcitest.Store(0x401c, 2, 1), pcitest.Store(0x3000, 1, 0), pcitest.Store(0x401c, 2, 0)}},
		{"the last entry of the MSI-X table, and beyond", []pcitest.Access{pcitest.Store(0x4018, 3, ^uint64(0)), pcitest.Store(0x4020, 3, 1), pcitest.Load(0x4020, 3)}},
		{"pending bits, beyond the first word", []pcitest.Access{pcitest.Load(0x5000, 3), pcitest.Load(0x5008, 3), pcitest.Store(0x5000, 3, ^uint64(0))}},
		{"a message to the ring itself", []pcitest.Access{pcitest.Store(0x4010, 2, availAt), pcitest.Store(0x3000, 1, 0)}},
		{"a message to the last address", []pcitest.Access{pcitest.Store(0x4010, 3, ^uint64(0)), pcitest.Store(0x3000, 1, 0)}},
		{"reset in the middle", []pcitest.Access{pcitest.Store(0x14, 0, 0), pcitest.Store(0x3000, 1, 0)}},
		{"the window, at the last bytes of the memory", []pcitest.Access{
			pcitest.StoreConfig(0x9c, 2, 0x7ffc), pcitest.StoreConfig(0xa0, 2, 4), pcitest.StoreConfig(0xa4, 2, 1), pcitest.LoadConfig(0xa4, 2)}},
		{"the window, beyond the memory", []pcitest.Access{pcitest.StoreConfig(0x9c, 2, 0x8000), pcitest.StoreConfig(0xa0, 2, 4), pcitest.StoreConfig(0xa4, 2, 1)}},
		{"the window on device_status", []pcitest.Access{pcitest.StoreConfig(0x9c, 2, 0x14), pcitest.StoreConfig(0xa0, 2, 1), pcitest.StoreConfig(0xa4, 0, 0)}},
		{"BAR over the end of the bridge's window", []pcitest.Access{pcitest.StoreConfig(0x10, 2, 0x100f_c000), pcitest.Load(0xf_c000, 3)}},
		{"BAR at the end of the address space", []pcitest.Access{pcitest.StoreConfig(0x10, 2, 0xffff_ffff), pcitest.Load(0xffff_8000, 2)}},
		{"the last registers of the configuration space", []pcitest.Access{pcitest.StoreConfig(0xfc, 2, 1), pcitest.StoreConfig(0x100, 2, 1), pcitest.LoadConfig(0xffc, 2)}},
		{"Bus Master Enable cleared and set", []pcitest.Access{pcitest.StoreConfig(0x04, 1, 2), pcitest.Store(0x3000, 1, 0), pcitest.StoreConfig(0x04, 1, 6)}},
	} {
		f.Add(pcitest.Input(slices.Concat(started, seed.then)...))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		const most = 256 // accesses, to keep the fuzzer fast
		d := newPCIDriver(t, &echo{})
		d.mem.chain(desc{addr: dataAt, len: 16}, desc{addr: dataAt + 16, len: 16, flags: 2})
		for n := range 4 {
			d.mem.offer(n, 8, 0)
		}
		pcitest.Do(input, most, pcitest.Function{Load: d.load, LoadConfig: d.config, Store: d.store, StoreConfig: d.setConfig})
		d.command(0)
		before := len(d.mem.accesses(1 << 30))
		d.f.notified()
		d.f.serving.Lock()
		defer d.f.serving.Unlock()
		assert.Len(t, d.mem.accesses(1<<30), before)
	})
}
