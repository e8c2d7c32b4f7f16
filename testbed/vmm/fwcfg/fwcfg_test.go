package fwcfg

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
)

// rig is a device with 4 KiB of memory at 0x4000_0000.
type rig struct {
	*Device
	mem [4096]byte
}

const memAt = 0x4000_0000

func newRig() *rig {
	r := &rig{}
	r.Device = New(func(addr uint64, n int) []byte {
		off := addr - memAt
		if addr < memAt || n < 0 || off > uint64(len(r.mem)) || uint64(n) > uint64(len(r.mem))-off {
			return nil
		}
		return r.mem[off:][:n]
	}, map[uint16][]byte{KeyCPUs: {2, 0}}, map[string][]byte{"etc/b": {5, 6, 7}, "etc/a": {1}})
	return r
}

// dma makes a DMA and returns the control word that it leaves.
func (r *rig) dma(control, length uint32, addr uint64) uint32 {
	binary.BigEndian.PutUint32(r.mem[0:], control)
	binary.BigEndian.PutUint32(r.mem[4:], length)
	binary.BigEndian.PutUint64(r.mem[8:], addr)
	r.Store(16, 4, 0)                   // the upper half of the address
	r.Store(20, 4, uint64(0x0000_0040)) // the lower half, big-endian
	return binary.BigEndian.Uint32(r.mem[0:])
}

func TestItemsAreReadByteByByte(t *testing.T) {
	r := newRig()
	for i, want := range []byte("QEMU\x00") {
		assert.EqualValues(t, want, r.Load(0, 1), i)
	}
	r.Store(8, 2, 0x0500)
	assert.EqualValues(t, 2, r.Load(0, 2), "the number of CPUs")
	r.Store(8, 2, 0x0100)
	assert.EqualValues(t, 3, r.Load(0, 4), "the interface and DMA")
	r.Store(8, 2, 0xffff)
	assert.Zero(t, r.Load(0, 8), "no such item")
	assert.EqualValues(t, 0x4746_4320_554d_4551, r.Load(16, 8), "QEMU CFG")
	assert.Zero(t, r.Load(20, 8), "beyond the registers")
}

func TestDirectoryListsTheFilesByName(t *testing.T) {
	r := newRig()
	assert.Zero(t, r.dma(0x0019_000a, 4+2*64, memAt+64))
	d := r.mem[64:]
	assert.EqualValues(t, 2, binary.BigEndian.Uint32(d))
	assert.EqualValues(t, 1, binary.BigEndian.Uint32(d[4:]), "size")
	assert.EqualValues(t, 0x20, binary.BigEndian.Uint16(d[8:]), "key")
	assert.Equal(t, "etc/a\x00", string(d[12:18]))
	assert.EqualValues(t, 3, binary.BigEndian.Uint32(d[68:]))
	assert.EqualValues(t, 0x21, binary.BigEndian.Uint16(d[72:]))
	assert.Equal(t, "etc/b\x00", string(d[76:82]))
}

func TestDMAReadsAndSkips(t *testing.T) {
	r := newRig()
	r.mem[66] = 9
	assert.Zero(t, r.dma(0x0021_000c, 1, 0), "select and skip")
	assert.Zero(t, r.dma(2, 3, memAt+64), "read")
	assert.Equal(t, []byte{6, 7, 0}, r.mem[64:67], "zeros after the end")
	assert.Zero(t, r.dma(2, 3, memAt+64))
	assert.Equal(t, []byte{0, 0, 0}, r.mem[64:67])
}

func TestBadDMAIsAnError(t *testing.T) {
	r := newRig()
	assert.EqualValues(t, 1, r.dma(0x0021_000a, 3, memAt+4095), "beyond memory")
	assert.EqualValues(t, 1, r.dma(0x0021_0018, 3, memAt+64), "a write")
	assert.Zero(t, r.dma(0x0021_000c, 1<<32-1, 0), "a skip beyond the end")
	assert.Zero(t, r.dma(4, 1<<32-1, 0))
	r.Store(16, 8, 0) // no memory: no effect
	r.Store(16, 2, 0)
	r.Store(8, 4, 0)
	assert.Zero(t, r.dma(2, 1, memAt+64))
}
