package soft_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// oneLeaf is a translation table with a single leaf, at the level where the walk starts.
type oneLeaf struct {
	name  string
	ids   smmuv3.IDRegs
	tg    uint64 // TG of a TLBI, bits [11:10]
	level uint64
	size  uint   // log2 of the bytes that the leaf maps
	cd    uint64 // dw0 of a CD for stage 1
	ste   uint64 // dw2 of an STE for stage 2; 0 if the leaf is not tested at stage 2
	ds    bool   // CD.DS, which the leaf needs
}

// In dw0 of a CD, T0SZ is [5:0] and TG0 [7:6]. In dw2 of an STE, S2T0SZ is [37:32], S2SL0 [39:38]
// and S2TG [47:46].
func leaves() []oneLeaf {
	all := []oneLeaf{
		{"4 KiB page", soft.Stage2IDs(), 0b01, 3, 12, 0x0001_6205_c000_0030, 0x040d_00eb_0000_0000, false},
		{"2 MiB block", soft.Stage2IDs(), 0b01, 2, 21, 0x0001_6205_c000_0022, 0x040d_0022_0000_0000, false},
		{"1 GiB block", soft.Stage2IDs(), 0b01, 1, 30, 0x0001_6205_c000_0019, 0x040d_0059_0000_0000, false},
		{"16 KiB page", soft.Stage2IDs(), 0b10, 3, 14, 0x0001_6205_c000_00a7, 0x040d_8027_0000_0000, false},
		{"32 MiB block", soft.Stage2IDs(), 0b10, 2, 25, 0x0001_6205_c000_009c, 0x040d_805c_0000_0000, false},
		{"64 KiB page", soft.Stage2IDs(), 0b11, 3, 16, 0x0001_6205_c000_0063, 0x040d_4023_0000_0000, false},
		{"512 MiB block", soft.Stage2IDs(), 0b11, 2, 29, 0x0001_6205_c000_0056, 0x040d_4056_0000_0000, false},
		{"4 TiB block", withStage2(ids52()), 0b11, 1, 42, 0x0001_6206_c000_004c, 0, false},
	}
	return append(all,
		oneLeaf{"512 GiB block", withStage2(idsDS()), 0b01, 0, 39, 0x0001_6205_c000_0018, 0, true},
		oneLeaf{"64 GiB block", withStage2(idsDS()), 0b10, 1, 36, 0x0001_6205_c000_009b, 0, true})
}

// leafRig is a host with one cached translation, of IOVA 0. The leaf has moved to another address
// since the translation was cached.
type leafRig struct {
	*rig
	op uint64 // of a TLBI that invalidates the leaf
}

const (
	leafOld = 1 << 42 // aligned to every block
	leafNew = 1 << 43
)

func newLeafRigs(t *testing.T, l oneLeaf, shown smmuv3.IDRegs) (rigs []leafRig) {
	t.Helper()
	attrs := uint64(blockRW)
	if l.level == 3 {
		attrs = pageRW
	}
	for _, op := range []uint64{0x12, 0x13, 0x2a} { // TLBI_NH_VA, TLBI_NH_VAA, TLBI_S2_IPA
		s := oneCD
		if op == 0x2a {
			s = stage2(bridge.TranslateS2, l.ste, tableAt)
			attrs |= 1<<10 | 0xff<<2 // S2AP, SH, MemAttr
		}
		if op == 0x2a && (l.ste == 0 || !shown.Has(smmuv3.S2P)) {
			continue
		}
		r := newRigShown(t, soft.Config{IDs: l.ids}, shown)
		r.mem.SetWords(cdAt, l.cd, tableAt)
		if l.ds {
			r.mem.SetWords(cdAt+16, 1<<58)
			attrs &^= 0b11 << 8 // SH, which is part of the address
		}
		r.mem.SetWords(tableAt, leafOld|attrs)
		r.mem.SetWords(leafOld, leafOld)
		r.mem.SetWords(leafNew, leafNew)
		r.bind(s)
		r.requireWord(leafOld)
		r.mem.SetWords(tableAt, leafNew|attrs)
		rigs = append(rigs, leafRig{r, op})
	}
	return rigs
}

func (r *rig) requireWord(want uint64) {
	r.t.Helper()
	got, err := word(r.ep, 0)
	require.NoError(r.t, err)
	require.EqualValues(r.t, want, got)
}

// tlbi writes a command by its bits: NUM [16:12], SCALE [25:20], ASID [63:48]; Leaf [0], TTL [9:8],
// TG [11:10].
func tlbi(op, num, scale, addr, tg, ttl, leaf uint64) smmuv3.Command {
	return smmuv3.Command{op | num<<12 | scale<<20 | 1<<48, addr | tg<<10 | ttl<<8 | leaf}
}

// §4.4.1.1: a host that trusts a wrong hint would keep the block. Linux 5.8 to 6.4 sends Leaf = 0
// and TTL = 3 for whole tables with leaves of any level.
func TestTTLCountsOnlyWithLeaf(t *testing.T) {
	for _, l := range leaves() {
		for ttl := uint64(0); ttl <= 3; ttl++ {
			granule := uint64(1) << (10 + 2*l.tg)
			for _, c := range []struct {
				name             string
				num, scale, addr uint64
			}{
				{"one page", 0, 0, 0},
				{"the last page of the leaf", 0, 0, 1<<l.size - granule},
				{"NUM", 31, 0, 0},
				{"SCALE", 0, 9, 0},
				{"NUM and SCALE", 31, 4, 0},
			} {
				if ttl == 0 && c.num == 0 && c.scale == 0 {
					continue // reserved
				}
				for _, r := range newLeafRigs(t, l, l.ids) {
					cmd := tlbi(r.op, c.num, c.scale, c.addr, l.tg, ttl, 0)
					r.invalidate(cmd)
					got, err := word(r.ep, 0)
					require.NoError(t, err)
					assert.EqualValues(t, leafNew, got, "%s TTL %d %s: %v keeps a stale translation", l.name, ttl, c.name, cmd.Opcode())
				}
			}
		}
	}
}

// §4.4.1.1: a command with Leaf = 1 and a correct hint, or none, invalidates the leaf.
func TestCorrectTTLInvalidatesTheLeaf(t *testing.T) {
	for _, l := range leaves() {
		for _, ttl := range []uint64{0, l.level} {
			for _, scale := range []uint64{0, 1, 5} {
				if ttl == 0 && scale == 0 {
					continue // reserved
				}
				for _, r := range newLeafRigs(t, l, l.ids) {
					r.invalidate(tlbi(r.op, 0, scale, 0, l.tg, ttl, 1))
					got, err := word(r.ep, 0)
					require.NoError(t, err)
					assert.EqualValues(t, leafNew, got, "%s TTL %d SCALE %d opcode %#x", l.name, ttl, scale, r.op)
				}
			}
		}
	}
}

// Linux 5.8 to 6.4 sends these three commands when it unmaps a table.
func TestLinuxUnmapsAWholeTableWithTheHintOfPages(t *testing.T) {
	for _, c := range []struct {
		name             string
		num, scale, addr uint64
	}{
		{"1 GiB: a level 2 table of blocks", 0, 18, 0},
		{"2 MiB", 0, 9, 0x20_0000},
		{"2 MiB, as older kernels split it", 31, 4, 0x20_0000},
	} {
		for _, op := range []uint64{0x12, 0x13} {
			t.Run(fmt.Sprintf("%s/%#x", c.name, op), func(t *testing.T) {
				r := newRig(t, soft.Config{})
				r.map4K(cd4K)
				r.mem.SetWords(0x30008, 0x5000_0000|blockRW)
				r.mem.SetWords(guestmem.GPA(0x5000_0008), 0x5000_0000)
				r.mem.SetWords(guestmem.GPA(0x6000_0008), 0x6000_0000)
				r.bind(oneCD)
				got, err := word(r.ep, 0x20_0008)
				require.NoError(t, err)
				require.EqualValues(t, 0x5000_0000, got)
				r.mem.SetWords(0x30008, 0x6000_0000|blockRW)
				r.invalidate(tlbi(op, c.num, c.scale, c.addr, 0b01, 3, 0))
				got, err = word(r.ep, 0x20_0008)
				require.NoError(t, err)
				assert.EqualValues(t, 0x6000_0000, got)
			})
		}
	}
}
