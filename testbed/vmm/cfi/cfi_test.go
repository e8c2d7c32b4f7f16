package cfi

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newFlash(t *testing.T) (*Flash, []byte, *[]bool) {
	t.Helper()
	mem := make([]byte, 2*Block)
	Erase(mem)
	var readable []bool
	f, err := New(mem, func(on bool) error { readable = append(readable, on); return nil }, func(err error) { t.Error(err) })
	require.NoError(t, err)
	return f, mem, &readable
}

func TestGuestReadsMemoryInArrayModeAlone(t *testing.T) {
	f, mem, readable := newFlash(t)
	mem[8] = 0x5a
	assert.EqualValues(t, 0xffff_ff5a, f.Load(8, 4))
	f.Store(0, 4, 0x0070_0070)
	assert.EqualValues(t, 0x0080_0080, f.Load(8, 4), "the status of both chips: ready")
	f.Store(0, 4, 0x0050_0050)
	f.Store(0, 4, 0x0090_0090)
	assert.Zero(t, f.Load(8, 4), "no block is locked")
	f.Store(0, 4, 0x00ff_00ff)
	assert.Equal(t, []bool{true, false, true}, *readable)
}

func TestProgramClearsBitsAndEraseSetsThem(t *testing.T) {
	f, mem, _ := newFlash(t)
	f.Store(4, 4, 0x0040_0040)
	f.Store(4, 4, 0x1234_5678)
	assert.Equal(t, []byte{0x78, 0x56, 0x34, 0x12}, mem[4:8])
	f.Store(4, 4, 0x0010_0010)
	f.Store(4, 4, 0xffff_ff0f)
	assert.Equal(t, []byte{0x08, 0x56, 0x34, 0x12}, mem[4:8])
	f.Store(Block, 4, 0x0020_0020)
	f.Store(Block, 4, 0x00d0_00d0)
	assert.EqualValues(t, 0x08, mem[4], "another block")
	f.Store(0, 4, 0x0020_0020)
	f.Store(0, 4, 0x0070_0070)
	assert.EqualValues(t, 0x08, mem[4], "not confirmed")
	f.Store(0, 4, 0x0020_0020)
	f.Store(0, 4, 0x00d0_00d0)
	assert.EqualValues(t, 0xff, mem[4])
}

func TestBufferIsProgrammedWhenConfirmed(t *testing.T) {
	for _, tt := range []struct {
		last uint64
		want byte
	}{{0x00d0_00d0, 1}, {0x00ff_00ff, 0xff}} {
		f, mem, _ := newFlash(t)
		f.Store(0, 4, 0x00e8_00e8)
		assert.EqualValues(t, 0x0080_0080, f.Load(0, 4))
		f.Store(0, 4, 0x0001_0001) // two words
		f.Store(0, 4, 1)
		f.Store(4, 4, 2)
		assert.EqualValues(t, 0xff, mem[0])
		f.Store(0, 4, tt.last)
		assert.Equal(t, tt.want, mem[0])
	}
}

func TestAccessesBeyondTheBankHaveNoEffect(t *testing.T) {
	f, _, _ := newFlash(t)
	f.Store(2*Block-2, 4, 0x0070_0070)
	f.Store(1<<40, 4, 0x0070_0070)
	assert.Zero(t, f.Load(2*Block-2, 4))
	assert.EqualValues(t, 0xffff, f.Load(2*Block-2, 2), "array mode")
}

// A guest makes the buffer no larger than a chip's.
func TestBufferIsBounded(t *testing.T) {
	f, _, _ := newFlash(t)
	f.Store(0, 4, 0x00e8_00e8)
	f.Store(0, 4, 0xffff_ffff)
	for i := range uint64(maxBufferWord) {
		f.Store(4*i, 4, i)
	}
	assert.Equal(t, modeConfirm, f.mode)
	assert.Len(t, f.buffer, maxBufferWord)
}

func TestErrorOfTheMemorySlotIsReported(t *testing.T) {
	broken := errors.New("no slot")
	_, err := New(nil, func(bool) error { return broken }, nil)
	assert.ErrorIs(t, err, broken)
	var got error
	ok := true
	f, err := New(make([]byte, Block), func(bool) error {
		if ok {
			return nil
		}
		return broken
	}, func(err error) { got = err })
	require.NoError(t, err)
	ok = false
	f.Store(0, 4, 0x70)
	assert.ErrorIs(t, got, broken)
	ok = true
	require.NoError(t, f.Reset(func(bool) error { return nil }))
	assert.Equal(t, modeArray, f.mode)
}
