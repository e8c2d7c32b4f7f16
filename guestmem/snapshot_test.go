package guestmem

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/refs"
)

// checkLeaks panics at the end of the test if it has not released all of its snapshots.
func checkLeaks(t *testing.T) {
	before := refs.GetLeakMode()
	refs.SetLeakMode(refs.LeaksPanic)
	t.Cleanup(func() {
		refs.DoRepeatedLeakCheck() // DoLeakCheck works once in a process
		refs.SetLeakMode(before)
	})
}

func TestSnapshotDoesNotChangeWithTheMemory(t *testing.T) {
	checkLeaks(t)
	mem := ram(64, 1)
	v, err := Snapshot(newSlots(t, Slot{GPA: 0x1000, Mem: mem}), 0x1000, 64)
	require.NoError(t, err)
	defer v.Release()
	clear(mem) // what a hostile guest does between check and use
	assert.Equal(t, ram(64, 1), v.Bytes())
}

func TestSnapshotExtendsAcrossSlots(t *testing.T) {
	checkLeaks(t)
	s := newSlots(t, Slot{GPA: 0x1000, Mem: ram(32, 0)}, Slot{GPA: 0x1020, Mem: ram(32, 32)})
	v, err := Snapshot(s, 0x1010, 32)
	require.NoError(t, err)
	defer v.Release()
	assert.Equal(t, ram(32, 16), v.Bytes())
}

// The memory comes from a pool, and has held other snapshots.
func TestSnapshotHasNoBytesOfAnEarlierOne(t *testing.T) {
	checkLeaks(t)
	var f Fake
	require.NoError(t, f.WriteAt(ram(256, 1), 0))
	for range 10 {
		v, err := Snapshot(&f, 0, 256)
		require.NoError(t, err)
		v.Release()
		v, err = Snapshot(&f, 0x1000, 200)
		require.NoError(t, err)
		assert.Equal(t, make([]byte, 200), v.Bytes())
		v.Release()
	}
}

func TestSnapshotFailsWithErrSizeOutsideItsBounds(t *testing.T) {
	checkLeaks(t)
	var f Fake
	for _, c := range []struct {
		name string
		n    int
		want error
	}{
		{"zero", 0, nil},
		{"one", 1, nil},
		{"the greatest", MaxSnapshot, nil},
		{"one more than the greatest", MaxSnapshot + 1, ErrSize},
		{"negative", -1, ErrSize},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := Snapshot(&f, 0x1000, c.n)
			require.ErrorIs(t, err, c.want)
			if err != nil {
				assert.Zero(t, v)
				return
			}
			assert.Equal(t, c.n, len(v.Bytes()))
			v.Release()
		})
	}
}

func TestFailedSnapshotIsZeroAndHoldsNoMemory(t *testing.T) {
	checkLeaks(t)
	var f Fake
	bus := errors.New("bus error")
	f.FailReads(Range{0x1020, 1}, bus)
	v, err := Snapshot(&f, 0x1000, 64)
	assert.Zero(t, v)
	var got *AccessError
	require.ErrorAs(t, err, &got)
	assert.Equal(t, AccessError{"read", 0x1020, 64, bus}, *got)
}

// Guest structures are little-endian (§6.2).
func TestSnapWordsAreLittleEndian(t *testing.T) {
	checkLeaks(t)
	var f Fake
	require.NoError(t, f.WriteAt([]byte{0x46, 0x20, 0, 0, 0xef, 0xbe, 0xad, 0xde, 1, 2, 3, 4, 5, 6, 7, 8}, 0x40))
	v, err := Snapshot(&f, 0x40, 16)
	require.NoError(t, err)
	defer v.Release()
	assert.Equal(t, []uint64{0xdeadbeef_00002046, 0x0807060504030201}, v.Words())
}

func TestSnapWordsOmitAnIncompleteLastWord(t *testing.T) {
	checkLeaks(t)
	var f Fake
	for n, want := range map[int]int{0: 0, 7: 0, 8: 1, 15: 1, 16: 2} {
		v, err := Snapshot(&f, 0, n)
		require.NoError(t, err)
		assert.Len(t, v.Words(), want, "%d bytes", n)
		assert.Len(t, v.Bytes(), n)
		v.Release()
	}
}

func TestZeroSnapIsEmpty(t *testing.T) {
	var s Snap
	assert.Empty(t, s.Bytes())
	assert.Empty(t, s.Words())
	s.Release()
}

func TestSnapshotOfNoMemoryFails(t *testing.T) {
	v, err := Snapshot(nil, 0x1000, 8)
	assert.Zero(t, v)
	assert.Equal(t, &AccessError{"read", 0x1000, 8, ErrUnmapped}, err)
}

func TestSnapshotAllocatesNothing(t *testing.T) {
	if wordwise > 64 {
		t.Skip("pools drop memory at random under the race detector")
	}
	s := newSlots(t, Slot{GPA: 0, Mem: ram(4096, 0)})
	var sum uint64
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		v, _ := Snapshot(s, 0, 4096)
		sum += v.Words()[0]
		v.Release()
	}))
}
