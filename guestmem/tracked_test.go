package guestmem

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const page = DirtyPageSize

// newTracked returns tracked memory: 16 writable pages from 0x10000 on, a read-only one, a hole,
// and a writable one at 0x22000.
func newTracked(t testing.TB) *Tracked {
	m, err := NewTracked(newSlots(t,
		Slot{GPA: 0x10000, Mem: make([]byte, 8*page)},
		Slot{GPA: 0x18000, Mem: make([]byte, 8*page)},
		Slot{GPA: 0x20000, Mem: make([]byte, page), ReadOnly: true},
		Slot{GPA: 0x22000, Mem: make([]byte, page)},
	))
	require.NoError(t, err)
	return m
}

func ranges(a *Account) []Range { return slices.Collect(a.Ranges()) }

func TestNewTrackedRefusesNil(t *testing.T) {
	for name, m := range map[string]Mapper{"nil": nil, "a nil pointer": (*Slots)(nil), "no sections": noSections{new(Slots)}, "a zero Tracked": new(Tracked)} {
		t.Run(name, func(t *testing.T) {
			tracked, err := NewTracked(m)
			assert.Nil(t, tracked)
			assert.ErrorContains(t, err, "guestmem: new tracked memory: ")
		})
	}
}

type noSections struct{ *Slots }

func (noSections) Sections() *Sections { return nil }

// Each kind of write marks the pages that it may write to, and no others.
func TestAccountHasEachWriteAndNothingElse(t *testing.T) {
	write := func(gpa GPA, n int) func(*Tracked) error {
		return func(m *Tracked) error { return m.WriteAt(make([]byte, n), gpa) }
	}
	slice := func(gpa GPA, n int, write bool) func(*Tracked) error {
		return func(m *Tracked) error {
			section := m.Sections().Enter()
			defer section.Leave()
			_, err := m.Slice(gpa, n, write)
			return err
		}
	}
	swap := func(gpa GPA, old uint64) func(*Tracked) error {
		return func(m *Tracked) error { _, err := m.CompareAndSwap(gpa, old, 1); return err }
	}
	for _, c := range []struct {
		name string
		do   func(*Tracked) error
		err  error
		want []Range
	}{
		{"write within a page", write(0x11008, 8), nil, []Range{{0x11000, page}}},
		{"write of a page's last byte", write(0x11fff, 1), nil, []Range{{0x11000, page}}},
		{"write across pages", write(0x11fff, 2), nil, []Range{{0x11000, 2 * page}}},
		{"write across slots", write(0x17ff8, 16), nil, []Range{{0x17000, 2 * page}}},
		{"write of all pages", write(0x10000, 16*page), nil, []Range{{0x10000, 16 * page}}},
		{"write of nothing", write(0x11000, 0), nil, nil},
		{"write into read-only memory: the part before it", write(0x1fff8, 16), ErrReadOnly, []Range{{0x1f000, page}}},
		{"write into a hole: the part before it", write(0x22ff8, 16), ErrUnmapped, []Range{{0x22000, page}}},
		{"write to a hole", write(0x21000, 8), ErrUnmapped, nil},
		{"write past the end of the address space", write(top, 2), ErrUnmapped, nil},
		{"store of a word", func(m *Tracked) error { return m.Store64(0x12ff8, 1) }, nil, []Range{{0x12000, page}}},
		{"misaligned store", func(m *Tracked) error { return m.Store64(0x12ffc, 1) }, ErrMisaligned, nil},
		{"store to a hole", func(m *Tracked) error { return m.Store64(0x21000, 1) }, ErrUnmapped, nil},
		{"store to read-only memory", func(m *Tracked) error { return m.Store64(0x20000, 1) }, ErrReadOnly, nil},
		{"swap", swap(0x13000, 0), nil, []Range{{0x13000, page}}},
		{"swap of read-only memory", swap(0x20000, 0), ErrReadOnly, nil},
		{"misaligned swap", swap(0x13001, 0), ErrMisaligned, nil},
		{"writable slice", slice(0x14800, page, true), nil, []Range{{0x14000, 2 * page}}},
		{"writable slice that ends with a slot", slice(0x17800, 2*page, true), nil, []Range{{0x17000, page}}},
		{"readable slice", slice(0x14800, page, false), nil, nil},
		{"writable slice of read-only memory", slice(0x20000, 8, true), ErrReadOnly, nil},
		{"read", func(m *Tracked) error { return m.ReadAt(make([]byte, page), 0x15000) }, nil, nil},
		{"load", func(m *Tracked) error { _, err := m.Load64(0x15000); return err }, nil, nil},
		{"mark", func(m *Tracked) error { return m.Mark(Range{0x16fff, 2}) }, nil, []Range{{0x16000, 2 * page}}},
		{"mark across slots, of read-only memory too", func(m *Tracked) error { return m.Mark(Range{0x17000, 10 * page}) }, nil, []Range{{0x17000, 10 * page}}},
		{"mark of nothing", func(m *Tracked) error { return m.Mark(Range{0x21000, 0}) }, nil, nil},
		{"mark into a hole: the part before it", func(m *Tracked) error { return m.Mark(Range{0x20000, 1 << 62}) }, ErrUnmapped, []Range{{0x20000, page}}},
		{"mark past the end of the address space", func(m *Tracked) error { return m.Mark(Range{0x10000, ^uint64(0)}) }, ErrUnmapped, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newTracked(t)
			require.ErrorIs(t, c.do(m), c.err, "without an account")
			assert.Nil(t, m.NewAccount(), "there was no account")
			require.ErrorIs(t, c.do(m), c.err)
			assert.Equal(t, c.want, ranges(m.NewAccount()))
			assert.Empty(t, ranges(m.NewAccount()), "a new account is empty")
			require.ErrorIs(t, c.do(m), c.err)
			assert.Equal(t, c.want, ranges(m.Stop()), "and so is the last one")
			require.ErrorIs(t, c.do(m), c.err)
			assert.Nil(t, m.Stop())
		})
	}
}

func TestTrackedAccessesTheWrappedMemory(t *testing.T) {
	m := newTracked(t)
	m.NewAccount()
	require.NoError(t, m.WriteAt([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 0x17ffc))
	p := make([]byte, 8)
	require.NoError(t, m.mem.ReadAt(p, 0x17ffc))
	assert.Equal(t, []byte{1, 2, 3, 4, 5, 6, 7, 8}, p)
	require.NoError(t, m.Store64(0x10000, 0x0807060504030201))
	require.NoError(t, m.ReadAt(p, 0x10000))
	assert.Equal(t, []byte{1, 2, 3, 4, 5, 6, 7, 8}, p)
	swapped, err := m.CompareAndSwap(0x10000, 0x0807060504030201, 5)
	require.NoError(t, err)
	assert.True(t, swapped)
	swapped, err = m.CompareAndSwap(0x10000, 0x0807060504030201, 6)
	require.NoError(t, err)
	assert.False(t, swapped)
	v, err := m.Load64(0x10000)
	require.NoError(t, err)
	assert.EqualValues(t, 5, v)
	assert.Same(t, m.mem.Sections(), m.Sections())

	for _, c := range []struct {
		err  error
		want AccessError
	}{
		{m.WriteAt(make([]byte, 16), 0x1fff8), AccessError{"write", 0x20000, 16, ErrReadOnly}},
		{m.ReadAt(make([]byte, 16), 0x20ff8), AccessError{"read", 0x21000, 16, ErrUnmapped}},
		{m.Store64(0x21000, 1), AccessError{"write", 0x21000, 8, ErrUnmapped}},
		{m.Mark(Range{0x20800, 0x1000}), AccessError{"mark", 0x21000, 0x1000, ErrUnmapped}},
	} {
		assert.Equal(t, &c.want, c.err)
	}
}

// The marks reach the bounds of the bitmap's words and chunks.
func TestRangesPagesAndContainsAgreeWithTheMarks(t *testing.T) {
	const gib = 1 << 30
	for name, marks := range map[string][]Range{
		"none":                          nil,
		"the first page":                {{0, 1}},
		"the last page":                 {{top, 1}},
		"a word of the bitmap":          {{0, 64 * page}},
		"into the next word":            {{63 * page, 2 * page}},
		"all of a chunk":                {{gib, gib}},
		"into the next chunk":           {{gib - 1, 2}},
		"over two chunks":               {{gib - page, gib + 2*page}},
		"chunks from the highest down":  {{7 * gib, 1}, {3 * gib, 1}, {5 * gib, 1}, {0, 1}},
		"adjoining ones":                {{4 * page, page}, {5 * page, page}, {3 * page, page}},
		"every other one":               {{0, 1}, {2 * page, 1}, {4 * page, 1}, {62 * page, 1}, {64 * page, 1}},
		"one twice":                     {{9 * page, page}, {9*page + 7, 1}},
		"the end of one, start of next": {{gib - page, page}, {gib, page}},
	} {
		t.Run(name, func(t *testing.T) {
			a, want := new(Account), map[GPA]bool{}
			for _, r := range marks {
				a.mark(r.GPA, int(r.Len))
				for p := r.GPA &^ (page - 1); ; p += page {
					want[p] = true
					if p == r.last()&^(page-1) {
						break
					}
				}
			}
			got := map[GPA]bool{}
			previous := Range{}
			for r := range a.Ranges() {
				assert.NotZero(t, r.Len)
				assert.True(t, previous.Len == 0 || r.GPA > previous.last()+1, "%v follows %v", r, previous)
				for off := uint64(0); off < r.Len; off += page {
					got[r.GPA+GPA(off)] = true
				}
				previous = r
			}
			assert.True(t, maps.Equal(want, got))
			assert.Equal(t, len(want), a.Pages())
			for p := range want {
				assert.True(t, a.Contains(p+page-1))
				assert.Equal(t, want[p+page], a.Contains(p+page))
			}
			for range a.Ranges() {
				break // a range loop may end early
			}
		})
	}
	var none *Account
	assert.Empty(t, ranges(none))
	assert.Zero(t, none.Pages())
	assert.False(t, none.Contains(0))
}

// A device may write to a slice until its section ends. Only then is the account with the slice's
// mark complete.
func TestNewAccountWaitsForTheWritersOfThePreviousOne(t *testing.T) {
	for name, next := range map[string]func(*Tracked) *Account{"NewAccount": (*Tracked).NewAccount, "Stop": (*Tracked).Stop} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newTracked(t)
				m.NewAccount()
				section := m.Sections().Enter()
				mem, err := m.Slice(0x11000, 8, true)
				require.NoError(t, err)

				taken := make(chan *Account, 1)
				go func() { taken <- next(m) }()
				synctest.Wait()
				assert.Empty(t, taken, "a writer is in its section")
				require.NoError(t, m.Store64(0x12000, 1), "other writers do not wait")
				mem[0] = 7
				section.Leave()
				assert.Equal(t, []Range{{0x11000, page}}, ranges(<-taken))
				if name == "NewAccount" {
					assert.Equal(t, []Range{{0x12000, page}}, ranges(m.Stop()))
				}
			})
		})
	}
}

// The first NewAccount waits for the writers of earlier sections, whose slices are not marked.
func TestFirstAccountWaitsForEarlierWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTracked(t)
		section := m.Sections().Enter()
		_, err := m.Slice(0x11000, 8, true)
		require.NoError(t, err)
		started := make(chan *Account, 1)
		go func() { started <- m.NewAccount() }()
		synctest.Wait()
		assert.Empty(t, started)
		section.Leave()
		assert.Nil(t, <-started)
	})
}

// keeper keeps a slice of each page until the epoch ends, as soft's micro-TLB does.
type keeper struct {
	mem  *Tracked
	kept [Places][16]struct {
		epoch uint64
		mem   []byte
	}
	asked atomic.Int64
}

func (k *keeper) write(i int, v uint64) error {
	section := k.mem.Sections().Enter()
	defer section.Leave()
	if section.Place() == Places {
		return nil
	}
	e := &k.kept[section.Place()][i]
	if e.mem == nil || e.epoch != section.Epoch() {
		mem, err := k.mem.Slice(0x10000+GPA(i)*page, page, true)
		if err != nil {
			return err
		}
		k.asked.Add(1)
		e.epoch, e.mem = section.Epoch(), mem
	}
	Store(e.mem, binary.LittleEndian.AppendUint64(nil, v))
	return nil
}

// migration is the destination: a copy of the pages that accounts name.
type migration struct {
	t    testing.TB
	mem  *Tracked
	copy map[GPA][]byte
}

func (d *migration) copyRange(r Range) {
	for off := uint64(0); off < r.Len; off += page {
		p := make([]byte, page)
		require.NoError(d.t, d.mem.ReadAt(p, r.GPA+GPA(off)))
		d.copy[r.GPA+GPA(off)] = p
	}
}

func (d *migration) round(a *Account) {
	for r := range a.Ranges() {
		d.copyRange(r)
	}
}

// word returns a word of the copy.
func (d *migration) word(gpa GPA) uint64 {
	return binary.LittleEndian.Uint64(d.copy[gpa&^(page-1)][gpa%page:])
}

// TestMigrationWhileDevicesWriteLosesNothing does the rounds of a migration while three devices
// write. Each page has one writer, whose values ascend, and one kind of write. After a round the
// copy has what was written before that round. At the end the copy equals the memory.
func TestMigrationWhileDevicesWriteLosesNothing(t *testing.T) {
	const rounds, pages, writers = 2000, 16, 3
	m := newTracked(t)
	k := &keeper{mem: m}
	d := &migration{t: t, mem: m, copy: map[GPA][]byte{}}
	var written [pages]atomic.Uint64 // the last value whose write has returned
	at := func(i int) GPA { return 0x10000 + GPA(i)*page }

	var stops []func()
	for w := range writers {
		v := uint64(0)
		stops = append(stops, repeat(1, func() bool {
			v++
			i := w + writers*rand.IntN((pages-w+writers-1)/writers)
			var err error
			switch i {
			default:
				err = k.write(i, v)
			case 13:
				err = m.Store64(at(i), v)
			case 14:
				var swapped bool
				swapped, err = m.CompareAndSwap(at(i), written[i].Load(), v)
				assert.True(t, swapped)
			case 15:
				err = m.WriteAt(binary.LittleEndian.AppendUint64(nil, v), at(i))
			}
			written[i].Store(v)
			return assert.NoError(t, err)
		}))
	}
	now := func() (all [pages]uint64) {
		for i := range pages {
			all[i] = written[i].Load()
		}
		return all
	}
	check := func(before [pages]uint64) {
		for i := range pages {
			require.GreaterOrEqual(t, d.word(at(i)), before[i], "page %d", i)
		}
	}
	before := now()
	m.NewAccount()
	d.copyRange(Range{0x10000, pages * page})
	check(before)
	for range rounds {
		before = now()
		d.round(m.NewAccount())
		check(before)
	}
	for _, stop := range stops {
		stop()
	}
	d.round(m.Stop())
	for i := range pages {
		p := make([]byte, page)
		require.NoError(t, m.ReadAt(p, at(i)))
		assert.Equal(t, p, d.copy[at(i)])
	}
}

// TestDrainBeforeANewAccountLosesWrites shows why NewAccount replaces the account before it drains.
// In the opposite order, a keeper that looks up a page in between writes to the page, and the new
// account does not have the mark.
func TestDrainBeforeANewAccountLosesWrites(t *testing.T) {
	m := newTracked(t)
	k := &keeper{mem: m}
	d := &migration{t: t, mem: m, copy: map[GPA][]byte{}}
	m.NewAccount()
	d.copyRange(Range{0x10000, 16 * page})

	m.Sections().Drain()
	require.NoError(t, k.write(3, 1))
	old := m.account.Swap(new(Account))
	d.round(old)
	require.NoError(t, k.write(3, 2))
	d.round(m.Stop())
	now, err := m.Load64(0x13000)
	require.NoError(t, err)
	assert.EqualValues(t, 2, now)
	assert.EqualValues(t, 1, d.word(0x13000), "lost")
}

func TestAKeptSliceIsMarkedOnceInAnAccount(t *testing.T) {
	m := newTracked(t)
	k := &keeper{mem: m}
	for i := range 3 {
		m.NewAccount()
		// A goroutine's place may change, as its stack may move.
		before := k.asked.Load()
		for range 1000 {
			require.NoError(t, k.write(5, uint64(i)))
		}
		assert.Less(t, k.asked.Load()-before, int64(Places+1))
		assert.GreaterOrEqual(t, k.asked.Load()-before, int64(1))
	}
}

func TestTrackedAccessesAllocateNothing(t *testing.T) {
	m := newTracked(t)
	p := make([]byte, 2*page)
	access := func() {
		_ = m.ReadAt(p, 0x10000)
		_ = m.WriteAt(p, 0x10000)
		_, _ = m.Load64(0x10008)
		_ = m.Store64(0x10008, 1)
		_, _ = m.CompareAndSwap(0x10008, 1, 2)
	}
	assert.Zero(t, testing.AllocsPerRun(100, access), "without an account")
	m.NewAccount()
	access()
	m.NewAccount() // allocates what the previous one needed
	assert.Zero(t, testing.AllocsPerRun(100, access), "with an account")
}

func TestEachPageIsInOneOfTheAccountsStartedMeanwhile(t *testing.T) {
	m := newTracked(t)
	m.NewAccount()
	var mu sync.Mutex
	named := map[GPA]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				a := m.NewAccount()
				mu.Lock()
				for r := range a.Ranges() {
					for off := uint64(0); off < r.Len; off += page {
						named[r.GPA+GPA(off)] = true
					}
				}
				mu.Unlock()
			}
		})
	}
	for i := range 16 {
		require.NoError(t, m.Store64(0x10000+GPA(i)*page, 1), fmt.Sprint(i))
	}
	wg.Wait()
	for r := range m.Stop().Ranges() {
		for off := uint64(0); off < r.Len; off += page {
			named[r.GPA+GPA(off)] = true
		}
	}
	assert.Len(t, named, 16)
}
