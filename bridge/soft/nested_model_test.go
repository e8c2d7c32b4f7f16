package soft_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// rightsS2 is the accesses that S2AP and XN of a stage 2 leaf permit, with XNX (DDI 0487, Tables
// D8-58 and D8-60).
var rightsS2 = map[[2]uint64]string{
	{0b00, 0}: "Xx", {0b00, 1}: "x", {0b00, 2}: "", {0b00, 3}: "X",
	{0b01, 0}: "RrXx", {0b01, 1}: "Rrx", {0b01, 2}: "Rr", {0b01, 3}: "RrX",
	{0b10, 0}: "WwXx", {0b10, 1}: "Wwx", {0b10, 2}: "Ww", {0b10, 3}: "WwX",
	{0b11, 0}: "RrWwXx", {0b11, 1}: "RrWwx", {0b11, 2}: "RrWw", {0b11, 3}: "RrWwX",
}

// modelS2 is a slow and simple walker of stage 2, for walks whose first level has one table.
type modelS2 struct {
	load      func(at uint64) uint64
	granule   int // KiB
	inputBits uint64
	level     int
	ttb       uint64
	affd      bool
	ptw       bool
}

// translate returns the output address of an access of a kind to an IPA, or its event. With own, it
// is an access of the SMMU itself.
func (m *modelS2) translate(ipa uint64, kind string, own bool) (pa uint64, event smmuv3.EventType) {
	if ipa>>m.inputBits != 0 {
		return 0, smmuv3.FTranslation
	}
	table := m.ttb
	for level := m.level; ; level++ {
		hi, lo := min(levelBits[m.granule][level][0], m.inputBits-1), levelBits[m.granule][level][1]
		d := m.load(table + 8*field(ipa, hi, lo))
		isTable := d&3 == 3 && level < 3
		isLeaf := d&3 == 3 && level == 3 || d&3 == 1 && hasBlocks[m.granule][level]
		if !isTable && !isLeaf {
			return 0, smmuv3.FTranslation
		}
		from := map[int]uint64{4: 12, 16: 14, 64: 16}[m.granule]
		if d&3 == 1 {
			from = lo
		}
		addr := field(d, 47, from) << from
		if m.granule == 64 && field(d, 15, 12) != 0 {
			return 0, smmuv3.FAddrSize // bits [51:48] of an address
		}
		if isTable {
			table = addr
			continue
		}
		if field(d, 10, 10) == 0 && !m.affd {
			return 0, smmuv3.FAccess
		}
		if own && m.ptw && field(d, 5, 4) == 0 || !strings.Contains(rightsS2[[2]uint64{field(d, 7, 6), field(d, 54, 53)}], kind) {
			return 0, smmuv3.FPermission
		}
		return addr | field(ipa, lo-1, 0), 0
	}
}

// s2Event returns the event of stage 2 for an access to an IPA.
type s2Event struct {
	event smmuv3.EventType
	class smmuv3.Class
	ipa   uint64
	ttrnw bool
}

// nestedModel is both stages: stage 2 translates each address from which stage 1 reads.
type nestedModel struct {
	s1 model
	s2 modelS2
}

// translate returns the output address of an access, the event of stage 1, or the event of stage 2.
func (m *nestedModel) translate(va uint64, kind string) (pa uint64, event smmuv3.EventType, s2 *s2Event) {
	through := func(ipa uint64, kind string, class smmuv3.Class) uint64 {
		pa, event := m.s2.translate(ipa, kind, class != smmuv3.ClassIN)
		if event != 0 {
			panic(&s2Event{event, class, ipa &^ 0xfff, event == smmuv3.FPermission && class == smmuv3.ClassTT})
		}
		return pa
	}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *s2Event:
			pa, event, s2 = 0, 0, r
		default:
			panic(r)
		}
	}()
	through(cdAt, "R", smmuv3.ClassCD)
	s1 := m.s1
	s1.load = func(at uint64) uint64 { return m.s2.load(through(at, "R", smmuv3.ClassTT)) }
	ipa, event := s1.translate(va, kind)
	if event != 0 {
		return 0, event, nil
	}
	return through(ipa, kind, smmuv3.ClassIN), 0, nil
}

// A guest writes random tables of stage 1, and its hypervisor changes the tables of stage 2. Every
// kind of access has the outcome of the model, including the fields of the record that identify the
// stage.
func TestNestedAgainstTheModel(t *testing.T) {
	faults, passed := map[string]int{}, 0
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t, soft.Config{TLBEntries: 16, IDs: soft.Stage2IDs()})
		word1 := func(at uint64) uint64 { return r.mem.Words(guestmem.GPA(at), 1)[0] }
		const (
			shift    = 1 << 36 // IPAs below 4 GiB are at physical addresses from here on
			root     = 0x70_0000_0000
			s2Tables = 2 // besides the first table, 512 KiB apart
		)

		// Stage 2 maps 4 GiB: by blocks, and by pages where the tables of stage 1 lie.
		m := &nestedModel{s2: modelS2{
			load: word1, granule: rapid.SampledFrom([]int{4, 16, 64}).Draw(rt, "S2TG"), ttb: root,
			affd: rapid.Bool().Draw(rt, "S2AFFD"), ptw: rapid.Bool().Draw(rt, "S2PTW"),
		}}
		bit := func(b bool, n uint) uint64 {
			if b {
				return 1 << n
			}
			return 0
		}
		dw2 := uint64(0x040d_0000_0000_0000) | bit(m.s2.affd, 53) | bit(m.s2.ptw, 54)
		tableAt := func(n uint64) uint64 { return root + n<<19 }
		fill := func(n, count uint64, word func(i uint64) uint64) {
			words := make([]uint64, count)
			for i := range words {
				words[i] = word(uint64(i))
			}
			r.mem.SetWords(guestmem.GPA(tableAt(n)), words...)
		}
		leafOf := func(size, low uint64) func(uint64) uint64 {
			return func(i uint64) uint64 { return shift + i*size | 0x7fc | low }
		}
		switch m.s2.granule {
		case 4: // 39 bits from level 1
			m.s2.inputBits, m.s2.level = 39, 1
			dw2 |= 25<<32 | 1<<38
			fill(0, 4, leafOf(1<<30, 1))
			fill(1, 512, leafOf(1<<21, 1))
			fill(2, 512, leafOf(1<<12, 3))
			r.mem.SetWords(root, tableAt(1)|3)
			r.mem.SetWords(guestmem.GPA(tableAt(1)), tableAt(2)|3)
		case 16: // 36 bits from level 2
			m.s2.inputBits, m.s2.level = 36, 2
			dw2 |= 28<<32 | 1<<38 | 2<<46
			fill(0, 128, leafOf(1<<25, 1))
			fill(1, 128, leafOf(1<<14, 3))
			r.mem.SetWords(root, tableAt(1)|3)
		case 64: // 42 bits from level 2
			m.s2.inputBits, m.s2.level = 42, 2
			dw2 |= 22<<32 | 1<<38 | 1<<46
			fill(0, 8, leafOf(1<<29, 1))
			fill(1, 128, leafOf(1<<16, 3))
			r.mem.SetWords(root, tableAt(1)|3)
		}

		m.s1 = model{
			granule: rapid.SampledFrom([]int{4, 16, 64}).Draw(rt, "TG0"),
			tsz:     rapid.Uint64Range(16, 39).Draw(rt, "T0SZ"), ttb: 0x10000, ips: 48,
			pan: rapid.Bool().Draw(rt, "PAN"),
		}
		// The guest writes its tables at the addresses of the first mapping of stage 2.
		atIPA := func(ipa uint64) guestmem.GPA { return guestmem.GPA(shift + ipa) }
		r.mem.SetWords(atIPA(cdAt),
			0x0001_6205_c000_0000|m.s1.tsz|map[int]uint64{4: 0, 16: 0x80, 64: 0x40}[m.s1.granule]|bit(m.s1.pan, 40), m.s1.ttb)

		// Each level has a table, and the first descriptors of each table have content.
		first := 0
		for 63-m.s1.tsz < levelBits[m.s1.granule][first][1] {
			first++
		}
		index := rapid.SampledFrom([]uint64{0, 1, 2})
		s1Descriptor := func(level int) uint64 {
			attrs := rapid.Uint64().Draw(rt, "attrs")
			kind := rapid.IntRange(0, 9).Draw(rt, "kind")
			switch {
			case kind == 0:
				return attrs
			case level == 3:
				return attrs&(1<<54|1<<53|0xffff_0000|0xbfc) | 1<<10 | 3
			case kind == 1:
				return attrs&(1<<54|1<<53|0x3_ffff_0ffc) | 1<<10 | 1
			}
			return uint64(level+2-first)<<16 | 3
		}
		editS1 := func(level int) {
			at := uint64(level+1-first)<<16 + 8*index.Draw(rt, "index")
			r.mem.SetWords(atIPA(at), s1Descriptor(level))
		}
		anyLevel := func() int { return rapid.IntRange(first, 3).Draw(rt, "level") }
		editS2 := func() {
			at := tableAt(rapid.Uint64Range(0, s2Tables).Draw(rt, "S2 table")) + 8*rapid.Uint64Range(0, 0x60).Draw(rt, "S2 index")
			d := word1(at)
			switch rapid.IntRange(0, 5).Draw(rt, "S2 kind") {
			case 0:
				d &^= 1
			case 1:
				d &^= 1 << 10
			default:
				d = d&^(3<<53|0xfc) | rapid.Uint64().Draw(rt, "S2 attrs")&(3<<53|0xfc)
			}
			r.mem.SetWords(guestmem.GPA(at), d)
		}
		for level := first; level <= 3; level++ {
			for range 6 {
				editS1(level)
			}
		}
		g := stage2(bridge.TranslateNested, dw2, root)
		r.bind(g)

		for range rapid.IntRange(1, 4).Draw(rt, "rounds") {
			for range 20 {
				va := rapid.Uint64Range(0, 0xffff).Draw(rt, "offset") &^ 7
				for level := range 3 {
					b := levelBits[m.s1.granule][level+1]
					va |= field(index.Draw(rt, "index"), b[0]-b[1], 0) << b[1]
				}
				if rapid.IntRange(0, 19).Draw(rt, "beyond") != 0 {
					va = field(va, 63-m.s1.tsz, 0)
				}
				a := rapid.SampledFrom(accesses).Draw(rt, "access")
				p := r.ep.With(a.attrs)
				pa, event, s2 := m.translate(va, a.letter)
				if event == 0 && s2 == nil && pa < shift+0x80000 {
					continue // the tables themselves
				}
				const value = 0x0807_0605_0403_0201
				if event == 0 && s2 == nil {
					r.mem.SetWords(guestmem.GPA(pa), bit(!a.write, 0)*value)
				}
				var err error
				if a.write {
					err = p.WriteAt([]byte{1, 2, 3, 4, 5, 6, 7, 8}, va)
				} else {
					var got uint64
					if got, err = word(p, va); err == nil && s2 == nil && event == 0 {
						require.EqualValues(rt, value, got, "%s %#x", a.letter, va)
					}
				}
				events := r.taken()
				if event == 0 && s2 == nil {
					require.NoError(rt, err, "%s %#x", a.letter, va)
					require.EqualValues(rt, value, word1(pa), "%s %#x", a.letter, va)
					passed++
					continue
				}
				want := smmuv3.NewEvent(event, sid)
				want.SetClass(smmuv3.ClassIN)
				if s2 != nil {
					want.SetType(s2.event)
					want.SetS2(true)
					want.SetClass(s2.class)
					want.SetIPA(s2.ipa)
					want.SetTTRnW(s2.ttrnw)
				}
				want.SetPnU(a.attrs.Privileged)
				want.SetInD(a.attrs.Instruction && !a.write)
				want.SetRnW(!a.write)
				want.SetInputAddr(va)
				require.ErrorIs(rt, err, soft.ErrFault, "%s %#x: want %v", a.letter, va, want)
				require.Equal(rt, []smmuv3.Event{want}, events, "%s %#x: %v", a.letter, va, want)
				faults[fmt.Sprintf("S2 %t, class %v", want.S2(), want.Class())]++
			}
			editS1(anyLevel())
			for range 4 {
				editS2()
			}
			// Software sends these commands for translations of both stages (§4.4.3.1). The CD may
			// have moved.
			r.invalidate(smmuv3.Command{0x2a}, smmuv3.Command{0x10}, smmuv3.Command{0x42_00000006})
		}
	})
	t.Logf("%d passed, %v", passed, faults)
	require.Positive(t, passed)
	for _, met := range []string{
		"S2 false, class the input address", "S2 true, class the input address",
		"S2 true, class a translation table walk", "S2 true, class a Context Descriptor fetch",
	} {
		require.Positive(t, faults[met], met)
	}
}
