package virtio

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
)

// access is an access by the guest, an element of the fuzzer's input.
type access struct {
	kind  byte // bit 0: a store; bit 1: to the configuration space
	size  byte // log2
	off   uint32
	value uint64
}

const accessSize = 14

func (a access) append(to []byte) []byte {
	to = append(to, a.kind, a.size)
	to = binary.LittleEndian.AppendUint32(to, a.off)
	return binary.LittleEndian.AppendUint64(to, a.value)
}

func parseAccess(p []byte) access {
	return access{p[0], p[1], binary.LittleEndian.Uint32(p[2:]), binary.LittleEndian.Uint64(p[6:])}
}

func (a access) do(d *pciDriver) {
	size := 1 << (a.size & 3)
	off := uint64(a.off)
	switch a.kind & 3 {
	case 0:
		d.load(off, size)
	case 1:
		d.store(off, size, a.value)
	case 2:
		d.config(off%0x1000, size)
	case 3:
		d.setConfig(off%0x1000, size, a.value)
	}
}

func storeBAR(off uint32, log2 byte, v uint64) access    { return access{1, log2, off, v} }
func storeConfig(off uint32, log2 byte, v uint64) access { return access{3, log2, off, v} }

// started are the accesses of the initialisation and of a notification.
var started = []access{
	storeConfig(0x10, 2, barAt), storeConfig(0x04, 1, 6),
	storeBAR(0x4010, 2, message1), storeBAR(0x4014, 2, 0), storeBAR(0x4018, 2, 0x52), storeBAR(0x401c, 2, 0), storeConfig(0x42, 1, 0x8000),
	storeBAR(0x14, 0, 3), storeBAR(0x08, 2, 1), storeBAR(0x0c, 2, 3), storeBAR(0x14, 0, 0xb),
	storeBAR(0x18, 1, 8), storeBAR(0x1a, 1, 1), storeBAR(0x20, 2, descAt), storeBAR(0x28, 2, availAt), storeBAR(0x30, 2, usedAt),
	storeBAR(0x1c, 1, 1), storeBAR(0x14, 0, 0xf), storeBAR(0x3000, 1, 0),
}

// FuzzFunction checks that no sequence of accesses makes a function panic or hang, while requests
// are available in its ring, and that a function makes no DMA once Bus Master Enable is cleared.
func FuzzFunction(f *testing.F) {
	for _, seed := range []struct {
		name string
		then []access
	}{
		{"nothing after the initialisation", nil},
		{"masked, unmasked", []access{storeBAR(0x401c, 2, 1), storeBAR(0x3000, 1, 0), storeBAR(0x401c, 2, 0)}},
		{"the last entry of the MSI-X table, and beyond", []access{storeBAR(0x4018, 3, ^uint64(0)), storeBAR(0x4020, 3, 1), {0, 3, 0x4020, 0}}},
		{"pending bits, beyond the first word", []access{{0, 3, 0x5000, 0}, {0, 3, 0x5008, 0}, storeBAR(0x5000, 3, ^uint64(0))}},
		{"a message to the ring itself", []access{storeBAR(0x4010, 2, availAt), storeBAR(0x3000, 1, 0)}},
		{"a message to the last address", []access{storeBAR(0x4010, 3, ^uint64(0)), storeBAR(0x3000, 1, 0)}},
		{"reset in the middle", []access{storeBAR(0x14, 0, 0), storeBAR(0x3000, 1, 0)}},
		{"the window, at the last bytes of the memory", []access{
			storeConfig(0x9c, 2, 0x7ffc), storeConfig(0xa0, 2, 4), storeConfig(0xa4, 2, 1), {2, 2, 0xa4, 0}}},
		{"the window, beyond the memory", []access{storeConfig(0x9c, 2, 0x8000), storeConfig(0xa0, 2, 4), storeConfig(0xa4, 2, 1)}},
		{"the window on device_status", []access{storeConfig(0x9c, 2, 0x14), storeConfig(0xa0, 2, 1), storeConfig(0xa4, 0, 0)}},
		{"BAR over the end of the bridge's window", []access{storeConfig(0x10, 2, 0x100f_c000), {0, 3, 0xf_c000, 0}}},
		{"BAR at the end of the address space", []access{storeConfig(0x10, 2, 0xffff_ffff), {0, 2, 0xffff_8000, 0}}},
		{"the last registers of the configuration space", []access{storeConfig(0xfc, 2, 1), storeConfig(0x100, 2, 1), {2, 2, 0xffc, 0}}},
		{"Bus Master Enable cleared and set", []access{storeConfig(0x04, 1, 2), storeBAR(0x3000, 1, 0), storeConfig(0x04, 1, 6)}},
	} {
		var input []byte
		for _, a := range append(started[:len(started):len(started)], seed.then...) {
			input = a.append(input)
		}
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		const most = 256 // accesses, to keep the fuzzer fast
		d := newPCIDriver(t, &echo{})
		d.mem.chain(desc{addr: dataAt, len: 16}, desc{addr: dataAt + 16, len: 16, flags: 2})
		for n := range 4 {
			d.mem.offer(n, 8, 0)
		}
		for range most {
			if len(input) < accessSize {
				break
			}
			parseAccess(input).do(d)
			input = input[accessSize:]
		}
		d.command(0)
		before := len(d.mem.accesses(1 << 30))
		d.f.notified()
		d.f.serving.Lock()
		defer d.f.serving.Unlock()
		assert.Len(t, d.mem.accesses(1<<30), before)
	})
}
