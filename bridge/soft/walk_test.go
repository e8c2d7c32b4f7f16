package soft_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

type words map[guestmem.GPA]uint64

// ids52 returns ID registers for 52-bit addresses.
func ids52() smmuv3.IDRegs {
	ids := soft.DefaultIDs()
	ids.Set(smmuv3.OAS, 6)
	ids.Set(smmuv3.VAX, 1)
	return ids
}

// idsDS returns ID registers for 52-bit addresses with the small granules, too.
func idsDS() smmuv3.IDRegs {
	ids := ids52()
	ids.Set(smmuv3.DS, 1)
	return ids
}

// Every word here is written by hand from the formats of DDI 0487 D8.3 and the indices of D8.2.8 to
// D8.2.10. None is made by this module.
//
// Pages have nG, AF and AP[1] set, 0xc43, and blocks 0xc41.
func TestGoldenWalks(t *testing.T) {
	for _, c := range []struct {
		name string
		ids  smmuv3.IDRegs
		cd   [3]uint64
		mem  words
		iova uint64
		pa   guestmem.GPA
	}{
		{"4 KiB granule, 48 bits, page: levels 0 to 3", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_0010, 0x10000},
			words{0x10810: 0x20003, 0x20468: 0x30003, 0x30158: 0x40003, 0x403c0: 0xabcd_ef98_7c43},
			0x8123_4567_8ab8, 0xabcd_ef98_7ab8},
		{"4 KiB granule, 48 bits, 2 MiB block at level 2", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_0010, 0x10000},
			words{0x10810: 0x20003, 0x20468: 0x30003, 0x30158: 0x7fe0_0c41},
			0x8123_4567_8ab8, 0x7fe7_8ab8},
		{"4 KiB granule, 48 bits, 1 GiB block at level 1", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_0010, 0x10000},
			words{0x10810: 0x20003, 0x20468: 0xc000_0c41},
			0x8123_4567_8ab8, 0xc567_8ab8},
		{"4 KiB granule, 39 bits begin at level 1", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_0019, 0x20000},
			words{0x20fe0: 0x30003, 0x30488: 0x40003, 0x40a28: 0x5000_0c43},
			0x7f_1234_5ab8, 0x5000_0ab8},
		{"4 KiB granule, 40 bits begin at level 0 with two descriptors", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_0018, 0x10010},
			words{0x10018: 0x20003, 0x20008: 0x30003, 0x30000: 0x40003, 0x40018: 0x5000_0c43},
			0x80_4000_3ab8, 0x5000_0ab8},
		{"4 KiB granule, 25 bits begin at level 2", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_0027, 0x30000},
			words{0x30070: 0x40003, 0x40018: 0x5000_0c43},
			0x1c0_3ab8, 0x5000_0ab8},
		{"4 KiB granule, small table of 16 bits: level 3 alone", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_0030, 0x40080},
			words{0x400d8: 0x5000_0c43},
			0xbab8, 0x5000_0ab8},
		{"4 KiB granule, upper half by TTB1", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_8090_4000, 0, 0x10000},
			words{0x10ff8: 0x20003, 0x20ff8: 0x30003, 0x30ea8: 0x40003, 0x40e68: 0x5000_0c43},
			0xffff_ffff_fabc_dab8, 0x5000_0ab8},
		{"both halves, each with its granule: TTB1 of 64 KiB", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_80d6_0010, 0x10000, 0x50000},
			words{0x5ffc8: 0x60003, 0x61a28: 0x5001_0c43},
			0xffff_ffff_2345_6ab8, 0x5001_6ab8},
		{"16 KiB granule, 48 bits begin at level 0 with two descriptors", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_0090, 0x10000},
			words{0x10008: 0x20003, 0x20090: 0x30003, 0x30d10: 0x40003, 0x42cf0: 0x5000_4c43},
			0x8123_4567_8ab8, 0x5000_4ab8},
		{"16 KiB granule, 47 bits begin at level 1", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_0091, 0x20000},
			words{0x23890: 0x30003, 0x30d10: 0x40003, 0x42cf0: 0x5000_4c43},
			0x7123_4567_8ab8, 0x5000_4ab8},
		{"16 KiB granule, 36 bits, page", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_009c, 0x30000},
			words{0x33fb0: 0x40003, 0x43970: 0x5000_0c43},
			0xf_edcb_aab8, 0x5000_2ab8},
		{"16 KiB granule, 36 bits, 32 MiB block at level 2", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_009c, 0x30000},
			words{0x33fb0: 0x4200_0c41},
			0xf_edcb_aab8, 0x43cb_aab8},
		{"64 KiB granule, 48 bits begin at level 1", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_0050, 0x10000},
			words{0x10100: 0x20003, 0x248d0: 0x30003, 0x32b38: 0x5001_0c43},
			0x8123_4567_8ab8, 0x5001_8ab8},
		{"64 KiB granule, 42 bits begin at level 2", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_0056, 0x20000},
			words{0x2ffc8: 0x30003, 0x31a28: 0x5001_0c43},
			0x3ff_2345_6ab8, 0x5001_6ab8},
		{"64 KiB granule, 42 bits, 512 MiB block at level 2", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_0056, 0x20000},
			words{0x2ffc8: 0x6000_0c41},
			0x3ff_2345_6ab8, 0x6345_6ab8},
		{"64 KiB granule, small table of 17 bits", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_006f, 0x30010},
			words{0x30018: 0x5001_0c43},
			0x1_bab8, 0x5001_bab8},
		{"64 KiB granule, 52-bit input: a level 1 table of 1024", ids52(),
			[3]uint64{0x0001_6206_c000_004c, 0x10000},
			words{0x11f00: 0x20003, 0x248d0: 0x30003, 0x32b38: 0x5001_0c43},
			0xf_8123_4567_8ab8, 0x5001_8ab8},
		{"64 KiB granule, 52-bit output: bits [51:48] are in [15:12]", ids52(),
			[3]uint64{0x0001_6206_c000_0050, 0x10000},
			words{0x10100: 0x20003, 0x248d0: 0x30003, 0x32b38: 0x5001_ac43},
			0x8123_4567_8ab8, 0xa_0000_5001_8ab8},
		{"64 KiB granule, 52-bit output: 4 TiB block at level 1", ids52(),
			[3]uint64{0x0001_6206_c000_0050, 0x10000},
			words{0x10100: 0x0400_0000_ac41},
			0x8123_4567_8ab8, 0xa_0523_4567_8ab8},
		{"64 KiB granule, tables beyond 48 bits", ids52(),
			[3]uint64{0x0001_6206_c000_0056, 0xf_0000_0002_0000},
			words{0xf_0000_0002_ffc8: 0x3_b003, 0xb_0000_0003_1a28: 0x5001_0c43},
			0x3ff_2345_6ab8, 0x5001_6ab8},
		{"52-bit output aligns the first table to 64 bytes", ids52(),
			[3]uint64{0x0001_6206_c000_006f, 0x30030},
			words{0x30008: 0x5001_0c43},
			0x1_bab8, 0x5001_bab8},
		{"a larger first table is aligned to its size", ids52(),
			[3]uint64{0x0001_6206_c000_0056, 0x2ffc0},
			words{0x2ffc8: 0x30003, 0x31a28: 0x5001_0c43},
			0x3ff_2345_6ab8, 0x5001_6ab8},
		{"4 KiB granule with DS, 52 bits begin at level -1", idsDS(),
			[3]uint64{0x0001_6206_c000_000c, 0xf000, 1 << 58},
			words{0xf078: 0x10003, 0x10810: 0x20003, 0x20468: 0x30003, 0x30158: 0x40003, 0x403c0: 0x0002_abcd_ef98_7d43},
			0xf_8123_4567_8ab8, 0x6_abcd_ef98_7ab8},
		{"4 KiB granule with DS, 49 bits begin at level -1 with two descriptors, in 64 bytes", idsDS(),
			[3]uint64{0x0001_6206_c000_000f, 0xf030, 1 << 58},
			words{0xf008: 0x10003, 0x10810: 0x20003, 0x20468: 0x30003, 0x30158: 0x40003, 0x403c0: 0x5000_0c43},
			0x1_8123_4567_8ab8, 0x5000_0ab8},
		{"4 KiB granule with DS, 512 GiB block at level 0", idsDS(),
			[3]uint64{0x0001_6206_c000_000c, 0xf000, 1 << 58},
			words{0xf078: 0x10003, 0x10810: 0x0003_ab80_0000_0f41},
			0xf_8123_4567_8ab8, 0xf_aba3_4567_8ab8},
		{"4 KiB granule with DS, tables beyond 48 bits", idsDS(),
			[3]uint64{0x0001_6206_c000_0019, 0xf_0000_0002_0000, 1 << 58},
			words{0xf_0000_0002_0fe0: 0x0001_0000_0003_0103, 0x5_0000_0003_0488: 0x0002_0000_0004_0203, 0xa_0000_0004_0a28: 0x5000_0c43},
			0x7f_1234_5ab8, 0x5000_0ab8},
		{"4 KiB granule with DS by TTB1, 52 bits", idsDS(),
			[3]uint64{0x0001_6206_808c_4000, 0, 0xf000 | 1<<58},
			words{0xf000: 0x10003, 0x10ff8: 0x20003, 0x20ff8: 0x30003, 0x30ea8: 0x40003, 0x40e68: 0x5000_0c43},
			0xfff0_ffff_fabc_dab8, 0x5000_0ab8},
		{"16 KiB granule with DS, 52 bits begin at level 0 with 32 descriptors", idsDS(),
			[3]uint64{0x0001_6206_c000_008c, 0x10000, 1 << 58},
			words{0x100f8: 0x20003, 0x20090: 0x30003, 0x30d10: 0x40003, 0x42cf0: 0x0001_0000_5000_4e43},
			0xf_8123_4567_8ab8, 0x9_0000_5000_4ab8},
		{"16 KiB granule with DS, 64 GiB block at level 1", idsDS(),
			[3]uint64{0x0001_6206_c000_0091, 0x20000, 1 << 58},
			words{0x23890: 0x0002_ab70_0000_0d41},
			0x7123_4567_8ab8, 0x6_ab73_4567_8ab8},
		{"small granules have 48 bits with DS = 0, for any IPS", idsDS(),
			[3]uint64{0x0001_6206_c000_0030, 0x40080},
			words{0x400d8: 0x0003_0000_5000_0f43},
			0xbab8, 0x5000_0ab8},
		{"DS is RES0 without IDR5.DS", ids52(),
			[3]uint64{0x0001_6206_c000_0030, 0x40080, 1 << 58},
			words{0x400d8: 0x0003_0000_5000_0f43},
			0xbab8, 0x5000_0ab8},
		{"TTB0 is aligned to the table's size: 4 KiB here", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_0019, 0x20ff0},
			words{0x20fe0: 0x30003, 0x30488: 0x40003, 0x40a28: 0x5000_0c43},
			0x7f_1234_5ab8, 0x5000_0ab8},
		{"TBI0 ignores the top byte", smmuv3.IDRegs{},
			[3]uint64{0x0001_6245_c000_0019, 0x20000},
			words{0x20fe0: 0x30003, 0x30488: 0x40003, 0x40a28: 0x5000_0c43},
			0xa500_007f_1234_5ab8, 0x5000_0ab8},
		{"TBI1 ignores the top byte", smmuv3.IDRegs{},
			[3]uint64{0x0001_6285_8090_4000, 0, 0x10000},
			words{0x10ff8: 0x20003, 0x20ff8: 0x30003, 0x30ea8: 0x40003, 0x40e68: 0x5000_0c43},
			0x00ff_ffff_fabc_dab8, 0x5000_0ab8},
		{"ENDI: descriptors are big-endian", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_8030, 0x40080},
			words{0x400d8: 0x430c_0050_0000_0000},
			0xbab8, 0x5000_0ab8},
		{"the Contiguous bit is a hint", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_0030, 0x40080},
			words{0x400d8: 0x0010_0000_5000_0c43},
			0xbab8, 0x5000_0ab8},
		{"leaf bits for software, and ignored bits", smmuv3.IDRegs{},
			[3]uint64{0x0001_6205_c000_0030, 0x40080},
			words{0x400d8: 0xf78f_0000_5000_0f7f},
			0xbab8, 0x5000_0ab8},
		{"IPS above OAS behaves as OAS", smmuv3.IDRegs{},
			[3]uint64{0x0001_6206_c000_0030, 0x40080},
			words{0x400d8: 0xffff_5000_0c43},
			0xbab8, 0xffff_5000_0ab8},
		{"IPS = 7 behaves as OAS", smmuv3.IDRegs{},
			[3]uint64{0x0001_6207_c000_0030, 0x40080},
			words{0x400d8: 0xffff_5000_0c43},
			0xbab8, 0xffff_5000_0ab8},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, soft.Config{IDs: c.ids})
			r.mem.SetWords(cdAt, c.cd[:]...)
			for at, w := range c.mem {
				r.mem.SetWords(at, w)
			}
			r.mem.SetWords(c.pa, 0xfeed)
			r.bind(oneCD)
			for _, how := range []string{"by a walk", "from the TLB"} {
				got, err := word(r.ep, c.iova)
				require.NoError(t, err, how)
				assert.EqualValues(t, 0xfeed, got, how)
			}
			assert.Empty(t, r.taken())
		})
	}
}

// A failed walk: the event is the whole record, dw0 to dw3. In dw1, RnW is bit 35, CLASS is
// [41:40].
func TestGoldenFaults(t *testing.T) {
	const (
		read  = 1 << 35
		in    = 0b10 << 40
		tt    = 0b01 << 40
		page  = 0x5000_0c43
		cd39  = 0x0001_6205_c000_0019 // 39 bits: levels 1 to 3
		first = 0x20000
	)
	good := words{0x20fe0: 0x30003, 0x30488: 0x40003, 0x40a28: page}
	const iova = 0x7f_1234_5ab8
	for _, c := range []struct {
		name string
		cd   [3]uint64
		mem  words // changes to good
		bad  guestmem.GPA
		iova uint64
		want smmuv3.Event
	}{
		{"the address is beyond T0SZ", [3]uint64{cd39, first}, nil, 0, 0x80_0000_0000,
			smmuv3.Event{0x42_00000010, read | in, 0x80_0000_0000}},
		{"the top byte, without TBI", [3]uint64{cd39, first}, nil, 0, 0x0100_007f_1234_5ab8,
			smmuv3.Event{0x42_00000010, read | in, 0x0100_007f_1234_5ab8}},
		{"bits [55:48], with TBI", [3]uint64{cd39 | 1<<38, first}, nil, 0, 0x0001_007f_1234_5ab8,
			smmuv3.Event{0x42_00000010, read | in, 0x0001_007f_1234_5ab8}},
		{"the upper half, with EPD1: nothing is read at TTB1 = 0", [3]uint64{cd39, first}, words{0: 0x30003}, 0, 0xffff_ffff_ffff_fff8,
			smmuv3.Event{0x42_00000010, read | in, 0xffff_ffff_ffff_fff8}},
		{"the lower half, with EPD0: nothing is read at TTB0 = 0", [3]uint64{0x0001_6205_8090_4000, 0, 0x10000}, words{0: 0x30003}, 0, iova,
			smmuv3.Event{0x42_00000010, read | in, iova}},
		{"EPD1, although the tables would translate", [3]uint64{0x0001_6205_c0d6_0010, 0x10000, 0x50000}, words{0x5ffc8: 0x60003, 0x61a28: 0x5001_0c43}, 0, 0xffff_ffff_2345_6ab8,
			smmuv3.Event{0x42_00000010, read | in, 0xffff_ffff_2345_6ab8}},
		{"EPD0, although the tables would translate", [3]uint64{0x0001_6205_8090_4019, first, 0x10000}, nil, 0, iova,
			smmuv3.Event{0x42_00000010, read | in, iova}},
		{"an invalid descriptor at level 1", [3]uint64{cd39, first}, words{0x20fe0: 0x30002}, 0, iova,
			smmuv3.Event{0x42_00000010, read | in, iova}},
		{"an invalid descriptor at level 2", [3]uint64{cd39, first}, words{0x30488: 0}, 0, iova,
			smmuv3.Event{0x42_00000010, read | in, iova}},
		{"an invalid descriptor at level 3", [3]uint64{cd39, first}, words{0x40a28: page &^ 1}, 0, iova,
			smmuv3.Event{0x42_00000010, read | in, iova}},
		{"a block at level 3 is reserved", [3]uint64{cd39, first}, words{0x40a28: page &^ 2}, 0, iova,
			smmuv3.Event{0x42_00000010, read | in, iova}},
		{"a block at level 0 of the 4 KiB granule", [3]uint64{0x0001_6205_c000_0010, 0x10000}, words{0x10000: 0xc41}, 0, 0,
			smmuv3.Event{0x42_00000010, read | in, 0}},
		{"a block at level 1 of the 16 KiB granule", [3]uint64{0x0001_6205_c000_0091, 0x10000}, words{0x10000: 0xc41}, 0, 0,
			smmuv3.Event{0x42_00000010, read | in, 0}},
		{"a block at level 1 of the 64 KiB granule, without 52 bits", [3]uint64{0x0001_6205_c000_0050, 0x10000}, words{0x10000: 0xc41}, 0, 0,
			smmuv3.Event{0x42_00000010, read | in, 0}},
		{"a table beyond IPS", [3]uint64{cd39&^(7<<32) | 1<<32, first}, words{0x20fe0: 0x10_0003_0003}, 0, iova,
			smmuv3.Event{0x42_00000011, read | in, iova}},
		{"a page beyond IPS", [3]uint64{cd39&^(7<<32) | 1<<32, first}, words{0x40a28: 0x10_5000_0c43}, 0, iova,
			smmuv3.Event{0x42_00000011, read | in, iova}},
		{"the address of an invalid descriptor is ignored", [3]uint64{cd39 &^ (7 << 32), first}, words{0x20fe0: 0xffff_ffff_ffff_fffe}, 0, iova,
			smmuv3.Event{0x42_00000010, read | in, iova}},
		{"bits [51:48] of the 64 KiB granule are beyond 48 bits", [3]uint64{0x0001_6205_c000_006f, 0x30000}, words{0x30008: 0x5001_1c43}, 0, 0x1_bab8,
			smmuv3.Event{0x42_00000011, read | in, 0x1_bab8}},
		{"Access flag 0", [3]uint64{cd39, first}, words{0x40a28: page &^ (1 << 10)}, 0, iova,
			smmuv3.Event{0x42_00000012, read | in, iova}},
		{"Access flag 0 comes before permissions", [3]uint64{cd39, first}, words{0x40a28: 0x5000_0803}, 0, iova,
			smmuv3.Event{0x42_00000012, read | in, iova}},
		{"an output address comes before the Access flag", [3]uint64{cd39&^(7<<32) | 1<<32, first}, words{0x40a28: 0x10_5000_0803}, 0, iova,
			smmuv3.Event{0x42_00000011, read | in, iova}},
		{"no permission", [3]uint64{cd39, first}, words{0x40a28: 0x5000_0c03}, 0, iova,
			smmuv3.Event{0x42_00000013, read | in, iova}},
		{"no memory at level 1", [3]uint64{cd39, first}, nil, 0x20fe0, iova,
			smmuv3.Event{0x42_0000000b, read | tt, iova, 0x20fe0}},
		{"no memory at level 3", [3]uint64{cd39, first}, nil, 0x40a28, iova,
			smmuv3.Event{0x42_0000000b, read | tt, iova, 0x40a28}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, soft.Config{})
			r.mem.SetWords(cdAt, c.cd[:]...)
			for _, m := range []words{good, c.mem} {
				for at, w := range m {
					r.mem.SetWords(at, w)
				}
			}
			if c.bad != 0 {
				r.mem.FailReads(guestmem.Range{GPA: c.bad, Len: 8}, nil)
			}
			r.bind(oneCD)
			_, err := word(r.ep, c.iova)
			require.ErrorIs(t, err, soft.ErrFault)
			assert.Equal(t, []smmuv3.Event{c.want}, r.taken())
		})
	}
}

// Failed walks with 52 bits and the 4 KiB granule: the SMMU checks all bits of the output address
// against IPS, and blocks at level 0 require DS.
func TestGoldenFaultsWithDS(t *testing.T) {
	const in = 1<<35 | 0b10<<40
	for _, c := range []struct {
		name string
		cd0  uint64
		ds   uint64
		mem  words
		iova uint64
		want smmuv3.Event
	}{
		{"bits [51:50] are beyond 48 bits", 0x0001_6205_c000_0030, 1 << 58, words{0x400d8: 0x5000_0d43}, 0xbab8,
			smmuv3.Event{0x42_00000011, in, 0xbab8}},
		{"bits [49:48] are beyond 48 bits", 0x0001_6205_c000_0030, 1 << 58, words{0x400d8: 0x0001_0000_5000_0c43}, 0xbab8,
			smmuv3.Event{0x42_00000011, in, 0xbab8}},
		{"a block at level 0 without DS", 0x0001_6206_c000_0010, 0, words{0x40000: 0xc41}, 0,
			smmuv3.Event{0x42_00000010, in, 0}},
		{"a block at level -1", 0x0001_6206_c000_000c, 1 << 58, words{0x40000: 0xc41}, 0,
			smmuv3.Event{0x42_00000010, in, 0}},
		{"an address beyond 52 bits", 0x0001_6206_c000_000c, 1 << 58, nil, 1 << 52,
			smmuv3.Event{0x42_00000010, in, 1 << 52}},
		{"T0SZ of 52 bits without DS", 0x0001_6206_c000_000c, 0, nil, 0,
			smmuv3.Event{0x42_0000000a}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, soft.Config{IDs: idsDS()})
			r.mem.SetWords(cdAt, c.cd0, 0x40080, c.ds)
			if c.cd0&0x3f != 0x30 {
				r.mem.SetWords(cdAt+8, 0x40000)
			}
			for at, w := range c.mem {
				r.mem.SetWords(at, w)
			}
			r.bind(oneCD)
			_, err := word(r.ep, c.iova)
			require.ErrorIs(t, err, soft.ErrFault)
			assert.Equal(t, []smmuv3.Event{c.want}, r.taken())
		})
	}
}

// A walk of a table that is its own next table ends at the last level (DDI 0487, D8.2.1).
func TestWalkOfLoopingTablesEnds(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.mem.SetWords(cdAt, cd4K, 0x10000)
	r.mem.SetWords(0x10000, 0x10000|pageRW)
	r.bind(oneCD)
	got, err := word(r.ep, 0)
	require.NoError(t, err, "at level 3 the descriptor is a page: the table itself")
	assert.EqualValues(t, 0x10000|pageRW, got)
}

// §5.5: A, R and the four faults that they govern.
func TestFaultConfiguration(t *testing.T) {
	const a, rec = 1 << 46, 1 << 45
	for _, c := range []struct {
		name     string
		flags    uint64
		err      error
		recorded int
	}{
		{"A=1 R=1: abort, recorded", a | rec, soft.ErrFault, 1},
		{"A=1 R=0: abort, silent", a, soft.ErrFault, 0},
		{"A=0 R=1: RAZ/WI, recorded", rec, nil, 1},
		{"A=0 R=0: RAZ/WI, silent", 0, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, soft.Config{})
			const cd = cd4K &^ (a | rec)
			r.map4K(cd|c.flags, 0x5000_0000|pageRW, 0, 0x6000_0000|pageRW)
			r.mem.SetWords(0x5000_0ff8, 1, 2)
			r.mem.SetWords(0x6000_0000, 3)
			r.bind(oneCD)

			p := []byte{0, 0, 0, 0, 0, 0, 0, 0, 9, 9}
			err := r.ep.ReadAt(p, 0xff8)
			events := r.taken()
			assert.ErrorIs(t, err, c.err)
			assert.Len(t, events, c.recorded)
			if c.err == nil {
				assert.Equal(t, []byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, p, "reads zero")
				assert.NoError(t, r.ep.WriteAt(make([]byte, 16), 0x1ff8), "later accesses succeed")
				assert.Zero(t, r.mem.Words(0x6000_0000, 1)[0])
			}

			// Other events always abort, and are always recorded.
			r.mem.FailReads(guestmem.Range{GPA: 0x30000, Len: 8}, nil)
			r.taken()
			_, err = word(r.ep, 0x5000)
			assert.ErrorIs(t, err, soft.ErrFault)
			assert.Len(t, r.taken(), 1)
		})
	}
}

// §7.3.13, §13.1.2: a write is a data access, for any attributes.
func TestEventOfAWriteHasInD0(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.map4K(cd4K)
	r.bind(oneCD)
	p := r.ep.With(soft.Attrs{Privileged: true, Instruction: true})
	const iova, pnu, ind, rnw, in = 0x1238, 1 << 33, 1 << 34, 1 << 35, 0b10 << 40
	require.ErrorIs(t, p.WriteAt([]byte{1}, iova), soft.ErrFault)
	require.ErrorIs(t, p.ReadAt(make([]byte, 1), iova), soft.ErrFault)
	assert.Equal(t, []smmuv3.Event{{0x42_00000010, pnu | in, iova}, {0x42_00000010, pnu | ind | rnw | in, iova}}, r.taken())
}
