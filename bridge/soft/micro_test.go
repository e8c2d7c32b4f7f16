package soft_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// slicedRig returns a rig on memory with slices. IOVA 0 to 0x1fff is mapped to 0x5000_0000 and
// 0x6000_0000.
func slicedRig(t *testing.T) (r *rig, mem *ram, leaf guestmem.GPA) {
	mem = newRAM(t)
	r = newRig(t, soft.Config{Memory: mem})
	r.guest = mem
	leaf = r.map4K(cd4K, 0x5000_0000|pageRW, 0x6000_0000|pageRW)
	r.bind(oneCD)
	return r, mem, leaf
}

// The next access uses the memory that an access reached, until any kind of invalidation. Here one
// page replaces another.
func TestInvalidationsReachTheMicroTLB(t *testing.T) {
	const before, after = 0x01d, 0x2e3
	other := bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: cdAt + 0x40}
	for name, invalidate := range map[string]func(r *rig, mem *ram){
		"TLBI_NH_ALL":  func(r *rig, _ *ram) { r.invalidate(smmuv3.Command{0x10}) },
		"TLBI_NH_ASID": func(r *rig, _ *ram) { r.invalidate(smmuv3.Command{0x11 | 1<<48}) },
		"TLBI_NH_VA":   func(r *rig, _ *ram) { r.invalidate(smmuv3.Command{0x12 | 1<<48}) },
		"TLBI_NH_VAA":  func(r *rig, _ *ram) { r.invalidate(smmuv3.Command{0x13}) },
		"CFGI_CD": func(r *rig, mem *ram) {
			mem.SetWords(cdAt, cd4K&^(0xffff<<48)|2<<48) // another ASID
			r.invalidate(smmuv3.Command{0x42_00000005})
		},
		"Bind": func(r *rig, mem *ram) {
			mem.SetWords(cdAt+0x40, cd4K&^(0xffff<<48)|2<<48, 0x10000)
			r.bind(other)
		},
		"Slots.Remove": func(r *rig, mem *ram) {
			require.NoError(r.t, mem.Remove(0x5000_0000))
			require.NoError(r.t, mem.Add(guestmem.Slot{GPA: 0x5000_0000, Mem: make([]byte, 4096)}))
			mem.SetWords(0x5000_0010, after)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, mem, leaf := slicedRig(t)
			mem.SetWords(0x5000_0010, before)
			mem.SetWords(0x6000_0010, after)
			for range 2 {
				got, err := word(r.ep, 0x10)
				require.NoError(t, err)
				assert.EqualValues(t, before, got)
			}
			if name != "Slots.Remove" {
				mem.SetWords(leaf, 0x6000_0000|pageRW)
			}
			invalidate(r, mem)
			for range 2 {
				got, err := word(r.ep, 0x10)
				require.NoError(t, err)
				assert.EqualValues(t, after, got)
			}
		})
	}
}

// An entry of the micro-TLB does not serve an access with other attributes, an access of another
// stream, or an access beyond the memory's end.
func TestMicroTLBServesAccessesWithEqualAttributes(t *testing.T) {
	t.Run("a write after a read", func(t *testing.T) {
		r, mem, leaf := slicedRig(t)
		mem.SetWords(leaf, 0x5000_0000|pageRW|1<<7) // AP[2]: read-only
		_, err := word(r.ep, 0x10)
		require.NoError(t, err)
		assert.ErrorIs(t, r.ep.WriteAt(make([]byte, 8), 0x10), soft.ErrFault)
	})
	t.Run("unprivileged after privileged", func(t *testing.T) {
		r, mem, leaf := slicedRig(t)
		mem.SetWords(leaf, 0x5000_0000|pageRW&^(1<<6))
		_, err := word(r.ep.With(soft.Attrs{Privileged: true}), 0x10)
		require.NoError(t, err)
		_, err = word(r.ep, 0x10)
		assert.ErrorIs(t, err, soft.ErrFault)
	})
	t.Run("a substream after none", func(t *testing.T) {
		r, _, _ := slicedRig(t)
		_, err := word(r.ep, 0x10)
		require.NoError(t, err)
		_, err = word(r.ep.With(soft.Attrs{HasSubstream: true}), 0x10)
		assert.ErrorIs(t, err, soft.ErrFault, "S1CDMax is 0")
	})
	t.Run("another stream", func(t *testing.T) {
		r, mem, _ := slicedRig(t)
		_, err := word(r.ep, 0x10)
		require.NoError(t, err)
		ep := soft.NewEndpoint()
		s, err := r.host.Attach(sid+1, ep)
		require.NoError(t, err)
		require.NoError(t, s.Bind(bridge.GuestStage{Disposition: bridge.Bypass}))
		_, err = word(r.ep, 0x10)
		require.NoError(t, err)
		mem.SetWords(0x10, 0xb1)
		got, err := word(ep, 0x10)
		require.NoError(t, err)
		assert.EqualValues(t, 0xb1, got)
	})
	t.Run("the next page", func(t *testing.T) {
		r, mem, _ := slicedRig(t)
		mem.SetWords(0x5000_0ff8, 0xa1)
		mem.SetWords(0x6000_0000, 0xa2)
		p := make([]byte, 16)
		for range 3 {
			require.NoError(t, r.ep.ReadAt(p, 0xff8))
			assert.EqualValues(t, 0xa1, p[0])
			assert.EqualValues(t, 0xa2, p[8])
		}
	})
	t.Run("beyond the end of memory, in the same page", func(t *testing.T) {
		r, mem, leaf := slicedRig(t)
		require.NoError(t, mem.Add(guestmem.Slot{GPA: 0x7000_0000, Mem: make([]byte, 16)}))
		mem.SetWords(leaf, 0x7000_0000|pageRW)
		_, err := word(r.ep, 8)
		require.NoError(t, err)
		_, err = word(r.ep, 16)
		assert.ErrorIs(t, err, guestmem.ErrUnmapped)
	})
	t.Run("before and after, in the same page", func(t *testing.T) {
		r, mem, _ := slicedRig(t)
		for i := range uint64(4) {
			mem.SetWords(gpa(0x5000_0000+i*8), 0xa0+i)
		}
		for _, i := range []uint64{2, 3, 0, 1, 3} {
			got, err := word(r.ep, i*8)
			require.NoError(t, err)
			assert.Equal(t, 0xa0+i, got)
		}
	})
}

// If more DMA is in flight than there are places, the DMA without a place uses no micro-TLB, and
// has the same outcome.
func TestDMABeyondThePlacesTranslates(t *testing.T) {
	const rounds = 1000
	pages := [...]uint64{0, 1024} // pages with the same entry
	r, mem, _ := slicedRig(t)
	mem.SetWords(0x30000+8*1024/512, 0x50003)
	mem.SetWords(0x50000, 0x5000_1000|pageRW)
	for i, page := range pages {
		mem.SetWords(guestmem.GPA(0x5000_0000+i<<12), page)
	}
	for range guestmem.Places {
		m, err := r.ep.Map(0, 8, false, nil)
		require.NoError(t, err)
		defer m.Release()
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range uint64(rounds) {
				page := pages[i%2]
				got, err := word(r.ep, page<<12)
				if !assert.NoError(t, err) || !assert.Equal(t, page, got) {
					return
				}
			}
		})
	}
	wg.Wait()
}

// A slot is added and removed while endpoints read it. No endpoint reads removed memory, which the
// test overwrites.
func TestNoAccessToARemovedSlot(t *testing.T) {
	const moves, good, gone = 2000, 0x600d, 0xdead
	r, mem, _ := slicedRig(t)
	require.NoError(t, mem.Remove(0x5000_0000))
	var seen atomic.Uint64
	defer repeat(3, func() bool {
		got, err := word(r.ep, 0x10)
		if err != nil {
			return assert.ErrorIs(t, err, guestmem.ErrUnmapped)
		}
		seen.Add(1)
		return assert.EqualValues(t, good, got)
	})()
	for i := 0; i < moves || seen.Load() == 0; i++ {
		m := new(ram)
		slot := guestmem.Slot{GPA: 0x5000_0000, Mem: make([]byte, 4096)}
		require.NoError(t, m.Add(slot))
		m.SetWords(0x5000_0010, good)
		require.NoError(t, mem.Add(slot))
		require.NoError(t, mem.Remove(0x5000_0000))
		m.SetWords(0x5000_0010, gone)
	}
}
