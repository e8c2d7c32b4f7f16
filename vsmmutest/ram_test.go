package vsmmutest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

const ramAt guestmem.GPA = 0x4000_0000

// newSlots is 16 MiB of guest memory, all ones.
func newSlots(t testing.TB) *guestmem.Slots {
	mem := make([]byte, 16<<20)
	for i := range mem {
		mem[i] = 0xff
	}
	slots := new(guestmem.Slots)
	require.NoError(t, slots.Add(guestmem.Slot{GPA: ramAt, Mem: mem}))
	return slots
}

func newRAM(t testing.TB) *vsmmutest.RAM {
	return vsmmutest.NewRAM(newSlots(t), guestmem.Range{GPA: ramAt, Len: 16 << 20})
}

// must returns a value whose error is nil.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		require.NoError(t, err)
		return v
	}
}

func TestAllocAlignsToTheSizeAndZeroes(t *testing.T) {
	r := newRAM(t)
	at := must[guestmem.GPA](t)
	assert.Equal(t, ramAt, at(r.Alloc(64)))
	assert.Equal(t, ramAt+0x1000, at(r.Alloc(0x1000)))
	assert.Equal(t, ramAt+0x2000, at(r.Alloc(0x30)), "0x40 is the next power of two")
	assert.Equal(t, ramAt+0x1_0000, at(r.Alloc(0x1_0000)))
	assert.Equal(t, guestmem.Range{GPA: ramAt, Len: 0x2_0000}, r.Allocated())
	words, err := r.Words(ramAt+0x1_0000, 0x1_0000/8)
	require.NoError(t, err)
	assert.Equal(t, make([]uint64, 0x1_0000/8), words)
	assert.EqualValues(t, ^uint64(0), must[uint64](t)(r.Load(ramAt+0x2_0000)))
}

func TestAllocFails(t *testing.T) {
	r := newRAM(t)
	_, err := r.Alloc(0)
	assert.EqualError(t, err, "vsmmutest: allocate memory: size 0")
	_, err = r.Alloc(16<<20 + 1)
	assert.ErrorContains(t, err, "out of memory")
	_, err = r.Alloc(16 << 20)
	assert.NoError(t, err, "a failed call allocates nothing")
	_, err = r.Alloc(1)
	assert.ErrorContains(t, err, "out of memory")

	r = vsmmutest.NewRAM(newSlots(t), guestmem.Range{GPA: 0x1000, Len: 0x1000})
	_, err = r.Alloc(8)
	assert.ErrorIs(t, err, guestmem.ErrUnmapped)
}

func TestWordsAreLittleEndian(t *testing.T) {
	mem := newSlots(t)
	r := vsmmutest.NewRAM(mem, guestmem.Range{GPA: ramAt, Len: 0x1000})
	words := make([]uint64, 20) // more than one atomic access
	for i := range words {
		words[i] = 0x0807_0605_0403_0201 + uint64(i)
	}
	require.NoError(t, r.Store(ramAt+8, words...))
	var p [8]byte
	require.NoError(t, mem.ReadAt(p[:], ramAt+8))
	assert.Equal(t, [8]byte{1, 2, 3, 4, 5, 6, 7, 8}, p)
	assert.Equal(t, words, must[[]uint64](t)(r.Words(ramAt+8, len(words))))

	assert.ErrorIs(t, r.Store(ramAt+4, 1), guestmem.ErrMisaligned)
	_, err := r.Load(ramAt + 4)
	assert.ErrorIs(t, err, guestmem.ErrMisaligned)
	assert.ErrorIs(t, r.Store(0, 1), guestmem.ErrUnmapped)
	_, err = r.Load(0)
	assert.ErrorIs(t, err, guestmem.ErrUnmapped)
}

// Failures that a test injects into a guestmem.Fake concern the SMMU's accesses only.
func TestGuestAccessesOfAFakeNeitherFailNorCount(t *testing.T) {
	var fake guestmem.Fake
	fake.FailReads(guestmem.Range{Len: 1 << 40}, nil)
	fake.FailWrites(guestmem.Range{Len: 1 << 40}, nil)
	r := vsmmutest.NewRAM(&fake, guestmem.Range{GPA: ramAt, Len: 1 << 20})
	at := must[guestmem.GPA](t)(r.Alloc(64))
	require.NoError(t, r.Store(at, 1, 2))
	assert.EqualValues(t, 2, must[uint64](t)(r.Load(at+8)))
	assert.Zero(t, fake.Reads()+fake.Writes())
}
