package soft_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// largeRig is a rig on tracked memory whose last tables have the given leaves, from IOVA 0 on: two
// tables of level 3 of a granule. The second table has limits.
type largeRig struct {
	*rig
	ram     *ram
	tracked *guestmem.Tracked
}

func newLargeRig(t *testing.T, granule smmuv3.Granule, cd0, limits uint64, leaves []uint64) largeRig {
	ram := new(ram)
	for _, slot := range []guestmem.GPA{0, 0x5000_0000, 0x6000_0000, 1<<37 | 0x5000_0000} {
		mem := make([]byte, 1<<20)
		for i := range mem {
			mem[i] = byte(i>>12 + i + int(slot>>28))
		}
		require.NoError(t, ram.Add(guestmem.Slot{GPA: slot, Mem: mem}))
	}
	tracked, err := guestmem.NewTracked(&ram.Slots)
	require.NoError(t, err)
	r := newRig(t, soft.Config{Memory: tracked})
	r.guest = ram
	// The level-2 table at 0x10000 maps two tables, at 0x20000 and behind it.
	size := uint64(1) << granule
	ram.SetWords(cdAt, cd0, 0x10000)
	ram.SetWords(0x10000, 0x2_0003, (0x2_0000+size)|3|limits)
	ram.SetWords(0x2_0000, leaves...)
	r.bind(oneCD)
	// Both tables are cached.
	_, _ = r.ep.Load(size-8, 8)
	_, _ = r.ep.Load(size*size/8, 8)
	r.taken()
	tracked.NewAccount()
	return largeRig{r, ram, tracked}
}

// outcomeOf is everything that can be seen of a DMA.
type outcomeOf struct {
	data   []byte
	err    *soft.Fault
	events []smmuv3.Event
	tables []uint64
	dirty  []guestmem.Range
}

// A large DMA has the outcome of its pages one by one: the same bytes, fault, event, flags in the
// tables and dirty pages. Map has the same, except that a fault leaves it nothing.
func TestLargeDMAHasTheOutcomeOfItsPages(t *testing.T) {
	granules := map[smmuv3.Granule]uint64{ // dw0 of a CD that begins at level 2
		smmuv3.Granule4K:  0x0001_6205_c000_0022, // 30 bits
		smmuv3.Granule16K: 0x0001_6205_c000_009c, // 36 bits
		smmuv3.Granule64K: 0x0001_6205_c000_0056, // 42 bits
	}
	const flags = 3 << 42 // HA, HD
	faults, whole := 0, 0
	for seed := range uint64(50) {
		dice := rand.New(rand.NewPCG(seed, 1))
		granule := []smmuv3.Granule{smmuv3.Granule4K, smmuv3.Granule16K, smmuv3.Granule64K}[dice.IntN(3)]
		size := uint64(1) << granule
		cd := granules[granule]
		if dice.IntN(2) == 0 {
			cd |= flags
		}
		if dice.IntN(2) == 0 {
			cd = cd&^(7<<32) | 1<<32 // IPS: 36 bits
		}
		limits := uint64(dice.IntN(8)/7) << 62 // APTable: read-only
		perTable := size / 8
		leaves := make([]uint64, 2*perTable)
		page := uint64(0x5000_0000)
		for i := range leaves {
			switch dice.IntN(6) {
			case 0:
				page = []uint64{0x5000_0000, 0x6000_0000}[dice.IntN(2)] + dice.Uint64N(1<<20)&^(size-1)
			default:
				if page += size; page&(1<<20-1) == 0 {
					page -= 1 << 20
				}
			}
			leaves[i] = page | pageRW
			switch dice.IntN(40) {
			case 0:
				leaves[i] = 0
			case 1:
				leaves[i] &^= 1 << 10 // AF
			case 2:
				leaves[i] |= 1 << 7 // AP[2]: read-only
			case 3:
				leaves[i] |= 1<<51 | 1<<7 // DBM: writable-clean
			case 4:
				leaves[i] |= 1 << 37 // beyond 36 bits
			case 7:
				leaves[i] |= 1 << 12 // with 64 KiB pages, bit 48 of the address
			case 5:
				leaves[i] = 0x7000_0000 | pageRW // no memory
			case 6:
				leaves[i] |= dice.Uint64() & (0xf<<55 | 1<<50 | 1<<11 | 0xf<<59 | 0x7<<2)
			}
		}
		first := dice.Uint64N(2*perTable) << granule
		if dice.IntN(2) == 0 {
			first = (perTable - 2) << granule // across both tables
		}
		iova := first + dice.Uint64N(size)&^7
		n := int(min(dice.Uint64N(6*size), 2*perTable<<granule-iova))
		write := dice.IntN(2) == 0

		do := func(step int, use func(r largeRig, p []byte, iova uint64) error) (o outcomeOf) {
			r := newLargeRig(t, granule, cd, limits, leaves)
			o.data = make([]byte, n)
			for i := range o.data {
				o.data[i] = byte(i * 7)
			}
			for done := 0; done < n; {
				part := min(n-done, step)
				if step != n { // up to the end of the page
					part = min(part, step-int((iova+uint64(done))&uint64(step-1)))
				}
				err := use(r, o.data[done:done+part], iova+uint64(done))
				if err != nil {
					require.True(t, errors.As(err, &o.err))
					o.err.Done += done
					break
				}
				done += part
			}
			o.events = r.taken()
			o.tables = r.ram.Words(0x2_0000, int(2*perTable))
			o.dirty = named(r.tracked.NewAccount())
			return o
		}
		dma := func(r largeRig, p []byte, iova uint64) error {
			if write {
				return r.ep.WriteAt(p, iova)
			}
			return r.ep.ReadAt(p, iova)
		}
		mapped := func(r largeRig, p []byte, iova uint64) error {
			m, err := r.ep.Map(iova, len(p), write, nil)
			defer m.Release()
			for _, s := range m.Segments {
				if write {
					copy(s, p)
				} else {
					copy(p, s)
				}
				p = p[len(s):]
			}
			return err
		}
		pages := do(int(size), dma)
		require.Equal(t, pages, do(n, dma), "seed %d", seed)
		in1 := do(n, mapped)
		if pages.err != nil {
			faults++
			require.Equal(t, pages.err.IOVA, in1.err.IOVA, "seed %d", seed)
			require.Equal(t, pages.events, in1.events, "seed %d", seed)
			continue
		}
		whole++
		require.Equal(t, pages, in1, "seed %d", seed)
	}
	assert.Greater(t, faults, 10)
	assert.Greater(t, whole, 10)
}
