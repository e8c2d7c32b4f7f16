package soft_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

func TestWords(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.map4K(cd4K, 0x5000_0000|pageRW, 0x5000_1cc3)
	r.bind(oneCD)
	for _, c := range []struct {
		size int
		iova uint64
		want uint64
	}{
		{2, 0x12, 0x6655}, {4, 0x14, 0x4433_2211}, {8, 0x10, 0x4433_2211_6655_8877},
	} {
		r.mem.SetWords(0x5000_0010, 0x4433_2211_6655_8877)
		got, err := r.ep.Load(c.iova, c.size)
		require.NoError(t, err)
		assert.Equal(t, c.want, got, "%d bytes, little-endian", c.size)

		require.NoError(t, r.ep.Store(c.iova, c.size, ^uint64(0)))
		mask := (uint64(1)<<(8*c.size) - 1) << (8 * (c.iova - 0x10))
		assert.Equal(t, 0x4433_2211_6655_8877|mask, r.mem.Words(0x5000_0010, 1)[0], "%d bytes and no more", c.size)
	}

	for _, c := range []struct {
		iova uint64
		size int
		err  error
	}{
		{0x11, 2, guestmem.ErrMisaligned}, {0x12, 4, guestmem.ErrMisaligned}, {0x14, 8, guestmem.ErrMisaligned},
		{0x10, 1, guestmem.ErrMisaligned}, {0x10, 0, guestmem.ErrMisaligned}, {0x10, 16, guestmem.ErrMisaligned},
		{0x1010, 4, soft.ErrFault}, {0x2010, 4, soft.ErrFault},
	} {
		var f *soft.Fault
		require.ErrorAs(t, r.ep.Store(c.iova, c.size, 0), &f, "%d bytes at %#x", c.size, c.iova)
		assert.ErrorIs(t, f, c.err, "%d bytes at %#x", c.size, c.iova)
		assert.Equal(t, c.iova, f.IOVA)
		known := c.size == 2 || c.size == 4 || c.size == 8
		assert.Equal(t, !known, strings.HasSuffix(f.Error(), " bytes (a word has 2, 4 or 8 bytes)"), f.Error())
	}
	v, err := r.ep.With(soft.Attrs{Privileged: true}).Load(0x1010, 4)
	require.NoError(t, err)
	assert.Zero(t, v)
}

// One device writes an entry and then its index. Another device reads the index and then the entry.
func TestWordsAreOrdered(t *testing.T) {
	const entry, index, rounds = 0x100, 0x802, 5000
	r, _ := newMappedRig(t, soft.Config{})
	r.map4K(cd4K, 0x5000_0000|pageRW)
	r.bind(oneCD)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range uint64(rounds) {
			assert.NoError(t, r.ep.Store(entry, 8, i+1))
			assert.NoError(t, r.ep.Store(index, 2, i+1))
		}
	})
	wg.Go(func() {
		for {
			i, err := r.ep.Load(index, 2)
			assert.NoError(t, err)
			got, err := r.ep.Load(entry, 8)
			if !assert.NoError(t, err) || !assert.GreaterOrEqual(t, got, i) || i == rounds {
				return
			}
		}
	})
	wg.Wait()
}

// msi is a message as the interrupt controller received it.
type msi struct {
	sid  smmuv3.StreamID
	addr guestmem.GPA
	data uint32
}

// To the SMMU an MSI is a write like any other.
func TestMSIs(t *testing.T) {
	deaf := errors.New("no such vector")
	for _, kind := range []string{"copied", "sliced"} {
		t.Run(kind, func(t *testing.T) {
			var sent []msi
			var answer error
			cfg := soft.Config{MSI: func(sid smmuv3.StreamID, addr guestmem.GPA, data uint32) error {
				sent = append(sent, msi{sid, addr, data})
				return answer
			}}
			var r *rig
			if kind == "copied" {
				r = newRig(t, cfg)
				r.mem.FailReads(guestmem.Range{GPA: 0x802_0000, Len: 0x1000}, nil)
				r.mem.FailWrites(guestmem.Range{GPA: 0x802_0000, Len: 0x1000}, nil)
				r.mem.FailWrites(guestmem.Range{GPA: 0x900_0000, Len: 0x1000}, guestmem.ErrReadOnly)
			} else {
				var m *ram
				r, m = newMappedRig(t, cfg)
				require.NoError(t, m.Add(guestmem.Slot{GPA: 0x900_0000, Mem: make([]byte, 0x1000), ReadOnly: true}))
			}
			r.map4K(cd4K, 0x802_0000|pageRW, 0x5000_0000|pageRW, 0, 0x900_0000|pageRW)
			r.bind(oneCD)

			require.NoError(t, r.ep.WriteAt([]byte{0x78, 0x56, 0x34, 0x12}, 0x40))
			require.NoError(t, r.ep.Store(0x40, 4, 7))
			assert.Equal(t, []msi{{sid, 0x802_0040, 0x1234_5678}, {sid, 0x802_0040, 7}}, sent)
			sent = nil

			for name, dma := range map[string]func() error{
				"eight bytes":          func() error { return r.ep.WriteAt(make([]byte, 8), 0x40) },
				"two bytes":            func() error { return r.ep.WriteAt(make([]byte, 2), 0x40) },
				"four that straddle":   func() error { return r.ep.WriteAt(make([]byte, 4), 0x42) },
				"a read":               func() error { return r.ep.ReadAt(make([]byte, 4), 0x40) },
				"a mapping for writes": func() error { _, err := r.ep.Map(0x40, 4, true, nil); return err },
			} {
				err := dma()
				if kind == "copied" && name == "a mapping for writes" {
					assert.ErrorIs(t, err, errors.ErrUnsupported)
					continue
				}
				assert.ErrorIs(t, err, guestmem.ErrUnmapped, name)
			}
			require.NoError(t, r.ep.Store(0x1040, 4, 7), "a write to memory is not an MSI")
			require.ErrorIs(t, r.ep.Store(0x3040, 4, 7), guestmem.ErrReadOnly, "a write to a ROM is not an MSI")
			require.ErrorIs(t, r.ep.Store(0x2040, 4, 7), soft.ErrFault, "a write without permission is not an MSI")
			assert.Empty(t, sent)

			answer = deaf
			var f *soft.Fault
			require.ErrorAs(t, r.ep.Store(0x40, 4, 9), &f)
			assert.ErrorIs(t, f, deaf)
			assert.Equal(t, sid, f.StreamID)
			assert.Zero(t, f.Event)

			r.bind(bridge.GuestStage{Disposition: bridge.Bypass})
			answer, sent = nil, nil
			require.NoError(t, r.ep.Store(0x802_0040, 4, 1))
			assert.Equal(t, []msi{{sid, 0x802_0040, 1}}, sent)
		})
	}
	r, _ := newMappedRig(t, soft.Config{})
	r.map4K(cd4K, 0x802_0000|pageRW)
	r.bind(oneCD)
	assert.ErrorIs(t, r.ep.Store(0x40, 4, 1), guestmem.ErrUnmapped, "without Config.MSI")
}
