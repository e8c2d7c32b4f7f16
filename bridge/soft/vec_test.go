package soft_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// A list has the outcome of its elements one by one, from caches and without, with elements that are
// empty, in several pages, and of any attributes.
func TestVecHasTheOutcomeOfItsElements(t *testing.T) {
	r, mem, _ := slicedRig(t)
	for i := range uint64(1024) {
		mem.SetWords(gpa(0x5000_0000+8*i), i)
		mem.SetWords(gpa(0x6000_0000+8*i), 0x1000+i)
	}
	list := func() []soft.Vec {
		return []soft.Vec{
			{0x1ff8, make([]byte, 8)}, {0x8, make([]byte, 16)}, {0x5, nil},
			{0xff0, make([]byte, 64)}, {0x0, make([]byte, 0x2000)}, {0x3, make([]byte, 5)},
		}
	}
	for _, attrs := range []soft.Attrs{{}, {Privileged: true}} {
		want := list()
		for _, v := range want {
			require.NoError(t, r.ep.With(attrs).ReadAt(v.Buf, v.IOVA))
		}
		for range 3 {
			got := list()
			require.NoError(t, r.ep.With(attrs).ReadVec(got))
			assert.Equal(t, want, got)
		}
	}
	for k := range byte(3) {
		require.NoError(t, r.ep.WriteVec([]soft.Vec{{0x10, []byte{k}}, {0x11, []byte{k + 1, k + 2}}, {0x1000, []byte{k + 3}}}))
		p := make([]byte, 3)
		require.NoError(t, mem.ReadAt(p, 0x5000_0010))
		assert.Equal(t, []byte{k, k + 1, k + 2}, p)
		require.NoError(t, mem.ReadAt(p[:1], 0x6000_0000))
		assert.Equal(t, k+3, p[0])
	}
	require.NoError(t, r.ep.ReadVec(nil))
}

// A list ends at its first fault. Done counts the bytes of all earlier elements.
func TestVecEndsAtAFault(t *testing.T) {
	r, mem, _ := slicedRig(t)
	last := []byte{1}
	var f *soft.Fault
	require.True(t, errors.As(r.ep.WriteVec([]soft.Vec{
		{0, make([]byte, 24)}, {0x1ff0, make([]byte, 32)}, {0, last},
	}), &f))
	require.ErrorIs(t, f, soft.ErrFault)
	assert.Equal(t, smmuv3.FTranslation, f.Event.Type())
	assert.EqualValues(t, 0x2000, f.IOVA)
	assert.Equal(t, 24+16, f.Done)
	assert.Zero(t, mem.Words(0x5000_0000, 1)[0], "the element after the fault")
	assert.ErrorIs(t, soft.NewEndpoint().ReadVec([]soft.Vec{{0, last}}), soft.ErrNotAttached)
	assert.NoError(t, soft.NewEndpoint().ReadVec([]soft.Vec{{0, nil}}))
}

// No section is left open: an invalidation after a list of any outcome returns.
func TestVecLeavesItsSection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, _ := slicedRig(t)
		for _, list := range [][]soft.Vec{
			nil, {{0, nil}}, {{0, make([]byte, 8)}}, {{0, make([]byte, 8)}, {8, make([]byte, 8)}},
			{{0x2000, make([]byte, 8)}}, {{0, make([]byte, 0x2000)}, {8, nil}}, {{0xff8, make([]byte, 16)}, {0, make([]byte, 1)}},
		} {
			for range 2 {
				_ = r.ep.ReadVec(list)
				r.invalidate(smmuv3.Command{0x10})
				r.bind(bridge.GuestStage{})
				r.bind(oneCD)
			}
		}
		require.NoError(t, r.ep.ReadAt(nil, 0))
		r.invalidate(smmuv3.Command{0x10})
	})
}
