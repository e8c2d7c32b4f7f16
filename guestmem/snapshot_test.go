package guestmem

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/refs"
)

// checkLeaks ends the tests with a panic if views that this one made are not
// released when it ends.
func checkLeaks(t *testing.T) {
	before := refs.GetLeakMode()
	refs.SetLeakMode(refs.LeaksPanic)
	t.Cleanup(func() {
		refs.DoRepeatedLeakCheck() // DoLeakCheck looks but once in a process
		refs.SetLeakMode(before)
	})
}

func TestSnapshotIsOutOfTheGuestsReach(t *testing.T) {
	checkLeaks(t)
	mem := ram(64, 1)
	v, err := Snapshot(newSlots(t, Slot{GPA: 0x1000, Mem: mem}), 0x1000, 64)
	require.NoError(t, err)
	defer v.Release()
	clear(mem) // what a hostile guest does between check and use
	assert.Equal(t, ram(64, 1), v.AsSlice())
}

func TestSnapshotGathersAcrossSlots(t *testing.T) {
	checkLeaks(t)
	s := newSlots(t, Slot{GPA: 0x1000, Mem: ram(32, 0)}, Slot{GPA: 0x1020, Mem: ram(32, 32)})
	v, err := Snapshot(s, 0x1010, 32)
	require.NoError(t, err)
	defer v.Release()
	assert.Equal(t, ram(32, 16), v.AsSlice())
}

// Pooled memory has had other users: none of their bytes may be left in it.
func TestSnapshotsShowNoOtherUsersBytes(t *testing.T) {
	checkLeaks(t)
	var f Fake
	require.NoError(t, f.WriteAt(ram(256, 1), 0))
	for range 10 {
		v, err := Snapshot(&f, 0, 256)
		require.NoError(t, err)
		v.Release()
		v, err = Snapshot(&f, 0x1000, 200)
		require.NoError(t, err)
		assert.Equal(t, make([]byte, 200), v.AsSlice())
		v.Release()
	}
}

func TestSnapshotSizes(t *testing.T) {
	checkLeaks(t)
	var f Fake
	for _, c := range []struct {
		name string
		n    int
		want error
	}{
		{"none", 0, nil},
		{"one", 1, nil},
		{"the most", MaxSnapshot, nil},
		{"more", MaxSnapshot + 1, ErrTooLong},
		{"fewer than none", -1, ErrTooLong},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := Snapshot(&f, 0x1000, c.n)
			require.ErrorIs(t, err, c.want)
			if err != nil {
				assert.Nil(t, v)
				return
			}
			assert.Equal(t, c.n, v.Size())
			v.Release()
		})
	}
}

func TestSnapshotThatFailsHoldsNothing(t *testing.T) {
	checkLeaks(t)
	var f Fake
	bus := errors.New("bus error")
	f.FailReads(Range{0x1020, 1}, bus)
	v, err := Snapshot(&f, 0x1000, 64)
	assert.Nil(t, v)
	var got *AccessError
	require.ErrorAs(t, err, &got)
	assert.Equal(t, AccessError{"read", 0x1020, 64, bus}, *got)
}

// The structures of the SMMU are little-endian, whatever the machine is (§3.21.3).
func TestWordsAreLittleEndian(t *testing.T) {
	checkLeaks(t)
	var f Fake
	require.NoError(t, f.WriteAt([]byte{0x46, 0x20, 0, 0, 0xef, 0xbe, 0xad, 0xde, 1, 2, 3, 4, 5, 6, 7, 8}, 0x40))
	v, err := Snapshot(&f, 0x40, 16)
	require.NoError(t, err)
	defer v.Release()
	assert.Equal(t, []uint64{0xdeadbeef_00002046, 0x0807060504030201}, Words(v))
}
