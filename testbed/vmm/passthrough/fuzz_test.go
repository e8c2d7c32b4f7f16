//go:build linux && (amd64 || arm64)

package passthrough

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

// opSize is the size of one access in the fuzzer's input: kind and size, offset, value.
const opSize = 1 + 4 + 4

func op(kind, size byte, off, value uint32) []byte {
	b := []byte{kind<<4 | size}
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, off), value)
}

// FuzzGuest makes random accesses to the configuration space and the memory of a device. None may
// make the VMM panic, map memory outside of the host bridge's window, or leak anything.
func FuzzGuest(f *testing.F) {
	const config, memory = 0, 1
	join := func(ops ...[]byte) (all []byte) {
		for _, o := range ops {
			all = append(all, o...)
		}
		return all
	}
	enable := join(op(config, 4, 0x10, windowBase), op(config, 2, 0x04, pci.CommandMemory))
	f.Add(join(enable, op(config, 4, 0x10, windowBase+0x0fff_c000)))                                       // the last place in the window
	f.Add(join(enable, op(config, 4, 0x10, windowBase+0x0fff_f000)))                                       // over its end
	f.Add(join(enable, op(config, 4, 0x14, 1)))                                                            // the upper half alone
	f.Add(join(enable, op(config, 2, 0x52, pci.MSIXEnable), op(memory, 4, uint32(2*page+12), 0)))          // a vector
	f.Add(join(enable, op(config, 4, 0x50, 0xffff_ffff), op(memory, 8, uint32(2*page+40), 0)))             // the last vector, masked as a whole
	f.Add(join(enable, op(memory, 8, uint32(2*page-4), 0), op(memory, 8, uint32(4*page-4), 0)))            // over the ends of table and BAR
	f.Add(join(enable, op(config, 1, 0x89, 0x80)))                                                         // a reset by the high byte
	f.Add(join(enable, op(config, 4, 0x88, 0x8000), op(config, 4, 0x04, 0xffff_ffff)))                     // and on
	f.Add(join(op(config, 4, 0xffc, 0), op(config, 8, 0, 0), op(config, 4, 2, 0), op(config, 2, 0x3d, 1))) // sizes and alignments
	f.Fuzz(func(t *testing.T, data []byte) {
		const most = 256
		r := newRig(t, newPhysical())
		for n := 0; len(data) >= opSize && n < most; n++ {
			kind, size := data[0]>>4, 1<<(data[0]&3)
			if data[0]&0xf >= 4 {
				size = int(data[0] & 0xc)
			}
			off, value := uint64(binary.LittleEndian.Uint32(data[1:])), uint64(binary.LittleEndian.Uint32(data[5:]))
			data = data[opSize:]
			if size > 8 {
				size = 8
			}
			if kind&1 == config {
				off %= pci.ConfigSize
				r.store(off, size, value)
				r.load(off, size)
			} else {
				off %= 5 * page
				r.window.Store(off, size, value<<32|value)
				r.window.Load(off, size)
			}
			for at, length := range r.machine.memory {
				require.GreaterOrEqual(t, at, uint64(windowBase))
				require.LessOrEqual(t, at+uint64(length), uint64(windowBase+0x1000_0000))
			}
			require.LessOrEqual(t, len(r.vectors), 3)
		}
	})
}

// FuzzDevice configures devices with random configuration spaces. New may refuse them. Nothing may
// panic or leak.
func FuzzDevice(f *testing.F) {
	add := func(edit func(p *physical)) {
		p := newPhysical()
		edit(p)
		f.Add(p.config[:], uint8(2), uint8(0))
	}
	add(func(*physical) {})
	add(func(p *physical) { p.config[0x34] = 0xfc; copy(p.config[0xfc:], []byte{pci.CapMSIX, 0, 0x02, 0x00}) })
	add(func(p *physical) { p.config[0x34] = 0xfc; copy(p.config[0xfc:], []byte{pci.CapExpress, 0, 0x92, 0x00}) })
	add(func(p *physical) { p.config[0x34] = 0xfc; copy(p.config[0xfc:], []byte{pci.CapVendor, 0, 0xff, 0x00}) })
	add(func(p *physical) { copy(p.config[0x60:], []byte{pci.CapMSIX, 0x50, 0x02, 0x00}) })            // twice, in a ring
	add(func(p *physical) { copy(p.config[0x54:], []byte{1, 0, 0, 0, 0xf9, 0xff, 0xff, 0xff}) })       // in other BARs
	add(func(p *physical) { copy(p.config[0x54:], []byte{7, 0, 0, 0}) })                               // in none
	add(func(p *physical) { copy(p.config[0x10:], []byte{0x0c, 0, 0, 0, 0x04, 0, 0, 0, 1, 0, 0, 0}) }) // upper half, ports
	f.Fuzz(func(t *testing.T, config []byte, size0, size1 uint8) {
		p := newPhysical()
		copy(p.config[:], config)
		p.sizes[0], p.sizes[1] = uint64(1)<<(size0%24), uint64(size1)<<8
		before := descriptors(t)
		m := newMachine()
		d, err := New(Config{Physical: p, Machine: m, BehindPort: size0 >= 128, Stream: func(pci.RequesterID, bool) error { return nil }})
		if err == nil {
			w := pci.Window{Base: windowBase, Size: 0x1000_0000}
			h, err := pci.NewHost(1, w)
			require.NoError(t, err)
			require.NoError(t, h.Add(0, false, d, d.Connect))
			for off := uint64(pci.RegBAR0); off < pci.ConfigSize; off += 4 {
				h.ECAM().Store(off, 4, 0xffff_ffff)
				h.ECAM().Load(off, 4)
			}
			h.ECAM().Store(pci.RegBAR0, 4, windowBase)
			h.ECAM().Store(pci.RegCommand, 2, pci.CommandMemory)
			if table := d.intr.msix.table; table != nil {
				h.ECAM().Store(uint64(d.space.msix)+msixControl, 2, pci.MSIXEnable)
				h.Memory(w).Store(d.intr.msix.at.off+12, 4, 0)
				h.Memory(w).Load(d.intr.msix.pending.off, 8)
			}
			require.NoError(t, d.Close())
		}
		require.Zero(t, p.mapped)
		require.Empty(t, m.memory)
		require.Empty(t, m.vectors)
		require.Equal(t, before, descriptors(t), "open files")
	})
}
