package vsmmu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// TestRestoreRefusesAnImpossibleState shows that a state that does not fit the device leaves it
// unchanged, and that the error names the field.
func TestRestoreRefusesAnImpossibleState(t *testing.T) {
	r := newStallRig(t)
	good := r.save()
	sealed := func(change func(p []byte)) []byte {
		p := slices.Clone(good)
		change(p)
		return binary.LittleEndian.AppendUint32(p[:len(p)-4], crc32.ChecksumIEEE(p[:len(p)-4]))
	}
	put32 := func(off int, v uint32) func([]byte) {
		return func(p []byte) { binary.LittleEndian.PutUint32(p[off:], v) }
	}
	const streams = 356
	for name, tc := range map[string]struct {
		state []byte
		says  string
	}{
		"nothing":                  {nil, "0 bytes"},
		"no header":                {slices.Repeat([]byte{0xff}, 1000), "without the header"},
		"a later version":          {sealed(put32(8, 3)), "version 3, want 2 (restore with the release that saved it)"},
		"truncated":                {good[:len(good)-1], "(want "},
		"a wrong checksum":         {append(slices.Clone(good[:len(good)-1]), ^good[len(good)-1]), "checksum"},
		"more streams than bytes":  {sealed(put32(352, 1<<31)), "do not fill"},
		"more stalls than bytes":   {sealed(put32(348, 0xffff_ffff)), "stalled"},
		"an ID that was not shown": {sealed(func(p []byte) { p[36] = 0x75 }), "OAS"},
		"reserved bits of an ID":   {sealed(put32(24, 1<<31)), "reserved"},
		"an ID register":           {sealed(put32(48, 0)), "0x0 cannot be"},
		"reserved bits of CR0":     {sealed(put32(48+0x20, 0xf)), "0x20 cannot be 0xf"},
		"an acknowledgement":       {sealed(put32(48+0x54, 1)), "IRQ_CTRL"},
		"GBPA in effect":           {sealed(put32(304, 1<<31)), "undefined bits"},
		"flags":                    {sealed(put32(308, 1<<4)), "undefined bits"},
		"another stream":           {sealed(put32(streams, 2)), "stream " + smmuv3.StreamID(2).String() + " is not attached (attach the streams of SavedStreams first)"},
		"a stream twice":           {sealed(put32(streams+64, 3)), "out of order"},
		"a disposition":            {sealed(func(p []byte) { p[streams+4] = 3 }), "impossible stage"},
		"a cause":                  {sealed(func(p []byte) { p[streams+5] = 4 }), "impossible stage"},
		"an illegal STE":           {sealed(func(p []byte) { p[streams+16] = 0xa }), "impossible stage"},
		"flags of a stream":        {sealed(func(p []byte) { p[streams+7] = 1 }), "impossible stage"},
	} {
		t.Run(name, func(t *testing.T) {
			n := r.fresh(3, 4)
			before := n.save()
			err := n.Restore(tc.state)
			assert.ErrorIs(t, err, ErrState)
			assert.ErrorContains(t, err, tc.says)
			assert.Equal(t, before, n.save())
			assert.Empty(t, n.host.Forget(), "no host is called")
		})
	}
	t.Run("a stream that is not saved", func(t *testing.T) {
		n := r.fresh(3, 4, 5)
		assert.ErrorContains(t, n.Restore(good), "stream "+smmuv3.StreamID(5).String()+" is attached but not saved")
	})
	t.Run("stalls on an SMMU without stalls", func(t *testing.T) {
		p := slices.Insert(slices.Clone(good), streams, 3, 0, 0, 0, 7, 0)
		put32(12, uint32(len(p)))(p)
		put32(348, 1)(p)
		binary.LittleEndian.PutUint32(p[len(p)-4:], crc32.ChecksumIEEE(p[:len(p)-4]))
		assert.ErrorContains(t, r.fresh(3, 4).Restore(p), "1 stalled transactions (at most 0)")
	})
	t.Run("any changed byte, any other length", func(t *testing.T) {
		n := r.fresh(3, 4)
		before := n.save()
		for i := range good {
			assert.ErrorIs(t, n.Restore(good[:i]), ErrState)
			bad := slices.Clone(good)
			bad[i] ^= 0x40
			assert.ErrorIs(t, n.Restore(bad), ErrState)
		}
		assert.Equal(t, before, n.save())
	})
	t.Run("closed", func(t *testing.T) {
		n := r.fresh(3, 4)
		require.NoError(t, n.Close())
		assert.ErrorIs(t, n.Restore(good), ErrClosed)
		_, err := n.Save()
		assert.ErrorIs(t, err, ErrClosed)
	})
}

// FuzzRestore shows that Restore of any bytes fails with ErrState, or leads to a device that works
// and saves the same state.
func FuzzRestore(f *testing.F) {
	for name, p := range restoreSeeds(f) {
		f.Add(name, p)
	}
	f.Fuzz(func(t *testing.T, _ string, p []byte) {
		r := newRig(t, withStalls)
		require.NoError(t, r.Attach(3, r.host, "GPU"))
		require.NoError(t, r.Attach(4, r.host, "NPU"))
		if len(p) > 16 { // anyone can compute the checksum and the lengths
			p = slices.Clone(p)
			copy(p, stateMagic)
			binary.LittleEndian.PutUint32(p[8:], stateVersion)
			binary.LittleEndian.PutUint32(p[12:], uint32(len(p)))
			binary.LittleEndian.PutUint32(p[len(p)-4:], crc32.ChecksumIEEE(p[:len(p)-4]))
		}
		err := r.Restore(p)
		if errors.Is(err, ErrState) {
			return
		}
		require.NoError(t, err)
		r.idle()
		state := r.save()
		n := r.fresh(3, 4)
		require.NoError(t, n.Restore(state))
		n.idle()
		assert.Equal(t, state, n.save())
		require.NoError(t, n.Reset())
	})
}

// restoreSeeds returns states, each at a boundary.
func restoreSeeds(tb testing.TB) map[string][]byte {
	seeds := map[string][]byte{"nothing": nil}
	r := newStallRig(tb, withStalls)
	seeds["a guest at work"] = r.save()
	r.host.Emit(stalled(3, 7))
	r.host.Emit(fault(1))
	seeds["a transaction is stalled"] = r.save()
	r.run(smmuv3.Command{0xff})
	seeds["a command error"] = r.save()
	r.w32(cr0, 0)
	r.idle()
	seeds["disabled"] = r.save()
	for i, p := range [][]byte{seeds["a guest at work"]} {
		bad := slices.Clone(p)
		bad[356+4] = 7
		seeds[fmt.Sprintf("no such disposition %d", i)] = bad
	}
	return seeds
}
