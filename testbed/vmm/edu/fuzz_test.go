package edu

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

func (a access) do(r *rig) {
	size, off := 1<<(a.size&3), uint64(a.off)
	switch a.kind & 3 {
	case 0:
		r.window.Load(off, size)
	case 1:
		r.window.Store(off, size, a.value)
	case 2:
		r.config(off%0x1000, size)
	case 3:
		r.setConfig(off%0x1000, size, a.value)
	}
}

func store(off uint32, v uint64) access                  { return access{1, 3, off, v} }
func storeConfig(off uint32, log2 byte, v uint64) access { return access{3, log2, off, v} }

// FuzzFunction checks that no sequence of accesses makes a function panic or hang, or lets it make
// DMA after a reset without Bus Master Enable.
func FuzzFunction(f *testing.F) {
	for _, seed := range []struct {
		name string
		do   []access
	}{
		{"a DMA to the last address", []access{store(0x80, 0x4_0000), store(0x88, ^uint64(0)), store(0x90, 4096), store(0x98, 7)}},
		{"the end of the buffer", []access{store(0x80, 0x4_0fff), store(0x88, iova), store(0x90, 1), store(0x98, 3)}},
		{"beyond the buffer", []access{store(0x80, 0x4_0fff), store(0x88, iova), store(0x90, 2), store(0x98, 3)}},
		{"transactions of one byte", []access{store(0x1028, 1), store(0x90, 4096), store(0x98, 1)}},
		{"larger transactions than a page", []access{store(0x1028, ^uint64(0)), store(0x90, 4096), store(0x98, 1)}},
		{"ATS over the end of a page", []access{store(0x1010, 0x28), store(0x80, 0x4_0000), store(0x88, iova+0xffc), store(0x90, 8), store(0x98, 3)}},
		{"each command, with the largest PASID", []access{store(0x1010, 0xf_ffff_0000_0021), store(0x1018, 1), store(0x1018, 2), store(0x1018, 3),
			store(0x1018, 4), store(0x1018, 5), store(0x1018, 6)}},
		{"no such command", []access{store(0x1018, 0), store(0x1018, 7), store(0x1018, 0xff)}},
		{"a page request of group 511", []access{store(0x1010, 0x20), store(0x1018, 4|3<<9|511<<16)}},
		{"a hang and a reset", []access{store(0x1030, 1), storeConfig(0x58, 1, 0x8000), storeConfig(0x10, 2, barAt), storeConfig(4, 1, 6)}},
		{"logs that are empty", []access{store(0x10a0, 0), store(0x10d0, 0), {0, 3, 0x1090, 0}, {0, 3, 0x1098, 0}}},
		{"an MSI to RAM", []access{storeConfig(0x44, 2, ram), storeConfig(0x42, 1, 1), {1, 2, 0x60, 1}}},
		{"MSI-X at the end of its table", []access{store(0x20_0018, ^uint64(0)), store(0x20_0020, 1), storeConfig(0x92, 1, 0x8000), {1, 2, 0x60, 0x100}}},
		{"the largest factorial", []access{{1, 2, 0x08, 0xffff_ffff}}},
		{"BAR over the end of the bridge's window", []access{storeConfig(0x10, 2, barAt+0xf8_0000), {0, 3, 0xff_fff8, 0}}},
		{"the last registers of the configuration space", []access{storeConfig(0xfc, 2, 1), storeConfig(0xffc, 2, 1), {2, 2, 0xffc, 0}}},
	} {
		var input []byte
		for _, a := range seed.do {
			input = a.append(input)
		}
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		const most = 64 // accesses, to keep the fuzzer fast
		r := newATSRig(t)
		for range most {
			if len(input) < accessSize {
				break
			}
			parseAccess(input).do(r)
			input = input[accessSize:]
		}
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
