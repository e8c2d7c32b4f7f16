package efi

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const at, end, rsdp = 0x4230_0000, 0x4240_0000, 0x4230_1000

func handover(t *testing.T) Handover {
	t.Helper()
	h, err := New(at, end, rsdp, Range{0x4000_0000, 512 << 20})
	require.NoError(t, err)
	require.Len(t, h.Data, 4096)
	return h
}

func u64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// UEFI 2.10, §4.3.
func TestSystemTableHasConfigurationTablesAndNoServices(t *testing.T) {
	h := handover(t)
	table := h.Data[:120]
	assert.Equal(t, "IBI SYST", string(table[:8]))
	assert.EqualValues(t, 2<<16|70, binary.LittleEndian.Uint32(table[8:]), "revision")
	assert.EqualValues(t, 120, binary.LittleEndian.Uint32(table[12:]))
	crc := binary.LittleEndian.Uint32(table[16:])
	clear(table[16:20])
	assert.Equal(t, crc32.ChecksumIEEE(table), crc, "of a table whose checksum is 0")
	assert.Zero(t, u64(table[88:]), "runtime services")
	assert.Zero(t, u64(table[96:]), "boot services")
	assert.EqualValues(t, 2, u64(table[104:]), "configuration tables")
	config := h.Data[u64(table[112:])-at:]
	assert.Equal(t, "71e86888f1e4d311bc220080c73c8881", hex.EncodeToString(config[:16]), "8868e871-e4f1-11d3-bc22-0080c73c8881")
	assert.EqualValues(t, rsdp, u64(config[16:]))
	assert.Equal(t, "c6b08e88de8ef54fa8f09aee5cb977c2", hex.EncodeToString(config[24:40]), "888eb0c6-8ede-4ff5-a8f0-9aee5cb977c2")
	reserved := h.Data[u64(config[40:])-at:]
	assert.Equal(t, make([]byte, 16), reserved[:16], "size, count and next of an empty list")
	assert.Equal(t, "v\x00s\x00m\x00", string(h.Data[u64(table[24:])-at:][:6]), "the vendor in UCS-2")
}

// §7.2: type, physical and virtual start, pages of 4 KiB, attribute.
func TestMemoryMapReservesTheTables(t *testing.T) {
	h := handover(t)
	properties := map[string][]byte{}
	for _, p := range h.Chosen() {
		properties[p.Name] = p.Value
	}
	assert.EqualValues(t, at, binary.BigEndian.Uint64(properties["linux,uefi-system-table"]))
	assert.EqualValues(t, 48, binary.BigEndian.Uint32(properties["linux,uefi-mmap-desc-size"]))
	assert.EqualValues(t, 1, binary.BigEndian.Uint32(properties["linux,uefi-mmap-desc-ver"]))
	assert.EqualValues(t, 2, binary.BigEndian.Uint32(properties["linux,uefi-secure-boot"]))
	assert.EqualValues(t, 3*48, binary.BigEndian.Uint32(properties["linux,uefi-mmap-size"]))
	start := binary.BigEndian.Uint64(properties["linux,uefi-mmap-start"])
	for i, want := range [][5]uint64{
		{7, 0x4000_0000, 0, 0x2300, 8},
		{9, 0x4230_0000, 0, 0x100, 8},
		{7, 0x4240_0000, 0, 0x1dc00, 8},
	} {
		d := h.Data[start-at+uint64(48*i):]
		assert.Equal(t, want, [5]uint64{u64(d), u64(d[8:]), u64(d[16:]), u64(d[24:]), u64(d[32:])}, i)
		assert.Zero(t, u64(d[40:]), "padding")
	}
}

func TestMemoryMapHasNoEmptyRanges(t *testing.T) {
	h, err := New(0x4000_0000, 0x4020_0000, rsdp, Range{0x4000_0000, 0x20_0000})
	require.NoError(t, err)
	assert.Equal(t, 48, h.mapSize)
}

func TestNewRejectsInvalidRangesOfMemory(t *testing.T) {
	ram := Range{0x4000_0000, 0x100_0000}
	for _, tt := range []struct {
		name    string
		at, end uint64
	}{
		{"not at a page", 0x4000_0800, 0x4001_0000},
		{"not to a page", 0x4000_0000, 0x4001_0800},
		{"below the memory", 0x3fff_f000, 0x4001_0000},
		{"above the memory", 0x4000_0000, 0x4100_1000},
		{"smaller than a handover", 0x4000_0000, 0x4000_0000},
	} {
		_, err := New(tt.at, tt.end, 0, ram)
		assert.ErrorContains(t, err, "efi: new handover", tt.name)
	}
}
