package smmuv3

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// NewStreamTable follows §6.3.24 and §6.3.25. By default the SMMU has SIDSIZE 16, 48 bits of output
// address and two-level tables.
func TestNewStreamTable(t *testing.T) {
	const ones = ^uint64(0)
	dflt := s1IDs()
	for _, c := range []struct {
		name   string
		base   uint64
		cfg    uint32
		ids    IDRegs
		addr   uint64
		two    bool
		log2   uint
		split  uint
		nBytes uint64
	}{
		{"linear, one entry", 0x4000_0040, 0x0, dflt, 0x4000_0040, false, 0, 6, 64},
		{"linear, aligned to its size", 0x4000_ffff, 0x8, dflt, 0x4000_c000, false, 8, 6, 16 << 10},
		{"linear, RA and RES0 bits are no address", 0xff00_0000_4000_003f, 0x0, dflt, 0x4000_0000, false, 0, 6, 64},
		{"linear, cut to OAS", ones, 0x0, dflt, 0x0000_ffff_ffff_ffc0, false, 0, 6, 64},
		{"linear, cut to an OAS of 32 bits", ones, 0x0, dflt.with(OAS, 0), 0xffff_ffc0, false, 0, 6, 64},
		{"linear, SPLIT is IGNORED", 0x4000_0000, 8<<6 | 4, dflt, 0x4000_0000, false, 4, 8, 1024},
		{"two levels, one L1STD", 0x4000_0040, 1<<16 | 8<<6 | 8, dflt, 0x4000_0040, true, 8, 8, 8},
		{"two levels, LOG2SIZE < SPLIT", 0x4000_0040, 1<<16 | 8<<6 | 4, dflt, 0x4000_0040, true, 4, 8, 8},
		{"two levels, aligned to 64 bytes at least", 0x4000_007f, 1<<16 | 8<<6 | 10, dflt, 0x4000_0040, true, 10, 8, 32},
		{"two levels, aligned to the L1 table", 0x4000_0fff, 1<<16 | 8<<6 | 16, dflt, 0x4000_0800, true, 16, 8, 2048},
		{"two levels, SPLIT 6", 0x4000_0000, 1<<16 | 6<<6 | 16, dflt, 0x4000_0000, true, 16, 6, 8192},
		{"two levels, SPLIT 10", 0x4000_0000, 1<<16 | 10<<6 | 16, dflt, 0x4000_0000, true, 16, 10, 512},
		{"SPLIT 0 behaves as 6", 0x4000_0000, 1<<16 | 16, dflt, 0x4000_0000, true, 16, 6, 8192},
		{"SPLIT 7 behaves as 6", 0x4000_0000, 1<<16 | 7<<6 | 16, dflt, 0x4000_0000, true, 16, 6, 8192},
		{"SPLIT 31 behaves as 6", 0x4000_0000, 1<<16 | 31<<6 | 16, dflt, 0x4000_0000, true, 16, 6, 8192},
		{"FMT 2 behaves as linear", 0x4000_0000, 2<<16 | 4, dflt, 0x4000_0000, false, 4, 6, 1024},
		{"FMT 3 behaves as linear", 0x4000_0000, 3<<16 | 4, dflt, 0x4000_0000, false, 4, 6, 1024},
		{"FMT is RES0 without ST_LEVEL", 0x4000_0000, 1<<16 | 8<<6 | 4, dflt.with(STLevel, 0), 0x4000_0000, false, 4, 8, 1024},
		{"size capped at SIDSIZE", 0x4000_0000, 16, dflt.with(SIDSIZE, 4), 0x4000_0000, false, 4, 6, 1024},

		// The alignment uses LOG2SIZE without the cap.
		{"size capped, linear alignment is not", 0x7fff_ffff, 16, dflt.with(SIDSIZE, 4), 0x7fc0_0000, false, 4, 6, 1024},
		{"size capped, two-level alignment is not", 0x7fff_ffff, 1<<16 | 8<<6 | 20, dflt.with(SIDSIZE, 8), 0x7fff_8000, true, 8, 8, 8},
		{"LOG2SIZE 63, linear", ones, 63, dflt, 0, false, 16, 6, 4 << 20},
		{"LOG2SIZE 58, linear", ones, 58, dflt, 0, false, 16, 6, 4 << 20},
		{"LOG2SIZE 63, two levels", ones, 1<<16 | 6<<6 | 63, dflt, 0, true, 16, 6, 8192},
		{"LOG2SIZE 63, SIDSIZE 32", ones, 63, dflt.with(SIDSIZE, 32), 0, false, 32, 6, 1 << 38},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := NewStreamTable(c.base, c.cfg, c.ids)
			assert.Equal(t, StreamTable{c.addr, c.two, c.log2, c.split, c.ids.OutputMask()}, got)
			assert.Equal(t, c.nBytes, got.Size())
		})
	}
}

func TestStreamTableContains(t *testing.T) {
	for _, c := range []struct {
		log2 uint
		sid  StreamID
		want bool
	}{
		{0, 0, true}, {0, 1, false},
		{8, 0xff, true}, {8, 0x100, false}, {8, 0xffff_ffff, false},
		{32, 0xffff_ffff, true},
	} {
		assert.Equal(t, c.want, StreamTable{Log2Size: c.log2}.Contains(c.sid), "%v of 2^%d", c.sid, c.log2)
	}
}

// The addresses of the descriptors of a StreamID (§3.3.1).
func TestStreamTableAddresses(t *testing.T) {
	assert.Equal(t, uint64(0x4000_0000), StreamTable{Addr: 0x4000_0000}.STEAddr(0))
	assert.Equal(t, uint64(0x4000_2040), StreamTable{Addr: 0x4000_0000}.STEAddr(0x81))
	assert.Equal(t, uint64(0x40_3fff_ffc0), StreamTable{Addr: 0x4000_0000}.STEAddr(0xffff_ffff))
	for split, want := range map[uint]uint64{6: 0x4000_0918, 8: 0x4000_0240, 10: 0x4000_0090} {
		assert.Equal(t, want, StreamTable{Addr: 0x4000_0000, TwoLevel: true, Split: split}.L1STDAddr(0x48ff), "SPLIT %d", split)
	}
}

// The fields and limits of §5.1.
func TestL1STD(t *testing.T) {
	assert.Equal(t, uint(31), L1STD(0x1f).Span())
	assert.Equal(t, uint(0), L1STD(^uint64(0x1f)).Span())

	for _, c := range []struct {
		name  string
		d     L1STD
		split uint
		stes  uint64
		l2ptr uint64
	}{
		{"Span 0 is invalid", 0x4000_0000, 8, 0, 0x4000_0000},
		{"Span 1 is one STE", 0x4000_0041, 8, 1, 0x4000_0040},
		{"Span 2, aligned to its size", 0x4000_00c2, 8, 2, 0x4000_0080},
		{"Span SPLIT+1 is all of them", 0x4000_0009, 8, 256, 0x4000_0000},
		{"Span above SPLIT+1 is out of bounds", 0x4000_000a, 8, 0, 0x4000_0000},
		{"Span 7 with SPLIT 6", 0x4000_0007, 6, 64, 0x4000_0000},
		{"Span 8 with SPLIT 6", 0x4000_0008, 6, 0, 0x4000_0000},
		{"Span 11 with SPLIT 10", 0x4001_ffcb, 10, 1024, 0x4001_0000},
		{"Span 12 is reserved", 0x4000_000c, 10, 0, 0x4000_0000},
		{"Span 31 is reserved", 0x1f, 10, 0, 0},
		{"RES0 bits and those above", 0xff00_0000_4000_0061, 8, 1, 0x4000_0040},
		{"L2Ptr[55]", 0x0080_0000_0000_0001, 8, 1, 0x0080_0000_0000_0000},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.stes, c.d.STEs(StreamTable{TwoLevel: true, Split: c.split}))
			if c.stes != 0 {
				assert.Equal(t, c.l2ptr, c.d.L2Ptr())
			}
		})
	}
}
