package guestmem

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// wordMemories are memories of each kind, with the same content: words from 0x1000 to 0x1fff, more
// in a second slot that adjoins, and read-only words from 0x3000 on.
func wordMemories(t *testing.T) map[string]Memory {
	slots := func() *Slots {
		return newSlots(t,
			Slot{GPA: 0x1000, Mem: ram(0x1000, 1)},
			Slot{GPA: 0x2000, Mem: ram(0x100, 7)},
			Slot{GPA: 0x3000, Mem: ram(0x100, 9), ReadOnly: true},
		)
	}
	tracked, err := NewTracked(slots())
	require.NoError(t, err)
	return map[string]Memory{
		"slots":     slots(),
		"tracked":   tracked,
		"no Mapper": struct{ Memory }{slots()},
	}
}

// A device reads the same words, and gets the same error, from a Mapper and from any other Memory.
func TestWordMemoryDoesWhatReadAtAndWriteAtDo(t *testing.T) {
	for name, mem := range wordMemories(t) {
		for _, c := range []struct {
			name  string
			gpa   GPA
			n     int
			read  error
			write error
		}{
			{"no word", 0x1000, 0, nil, nil},
			{"one word", 0x1008, 1, nil, nil},
			{"an STE", 0x1040, 8, nil, nil},
			{"more than is atomic", 0x1000, 512, nil, nil},
			{"across slots", 0x1fe0, 8, nil, nil},
			{"misaligned", 0x1004, 2, nil, nil},
			{"partly unmapped", 0x20f8, 2, ErrUnmapped, ErrUnmapped},
			{"unmapped", 0x8000, 1, ErrUnmapped, ErrUnmapped},
			{"read-only", 0x3000, 4, nil, ErrReadOnly},
			{"past the end of the address space", top - 7, 2, ErrUnmapped, ErrUnmapped},
		} {
			t.Run(fmt.Sprintf("%s/%s", name, c.name), func(t *testing.T) {
				m := NewWordMemory(mem)
				words, bytes := make([]uint64, c.n), make([]byte, 8*c.n)
				err, want := m.Read(words, c.gpa), mem.ReadAt(bytes, c.gpa)
				assert.ErrorIs(t, err, c.read)
				assert.Equal(t, want, err)
				if c.read == nil {
					assert.Equal(t, bytes, bytesOf(words))
				}

				for i := range words {
					words[i] = 0x0102_0304_0506_0708 * uint64(i+3)
				}
				err = m.Write(words, c.gpa)
				assert.ErrorIs(t, err, c.write)
				if c.write == nil {
					require.NoError(t, mem.ReadAt(bytes, c.gpa))
					assert.Equal(t, bytesOf(words), bytes)
				}
				var access *AccessError
				assert.Equal(t, c.write != nil, errors.As(err, &access))
			})
		}
	}
}

// Store32 distinguishes memory from a doorbell. In a Mapper it allocates nothing.
func TestStore32(t *testing.T) {
	for name, mem := range wordMemories(t) {
		t.Run(name, func(t *testing.T) {
			m, buf := NewWordMemory(mem), new([4]byte)
			for gpa, want := range map[GPA]error{
				0x1004: nil, 0x1008: nil, 0x1001: nil, 0x3000: ErrReadOnly, 0x8000: ErrUnmapped,
			} {
				require.ErrorIs(t, m.Store32(gpa, 0xa1b2_c3d4, buf), want)
				if want == nil {
					p := make([]byte, 4)
					require.NoError(t, mem.ReadAt(p, gpa))
					assert.Equal(t, []byte{0xd4, 0xc3, 0xb2, 0xa1}, p)
				}
			}
			if _, ok := mem.(Mapper); ok {
				assert.Zero(t, testing.AllocsPerRun(10, func() { _ = m.Store32(0x8000, 1, buf) }))
			}
		})
	}
}

// A write is in the account of a Tracked.
func TestWordMemoryMarksATracked(t *testing.T) {
	tracked, err := NewTracked(newSlots(t, Slot{GPA: 0, Mem: make([]byte, 0x4000)}))
	require.NoError(t, err)
	tracked.NewAccount()
	m := NewWordMemory(tracked)
	require.NoError(t, m.Write([]uint64{1, 2}, 0x1000))
	require.NoError(t, m.Store32(0x3004, 1, new([4]byte)))
	require.NoError(t, m.Read(make([]uint64, 1), 0x2000))
	var pages []Range
	for r := range tracked.Stop().Ranges() {
		pages = append(pages, r)
	}
	assert.Equal(t, []Range{{0x1000, 0x1000}, {0x3000, 0x1000}}, pages)
}

func TestWordMemoryOfNothingIsUnmapped(t *testing.T) {
	for _, m := range []WordMemory{{}, NewWordMemory(nil)} {
		assert.EqualError(t, m.Read(make([]uint64, 2), 0x1000), "guestmem: read of 16 bytes at 0x1000: no guest memory")
		assert.EqualError(t, m.Write(make([]uint64, 2), 0x1000), "guestmem: write of 16 bytes at 0x1000: no guest memory")
		assert.EqualError(t, m.Store32(0x1000, 1, new([4]byte)), "guestmem: write of 4 bytes at 0x1000: no guest memory")
	}
	m := NewWordMemory((*Tracked)(nil))
	assert.ErrorIs(t, m.Read(make([]uint64, 1), 0x1000), ErrUnmapped)
}

func TestWordMemoryAllocatesNothing(t *testing.T) {
	for name, mem := range wordMemories(t) {
		m, words := NewWordMemory(mem), make([]uint64, 8)
		assert.Zero(t, testing.AllocsPerRun(100, func() {
			_ = m.Read(words, 0x1040)
			_ = m.Write(words, 0x1040)
		}), name)
	}
}

// A Mapper of a Fake fails where the Fake does, and counts.
func TestFakeMapped(t *testing.T) {
	var f Fake
	m := f.Mapped()
	bus := errors.New("bus")
	f.SetWords(0x1000, 1, 2, 3)
	f.FailReads(Range{0x1014, 1}, bus)
	f.FailWrites(Range{0x2000, 8}, nil)
	for _, c := range []struct {
		gpa   GPA
		n     int
		write bool
		want  int
		err   error
	}{
		{0x1000, 8, false, 8, nil},
		{0x1000, 64, false, 16, nil}, // before the word that fails
		{0x1010, 8, false, 0, bus},
		{0x1010, 8, true, 8, nil},
		{0x1018, 8, false, 8, nil},
		{0x2000, 8, true, 0, ErrUnmapped},
		{0x2000, 8, false, 8, nil},
		{top - 7, 64, false, 8, nil},
		{0x1000, 0, false, 0, ErrSize},
	} {
		mem, err := m.Slice(c.gpa, c.n, c.write)
		assert.Equal(t, c.err, err, "%+v", c)
		assert.Len(t, mem, c.want, "%+v", c)
	}
	assert.Equal(t, uint64(7), f.Reads())
	assert.Equal(t, uint64(2), f.Writes())
	f.Heal()
	mem, err := m.Slice(0x1000, 64, true)
	require.NoError(t, err)
	mem[0] = 5
	assert.Equal(t, []uint64{5, 2}, f.Words(0x1000, 2), "it is the same memory")
	assert.Same(t, m.Sections(), f.Mapped().Sections())
}
