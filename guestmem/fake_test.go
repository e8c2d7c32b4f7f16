package guestmem

import (
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFakeIsZeroUntilWrittenTo(t *testing.T) {
	var f Fake
	for _, gpa := range []GPA{0, 0x1234, fakePage - 8, 1 << 47, top - 63} {
		p := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9}
		require.NoError(t, f.ReadAt(p, gpa))
		assert.Equal(t, make([]byte, 9), p)
		require.NoError(t, f.WriteAt([]byte("across pages"), gpa))
		p = make([]byte, 12)
		require.NoError(t, f.ReadAt(p, gpa))
		assert.Equal(t, "across pages", string(p))
	}
	assert.ErrorIs(t, f.ReadAt(make([]byte, 2), top), ErrUnmapped, "beyond the end of the address space")
	assert.NoError(t, f.ReadAt(nil, 0x1234))

	big := ram(3*fakePage, 7)
	require.NoError(t, f.WriteAt(big, 0x7fff_0001))
	back := make([]byte, len(big))
	require.NoError(t, f.ReadAt(back, 0x7fff_0001))
	assert.Equal(t, big, back)
}

func TestFakeWordsAreLittleEndian(t *testing.T) {
	var f Fake
	f.SetWords(fakePage-8, 0x1122334455667788, 2) // across pages
	assert.Equal(t, []uint64{0x1122334455667788, 2, 0}, f.Words(fakePage-8, 3))
	p := make([]byte, 2)
	require.NoError(t, f.ReadAt(p, fakePage-8))
	assert.Equal(t, []byte{0x88, 0x77}, p, "little-endian")

	require.NoError(t, f.Store64(8, 3))
	v, err := f.Load64(8)
	require.NoError(t, err)
	assert.Equal(t, uint64(3), v)
	swapped, err := f.CompareAndSwap(8, 3, 4)
	require.NoError(t, err)
	assert.True(t, swapped)
	assert.Equal(t, []uint64{4}, f.Words(8, 1))

}

// A wrong argument from a test panics at its call.
func TestFakePanicsForInvalidWordsAndRanges(t *testing.T) {
	var f Fake
	f.SetWords(top-7, 1)
	assert.Equal(t, []uint64{1}, f.Words(top-7, 1), "the last word of the address space")
	for name, call := range map[string]func(){
		"misaligned write":                 func() { f.SetWords(4, 1) },
		"misaligned read":                  func() { f.Words(1, 1) },
		"write beyond the address space":   func() { f.SetWords(top-7, 1, 2) },
		"read beyond the address space":    func() { f.Words(top-7, 2) },
		"negative count":                   func() { f.Words(0, -1) },
		"failing reads of an empty range":  func() { f.FailReads(Range{GPA: 0x1000}, nil) },
		"failing writes of an empty range": func() { f.FailWrites(Range{}, nil) },
	} {
		t.Run(name, func(t *testing.T) { assert.Panics(t, call) })
	}
}

func TestFakeFailsAtTheFirstFailingAddress(t *testing.T) {
	var (
		bus  = errors.New("bus error")
		f    Fake
		read = func(gpa GPA, n int) error { return f.ReadAt(make([]byte, n), gpa) }
		wr   = func(gpa GPA, n int) error { return f.WriteAt(make([]byte, n), gpa) }
		swap = func(gpa GPA) error { _, err := f.CompareAndSwap(gpa, 0, 0); return err }
	)
	f.FailReads(Range{0x2000, 0x10}, bus)
	f.FailReads(Range{0x1000, 0x10}, nil)
	f.FailWrites(Range{0x3000, 0x10}, bus)
	for _, c := range []struct {
		name string
		err  error
		want AccessError
	}{
		{"read inside", read(0x1004, 4), AccessError{"read", 0x1004, 4, ErrUnmapped}},
		{"read from below", read(0xff8, 16), AccessError{"read", 0x1000, 16, ErrUnmapped}},
		{"read across both ranges: the lower", read(0xff0, 0x2000), AccessError{"read", 0x1000, 0x2000, ErrUnmapped}},
		{"read with the test's error", read(0x200f, 1), AccessError{"read", 0x200f, 1, bus}},
		{"write inside", wr(0x3008, 8), AccessError{"write", 0x3008, 8, bus}},
		{"swap where reads fail", swap(0x2008), AccessError{"swap", 0x2008, 8, bus}},
		{"swap where writes fail", swap(0x3000), AccessError{"swap", 0x3000, 8, bus}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got *AccessError
			require.ErrorAs(t, c.err, &got)
			assert.Equal(t, c.want, *got)
		})
	}
	assert.NoError(t, read(0x1010, 8), "just after")
	assert.NoError(t, read(0x3000, 8), "reads where only writes fail")
	assert.NoError(t, wr(0x1000, 8), "writes where only reads fail")
	_, err := f.Load64(0x2000)
	assert.ErrorIs(t, err, bus)
	assert.ErrorIs(t, f.Store64(0x3000, 1), bus)

	f.SetWords(0x2000, 5)
	assert.Equal(t, []uint64{5}, f.Words(0x2000, 1), "the guest's own accesses do not fail")
	f.Heal()
	v, err := f.Load64(0x2000)
	require.NoError(t, err)
	assert.Equal(t, uint64(5), v)
}

func TestFakeCountsReadsAndWrites(t *testing.T) {
	var f Fake
	f.FailReads(Range{0x1000, 1}, nil)
	p := make([]byte, 8)
	_ = f.ReadAt(p, 0x1000) // fails, and counts
	_ = f.ReadAt(p, 0)
	_, _ = f.Load64(0)
	_ = f.WriteAt(p, 0)
	_ = f.Store64(0, 1)
	_, _ = f.CompareAndSwap(0, 1, 2)
	f.SetWords(0, 1)
	f.Words(0, 1)
	assert.Equal(t, uint64(4), f.Reads())
	assert.Equal(t, uint64(3), f.Writes())
}

// The race detector judges a guest that writes while devices access the same memory in any size.
func TestFakeIsFreeOfDataRaces(t *testing.T) {
	var f Fake
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range uint64(500) {
				f.SetWords(GPA(8*(i%600)), i)
			}
		})
		wg.Go(func() {
			p := make([]byte, 4096)
			for i := range 200 {
				assert.NoError(t, f.ReadAt(p[:8<<(i%10)], 0))
			}
		})
		wg.Go(func() {
			for i := range 100 {
				f.FailWrites(Range{1 << 20, 8}, nil)
				assert.ErrorIs(t, f.Store64(1<<20, 1), ErrUnmapped)
				assert.NoError(t, f.WriteAt(make([]byte, 32), GPA(i%64*32)))
			}
		})
	}
	wg.Wait()
}
