package guestmem

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ram returns n bytes that count up from first.
func ram(n int, first byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func newSlots(t testing.TB, slots ...Slot) *Slots {
	t.Helper()
	s := new(Slots)
	for _, sl := range slots {
		require.NoError(t, s.Add(sl))
	}
	return s
}

func TestAddRefusesInvalidSlots(t *testing.T) {
	for _, c := range []struct {
		name string
		add  Slot
		want error
	}{
		{"empty", Slot{GPA: 0x1000}, ErrBadSlot},
		{"past the end of the address space", Slot{GPA: top - 7, Mem: make([]byte, 16)}, ErrBadSlot},
		{"misaligned GPA", Slot{GPA: 0x1004, Mem: make([]byte, 16)}, ErrBadSlot},
		{"odd size", Slot{GPA: 0x1000, Mem: make([]byte, 20)}, ErrBadSlot},
		{"misaligned host address", Slot{GPA: 0x1000, Mem: make([]byte, 32)[4:20]}, ErrBadSlot},
		{"the same place", Slot{GPA: 0x8000, Mem: make([]byte, 0x100)}, ErrOverlap},
		{"inside another", Slot{GPA: 0x8010, Mem: make([]byte, 8)}, ErrOverlap},
		{"around another", Slot{GPA: 0x7000, Mem: make([]byte, 0x2000)}, ErrOverlap},
		{"into another's first word", Slot{GPA: 0x7ff8, Mem: make([]byte, 16)}, ErrOverlap},
		{"into another's last word", Slot{GPA: 0x80f8, Mem: make([]byte, 16)}, ErrOverlap},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSlots(t, Slot{GPA: 0x8000, Mem: ram(0x100, 0)})
			err := s.Add(c.add)
			require.ErrorIs(t, err, c.want)
			assert.ErrorContains(t, err, c.add.GPA.String())
			p := make([]byte, 1)
			assert.NoError(t, s.ReadAt(p, 0x80ff), "the existing slot stays")
		})
	}
}

func TestSlotsMayAdjoinAndReachBothEndsOfTheAddressSpace(t *testing.T) {
	s := newSlots(t,
		Slot{GPA: 0x2000, Mem: ram(0x100, 1)},
		Slot{GPA: 0x2100, Mem: ram(0x100, 2)},
		Slot{GPA: 0x1f00, Mem: ram(0x100, 3)},
		Slot{GPA: top - 0xff, Mem: ram(0x100, 4)},
		Slot{GPA: 0, Mem: ram(0x100, 5)},
	)
	for gpa, want := range map[GPA]byte{0x2000: 1, 0x2100: 2, 0x1f00: 3, top - 0xff: 4, 0: 5, top: 3} {
		p := make([]byte, 1)
		require.NoError(t, s.ReadAt(p, gpa))
		assert.Equal(t, want, p[0], "at %v", gpa)
	}
}

func TestAccessExtendsAcrossAdjoiningSlots(t *testing.T) {
	low, mid, high := ram(64, 0), ram(8, 64), ram(64, 72)
	s := newSlots(t, Slot{GPA: 0x1048, Mem: high}, Slot{GPA: 0x1040, Mem: mid}, Slot{GPA: 0x1000, Mem: low})
	for _, n := range []int{0, 1, 8, 24, 64, 65, 136} {
		for off := range 136 - n + 1 {
			p := make([]byte, n)
			require.NoError(t, s.ReadAt(p, 0x1000+GPA(off)))
			require.Equal(t, ram(n, byte(off)), p, "%d bytes at %d", n, off)
		}
	}
	p := bytes.Repeat([]byte{0xee}, 20)
	require.NoError(t, s.WriteAt(p, 0x103c))
	assert.Equal(t, p[:4], low[60:])
	assert.Equal(t, p[4:12], mid)
	assert.Equal(t, p[12:], high[:8])
	assert.Equal(t, byte(59), low[59])
	assert.Equal(t, byte(80), high[8])
}

func TestAccessErrorNamesTheFirstAddressThatFailed(t *testing.T) {
	s := newSlots(t,
		Slot{GPA: 0x1000, Mem: ram(0x100, 0)},
		Slot{GPA: 0x1100, Mem: ram(0x100, 0), ReadOnly: true},
		Slot{GPA: 0x1300, Mem: ram(0x100, 0)},
		Slot{GPA: top - 0xff, Mem: ram(0x100, 0)},
		Slot{GPA: 0, Mem: ram(0x100, 0)},
	)
	read := func(gpa GPA, n int) error { return s.ReadAt(make([]byte, n), gpa) }
	write := func(gpa GPA, n int) error { return s.WriteAt(make([]byte, n), gpa) }
	for _, c := range []struct {
		name string
		err  error
		want AccessError
	}{
		{"read below", read(0xff8, 16), AccessError{"read", 0xff8, 16, ErrUnmapped}},
		{"read into the hole", read(0x11f8, 16), AccessError{"read", 0x1200, 16, ErrUnmapped}},
		{"read across two slots into the hole", read(0x10f8, 0x200), AccessError{"read", 0x1200, 0x200, ErrUnmapped}},
		{"read within the hole", read(0x1280, 1), AccessError{"read", 0x1280, 1, ErrUnmapped}},
		{"read from the hole into a slot", read(0x12ff, 2), AccessError{"read", 0x12ff, 2, ErrUnmapped}},
		{"write to read-only", write(0x1180, 4), AccessError{"write", 0x1180, 4, ErrReadOnly}},
		{"write into read-only", write(0x10fc, 8), AccessError{"write", 0x1100, 8, ErrReadOnly}},
		{"write into the hole", write(0x13f8, 16), AccessError{"write", 0x1400, 16, ErrUnmapped}},
		{"read past the end of the address space", read(top-7, 16), AccessError{"read", top - 7, 16, ErrUnmapped}},
		{"write past the end of the address space", write(top, 2), AccessError{"write", top, 2, ErrUnmapped}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got *AccessError
			require.ErrorAs(t, c.err, &got)
			assert.Equal(t, c.want, *got)
		})
	}
	assert.EqualError(t, read(0x1280, 1), "guestmem: read of 1 bytes at 0x1280: no guest memory")
	assert.NoError(t, read(top-7, 8), "the last word of the address space")
	assert.NoError(t, read(0x1280, 0), "an empty access never fails")
	assert.ErrorIs(t, new(Slots).ReadAt(make([]byte, 1), 0), ErrUnmapped)
}

func TestWordsAreLittleEndianAndAtomicallySwapped(t *testing.T) {
	mem := ram(16, 1)
	s := newSlots(t, Slot{GPA: 0x1000, Mem: mem}, Slot{GPA: 0x1010, Mem: ram(8, 0x11), ReadOnly: true})

	v, err := s.Load64(0x1000)
	require.NoError(t, err)
	assert.Equal(t, uint64(0x0807060504030201), v, "little-endian")
	v, err = s.Load64(0x1010)
	require.NoError(t, err)
	assert.Equal(t, uint64(0x1817161514131211), v)

	require.NoError(t, s.Store64(0x1008, 0xa8a7a6a5a4a3a2a1))
	assert.Equal(t, []byte{0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8}, mem[8:])

	swapped, err := s.CompareAndSwap(0x1008, 0xa8a7a6a5a4a3a2a1, 5)
	require.NoError(t, err)
	assert.True(t, swapped)
	swapped, err = s.CompareAndSwap(0x1008, 0xa8a7a6a5a4a3a2a1, 6)
	require.NoError(t, err)
	assert.False(t, swapped, "the word has changed")
	v, err = s.Load64(0x1008)
	require.NoError(t, err)
	assert.Equal(t, uint64(5), v)
}

func TestWordAccessErrors(t *testing.T) {
	s := newSlots(t, Slot{GPA: 0x1000, Mem: ram(16, 0)}, Slot{GPA: 0x1010, Mem: ram(8, 0), ReadOnly: true})
	load := func(gpa GPA) error { _, err := s.Load64(gpa); return err }
	swap := func(gpa GPA) error { _, err := s.CompareAndSwap(gpa, 0, 1); return err }
	for _, c := range []struct {
		name string
		err  error
		want AccessError
	}{
		{"load in a hole", load(0x2000), AccessError{"read", 0x2000, 8, ErrUnmapped}},
		{"load misaligned", load(0x1004), AccessError{"read", 0x1004, 8, ErrMisaligned}},
		{"store in a hole", s.Store64(0x1018, 1), AccessError{"write", 0x1018, 8, ErrUnmapped}},
		{"store to read-only", s.Store64(0x1010, 1), AccessError{"write", 0x1010, 8, ErrReadOnly}},
		{"store misaligned", s.Store64(0x100c, 1), AccessError{"write", 0x100c, 8, ErrMisaligned}},
		{"swap in a hole", swap(0x2000), AccessError{"swap", 0x2000, 8, ErrUnmapped}},
		{"swap of read-only", swap(0x1010), AccessError{"swap", 0x1010, 8, ErrReadOnly}},
		{"swap misaligned", swap(0x1001), AccessError{"swap", 0x1001, 8, ErrMisaligned}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got *AccessError
			require.ErrorAs(t, c.err, &got)
			assert.Equal(t, c.want, *got)
		})
	}
	assert.NoError(t, s.Remove(0x1000), "a failed access leaves its section")
	assert.NoError(t, s.Remove(0x1010), "a failed access leaves its section")
}

func TestRemoveTakesTheWholeSlotAndNoOther(t *testing.T) {
	s := newSlots(t, Slot{GPA: 0x1000, Mem: ram(0x100, 0)}, Slot{GPA: 0x1100, Mem: ram(0x100, 0)})
	p := make([]byte, 16)
	require.NoError(t, s.ReadAt(p, 0x10f8))

	require.NoError(t, s.Remove(0x1100))
	var got *AccessError
	require.ErrorAs(t, s.ReadAt(p, 0x10f8), &got)
	assert.Equal(t, GPA(0x1100), got.GPA)
	require.NoError(t, s.ReadAt(p, 0x1000), "the other slot stays")

	assert.ErrorIs(t, s.Remove(0x1100), ErrNoSlot, "twice")
	assert.ErrorIs(t, s.Remove(0x1010), ErrNoSlot, "within a slot")
	assert.ErrorIs(t, new(Slots).Remove(0), ErrNoSlot)

	require.NoError(t, s.Add(Slot{GPA: 0x1100, Mem: ram(8, 0x55)}), "the addresses are free again")
	require.NoError(t, s.ReadAt(p[:8], 0x1100))
	assert.Equal(t, byte(0x55), p[0])
}

// A slice is valid until its section ends. Only Remove waits for the end of the section.
func TestRemoveWaitsForSectionsThatMayHoldSlices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(t, Slot{GPA: 0x1000, Mem: ram(8, 0)}, Slot{GPA: 0x2000, Mem: ram(8, 0)})
		section := s.Sections().Enter()
		mem, err := s.Slice(0x1000, 8, false)
		require.NoError(t, err)

		removed := make(chan error, 1)
		go func() { removed <- s.Remove(0x1000) }()
		synctest.Wait()
		assert.Empty(t, removed, "a section is still open")
		here := make([]byte, 1)
		assert.ErrorIs(t, s.ReadAt(here, 0x1000), ErrUnmapped, "not found by new sections")
		_, err = s.Slice(0x1000, 8, false)
		assert.ErrorIs(t, err, ErrUnmapped, "not found by the earlier section either")
		assert.NoError(t, s.ReadAt(here, 0x2000), "accesses do not wait")
		assert.NoError(t, s.Add(Slot{GPA: 0x1000, Mem: ram(8, 9)}), "Add does not wait")
		assert.Equal(t, ram(8, 0), mem)

		section.Leave()
		require.NoError(t, <-removed)
	})
}

func TestSliceEndsWithTheSlot(t *testing.T) {
	low, high := ram(64, 0), ram(8, 64)
	s := newSlots(t, Slot{GPA: 0x1000, Mem: low}, Slot{GPA: 0x1040, Mem: high, ReadOnly: true})
	for _, c := range []struct {
		name  string
		gpa   GPA
		n     int
		write bool
		want  []byte
		err   error
	}{
		{"within a slot", 0x1010, 8, false, ram(8, 16), nil},
		{"to its end", 0x103c, 4, true, ram(4, 60), nil},
		{"across two slots: the part in the first", 0x103c, 8, false, ram(4, 60), nil},
		{"the part in the second", 0x1040, 4, false, ram(4, 64), nil},
		{"read-only", 0x1040, 4, true, nil, ErrReadOnly},
		{"below", 0xfff, 2, false, nil, ErrUnmapped},
		{"beyond", 0x1048, 8, true, nil, ErrUnmapped},
		{"of no bytes", 0x1010, 0, false, nil, ErrSize},
		{"of a negative size", 0x1010, -8, true, nil, ErrSize},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := s.Slice(c.gpa, c.n, c.write)
			if errors.Is(c.err, ErrSize) { // the caller's mistake: the error names the size
				assert.EqualError(t, err, fmt.Sprintf("size out of range: %d bytes", c.n))
				assert.ErrorIs(t, err, ErrSize)
			} else {
				assert.Equal(t, c.err, err)
			}
			assert.Equal(t, c.want, got)
		})
	}
	got, err := s.Slice(0x1000, 1, true)
	require.NoError(t, err)
	got[0] = 0xee
	assert.EqualValues(t, 0xee, low[0], "a slice is the memory itself")
}

// A device reads whole words only, while a guest and other devices write them, and slots come and
// go. After Remove nothing accesses the slot's memory, which the race detector checks.
func TestAccessesDuringHotplugAreAtomicAndEndWithRemove(t *testing.T) {
	const gpa, rounds = GPA(0x1000), 300
	s := newSlots(t, Slot{GPA: 0, Mem: ram(0x1000, 0)})
	loop := func(body func()) {
		t.Cleanup(repeat(1, func() bool { body(); return true }))
	}
	half := func(v uint64) bool { return uint32(v) == uint32(v>>32) }
	unless := func(err error) { // the slot may be absent
		if err != nil && !errors.Is(err, ErrUnmapped) {
			t.Error(err)
		}
	}

	n := uint64(0)
	loop(func() { // the guest
		n++
		unless(s.Store64(gpa+8*GPA(n%8), n<<32|n&0xffffffff))
	})
	ste := make([]byte, 64)
	loop(func() { // a device that reads an STE
		err := s.ReadAt(ste, gpa)
		unless(err)
		if err != nil {
			return
		}
		for _, v := range unsafe.Slice((*uint64)(unsafe.Pointer(&ste[0])), 8) {
			if !half(v) {
				t.Errorf("torn word %#x", v)
			}
		}
	})
	event := bytes.Repeat([]byte{0x5a}, 32)
	loop(func() { unless(s.WriteAt(event, gpa+32)) }) // a device that writes an event
	loop(func() {                                     // a device that updates a descriptor
		v, err := s.Load64(gpa)
		unless(err)
		_, err = s.CompareAndSwap(gpa, v, v)
		unless(err)
	})

	mem := make([]byte, 64)
	for range rounds {
		require.NoError(t, s.Add(Slot{GPA: gpa, Mem: mem}))
		p := make([]byte, 64)
		require.NoError(t, s.ReadAt(p, gpa))
		require.NoError(t, s.Remove(gpa))
		clear(mem) // plain writes: a data race if a device still accesses it
	}
}

func TestSlotsAccessesAllocateNothing(t *testing.T) {
	s := newSlots(t, Slot{GPA: 0, Mem: ram(64, 0)}, Slot{GPA: 64, Mem: ram(64, 0)})
	var m Memory = s
	p := make([]byte, 128)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		_ = m.ReadAt(p, 0)
		_ = m.WriteAt(p, 0)
		_, _ = s.Load64(8)
		_ = s.Store64(8, 1)
		_, _ = s.CompareAndSwap(8, 1, 2)
	}))
}
