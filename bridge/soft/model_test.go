package soft_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// model is a slow and simple walker for TTB0 and 48-bit addresses. It finds the rules in copies of
// the tables of DDI 0487.
type model struct {
	load    func(at uint64) uint64
	granule int // KiB
	tsz     uint64
	ttb     uint64
	ips     uint64 // bits
	affd    bool
	wxn     bool
	pan     bool
	had     bool
}

// levelBits is the address bits [hi:lo] that index the table of a level (Tables D8-14, D8-27,
// D8-36).
var levelBits = map[int][4][2]uint64{
	4:  {{47, 39}, {38, 30}, {29, 21}, {20, 12}},
	16: {{47, 47}, {46, 36}, {35, 25}, {24, 14}},
	64: {{63, 55}, {51, 42}, {41, 29}, {28, 16}},
}

// hasBlocks is the levels above 3 that have blocks.
var hasBlocks = map[int][4]bool{4: {1: true, 2: true}, 16: {2: true}, 64: {2: true}}

// rights is Table D8-65: by UXN, PXN, AP[2:1] and WXN.
var rights = map[[4]uint64]string{
	{0, 0, 0b00, 0}: "RWXx", {0, 0, 0b00, 1}: "RWx", {0, 0, 0b01, 0}: "RWrwx", {0, 0, 0b01, 1}: "RWrw",
	{0, 0, 0b10, 0}: "RXx", {0, 0, 0b10, 1}: "RXx", {0, 0, 0b11, 0}: "RXrx", {0, 0, 0b11, 1}: "RXrx",
	{0, 1, 0b00, 0}: "RWx", {0, 1, 0b00, 1}: "RWx", {0, 1, 0b01, 0}: "RWrwx", {0, 1, 0b01, 1}: "RWrw",
	{0, 1, 0b10, 0}: "Rx", {0, 1, 0b10, 1}: "Rx", {0, 1, 0b11, 0}: "Rrx", {0, 1, 0b11, 1}: "Rrx",
	{1, 0, 0b00, 0}: "RWX", {1, 0, 0b00, 1}: "RW", {1, 0, 0b01, 0}: "RWrw", {1, 0, 0b01, 1}: "RWrw",
	{1, 0, 0b10, 0}: "RX", {1, 0, 0b10, 1}: "RX", {1, 0, 0b11, 0}: "RXr", {1, 0, 0b11, 1}: "RXr",
	{1, 1, 0b00, 0}: "RW", {1, 1, 0b00, 1}: "RW", {1, 1, 0b01, 0}: "RWrw", {1, 1, 0b01, 1}: "RWrw",
	{1, 1, 0b10, 0}: "R", {1, 1, 0b10, 1}: "R", {1, 1, 0b11, 0}: "Rr", {1, 1, 0b11, 1}: "Rr",
}

// field returns word[hi:lo].
func field(word, hi, lo uint64) uint64 { return word << (63 - hi) >> (63 - hi + lo) }

// translate returns the output address of an access of a kind, or its event.
func (m *model) translate(va uint64, kind string) (pa uint64, event smmuv3.EventType) {
	if m.tsz < 64 && va>>(64-m.tsz) != 0 {
		return 0, smmuv3.FTranslation
	}
	// The walk starts at the level whose index holds the top bit.
	level := 0
	for field(63-m.tsz, 63, 0) < levelBits[m.granule][level][1] {
		level++
	}
	top := 63 - m.tsz
	size := uint64(8) << (top - levelBits[m.granule][level][1] + 1)
	table := m.ttb / size * size
	var apTable, uxnTable, pxnTable uint64
	for ; ; level++ {
		hi, lo := min(levelBits[m.granule][level][0], top), levelBits[m.granule][level][1]
		d := m.load(table + 8*field(va, hi, lo))
		kindOf := d & 3
		isTable := kindOf == 3 && level < 3
		isLeaf := kindOf == 3 && level == 3 || kindOf == 1 && hasBlocks[m.granule][level]
		if !isTable && !isLeaf {
			return 0, smmuv3.FTranslation
		}
		from := map[int]uint64{4: 12, 16: 14, 64: 16}[m.granule]
		if kindOf == 1 {
			from = lo
		}
		addr := field(d, 47, from) << from
		if m.granule == 64 {
			addr |= field(d, 15, 12) << 48
		}
		if field(addr, 63, m.ips) != 0 {
			return 0, smmuv3.FAddrSize
		}
		if isTable {
			if !m.had {
				apTable |= field(d, 62, 61)
				uxnTable |= field(d, 60, 60)
				pxnTable |= field(d, 59, 59)
			}
			table = addr
			continue
		}
		if field(d, 10, 10) == 0 && !m.affd {
			return 0, smmuv3.FAccess
		}
		if !strings.Contains(m.rights(d, apTable, uxnTable, pxnTable), kind) {
			return 0, smmuv3.FPermission
		}
		return addr | field(va, lo-1, 0), 0
	}
}

func (m *model) rights(d, apTable, uxnTable, pxnTable uint64) string {
	ap := field(d, 7, 6)&^(apTable&1) | apTable&2
	var wxn uint64
	if m.wxn {
		wxn = 1
	}
	s := rights[[4]uint64{field(d, 54, 54) | uxnTable, field(d, 53, 53) | pxnTable, ap, wxn}]
	if m.pan && strings.Contains(s, "r") {
		s = strings.NewReplacer("R", "", "W", "").Replace(s)
	}
	return s
}

// A guest writes random tables, changes and invalidates them. Every kind of access, to addresses
// near those that the tables map, has the outcome of the model.
func TestAgainstTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t, soft.Config{TLBEntries: 16})
		m := &model{
			load:    func(at uint64) uint64 { return r.mem.Words(guestmem.GPA(at), 1)[0] },
			granule: rapid.SampledFrom([]int{4, 16, 64}).Draw(rt, "granule"),
			tsz:     rapid.Uint64Range(16, 47).Draw(rt, "T0SZ"),
			ttb:     0x10000,
			affd:    rapid.Bool().Draw(rt, "AFFD"),
			wxn:     rapid.Bool().Draw(rt, "WXN"),
			pan:     rapid.Bool().Draw(rt, "PAN"),
			had:     rapid.Bool().Draw(rt, "HAD"),
		}
		ips := rapid.SampledFrom([]uint64{1, 5, 6}).Draw(rt, "IPS")
		m.ips = map[uint64]uint64{1: 36, 5: 48, 6: 48}[ips]
		bit := func(b bool, n uint) uint64 {
			if b {
				return 1 << n
			}
			return 0
		}
		r.mem.SetWords(cdAt,
			0x0001_6200_c000_0000|m.tsz|ips<<32|map[int]uint64{4: 0, 16: 0x80, 64: 0x40}[m.granule]|
				bit(m.affd, 35)|bit(m.wxn, 36)|bit(m.pan, 40),
			m.ttb|bit(m.had, 1))
		r.bind(oneCD)

		// Tables are at multiples of 64 KiB. Some descriptors of each have content.
		const tables = 5
		descriptor := rapid.Custom(func(rt *rapid.T) uint64 {
			attrs := rapid.Uint64().Draw(rt, "attrs")
			next := rapid.Uint64Range(1, tables).Draw(rt, "table") << 16
			switch rapid.IntRange(0, 9).Draw(rt, "kind") {
			case 0:
				return attrs
			case 1, 2, 3, 4:
				return attrs&(1<<62|1<<61|1<<60|1<<59|0xf<<2) | next | 3
			case 5, 6:
				return attrs&(1<<54|1<<53|0x3c0_0000_0ffc) | 1<<10 | 1
			default:
				return attrs&(1<<54|1<<53|0xffff_0000|0xbfc) | 1<<10 | 3
			}
		})
		index := rapid.SampledFrom([]uint64{0, 1, 2, 0x1ff, 0x7ff, 0x1fff})
		edit := func() {
			at := rapid.Uint64Range(1, tables).Draw(rt, "table")<<16 + 8*index.Draw(rt, "index")
			r.mem.SetWords(guestmem.GPA(at), descriptor.Draw(rt, "descriptor"))
		}
		for range 30 {
			edit()
		}
		for range rapid.IntRange(1, 4).Draw(rt, "rounds") {
			for range 20 {
				va := rapid.Uint64Range(0, 0xffff).Draw(rt, "offset") &^ 7
				for level := range 3 {
					b := levelBits[m.granule][level+1]
					va |= field(index.Draw(rt, "index"), b[0]-b[1], 0) << b[1]
				}
				if rapid.IntRange(0, 9).Draw(rt, "beyond") != 0 {
					va = field(va, 63-m.tsz, 0)
				}
				a := rapid.SampledFrom(accesses).Draw(rt, "access")
				p := r.ep.With(a.attrs)
				pa, event := m.translate(va, a.letter)
				if event == 0 && pa < 0x80000 {
					continue // the tables themselves
				}

				var err error
				if event == 0 {
					r.mem.SetWords(guestmem.GPA(pa), bit(!a.write, 0)*0x0807_0605_0403_0201)
				}
				if a.write {
					err = p.WriteAt([]byte{1, 2, 3, 4, 5, 6, 7, 8}, va)
				} else {
					var got uint64
					got, err = word(p, va)
					if event == 0 {
						require.EqualValues(rt, 0x0807_0605_0403_0201, got)
					}
				}
				events := r.taken()
				if event == 0 {
					require.NoError(rt, err, "%s %#x", a.letter, va)
					require.EqualValues(rt, 0x0807_0605_0403_0201, r.mem.Words(guestmem.GPA(pa), 1)[0], "%s %#x", a.letter, va)
					continue
				}
				require.ErrorIs(rt, err, soft.ErrFault, "%s %#x: want %v", a.letter, va, event)
				require.Len(rt, events, 1)
				require.Equal(rt, event, events[0].Type(), "%s %#x", a.letter, va)
				require.Equal(rt, va, events[0].InputAddr())
			}
			edit()
			r.invalidate(smmuv3.Command{0x10})
		}
	})
}
