//go:build linux && (amd64 || arm64)

package iommufd

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// bigSMMU gives the SMMU of dev0 and dev1 every feature on which commands depend: ATS, ASID16,
// CD2L, SSIDSIZE 20, RIL and DS.
func bigSMMU(k *fakeKernel) {
	r := k.smmus[dev0]
	r.IDR[0] |= 1<<10 | 1<<12 | 1<<19
	r.IDR[1] |= 20 << 6
	r.IDR[3] |= 1 << 10
	r.IDR[5] |= 1 << 7
}

// shownHost returns a host on bigSMMU. The guest's ID registers are the Capabilities, changed by
// edit. Stream 0x100 is bound to atsStage, without EATS if the guest has no ATS.
func shownHost(t *testing.T, k *fakeKernel, edit func(ids *smmuv3.IDRegs)) *Host {
	t.Helper()
	bigSMMU(k)
	h := openFake(t, k, Config{ATS: true})
	d, err := h.Add(dev0)
	require.NoError(t, err)
	caps, err := h.Capabilities()
	require.NoError(t, err)
	require.NoError(t, h.Events(func(smmuv3.Event) {}))
	ids := caps.IDs
	edit(&ids)
	require.NoError(t, h.SetGuestIDs(ids))
	s, err := h.Attach(0x100, d)
	require.NoError(t, err)
	stage := translate(0x1000)
	if ids.Has(smmuv3.ATS) {
		stage = atsStage()
	}
	require.NoError(t, s.Bind(stage))
	k.commands = nil
	return h
}

// A field has the meaning that the guest's ID registers give it. The physical SMMU has all features
// and would interpret it differently. Fields are those of §4.3.3, §4.4.1.1, §4.4.2 and §4.5.1: ASID
// 63:48, SCALE 25:20, NUM 16:12; Address 127:76, TG 75:74, TTL 73:72, Leaf 64.
func TestInvalidate_reads_fields_by_the_guests_IDs(t *testing.T) {
	type c = smmuv3.Command
	const (
		leaf       = 1
		ttl1, ttl2 = 1 << 8, 2 << 8
		tg4, tg16  = 1 << 10, 2 << 10
		tg64       = 3 << 10
		num3       = 3 << 12
		scale1     = 1 << 20
		scale32    = 32 << 20
		sid        = 0x100 << 32
	)
	without := func(fields ...smmuv3.IDField) func(ids *smmuv3.IDRegs) {
		return func(ids *smmuv3.IDRegs) {
			for _, f := range fields {
				ids.IDR = lacking(ids, f)
			}
		}
	}
	same := without()
	for _, tt := range []struct {
		name     string
		edit     func(ids *smmuv3.IDRegs)
		in, want c
	}{
		{"16 KiB, TTL 1, DS", same, c{0x12 | num3, 0x4000 | tg16 | ttl1 | leaf}, c{0x12 | num3, 0x4000 | tg16 | ttl1 | leaf}},
		{"16 KiB, TTL 1, no DS: any level", without(smmuv3.DS), c{0x12 | num3, 0x4000 | tg16 | ttl1 | leaf}, c{0x12 | num3, 0x4000 | tg16 | leaf}},
		{"16 KiB, TTL 1, no DS, VAA: any level", without(smmuv3.DS), c{0x13 | scale1, 0x4000 | tg16 | ttl1 | leaf}, c{0x13 | scale1, 0x4000 | tg16 | leaf}},
		{"16 KiB, TTL 1, no DS, no range: any granule", without(smmuv3.DS), c{0x12, 0x4000 | tg16 | ttl1 | leaf}, c{0x12, 0x4000 | leaf}},
		{"16 KiB, TTL 2, no DS", without(smmuv3.DS), c{0x12, 0x4000 | tg16 | ttl2 | leaf}, c{0x12, 0x4000 | tg16 | ttl2 | leaf}},
		{"4 KiB, TTL 1, no DS", without(smmuv3.DS), c{0x12, tg4 | ttl1 | leaf}, c{0x12, tg4 | ttl1 | leaf}},
		{"64 KiB, TTL 1, no DS", without(smmuv3.DS), c{0x12, tg64 | ttl1 | leaf}, c{0x12, tg64 | ttl1 | leaf}},
		{"SCALE 32, DS", same, c{0x12 | scale32, tg4 | leaf}, c{0x12 | scale32, tg4 | leaf}},
		{"SCALE 33, no DS: bit 25 is RES0", without(smmuv3.DS), c{0x12 | scale32 | scale1, tg4 | leaf}, c{0x12 | scale1, tg4 | leaf}},
		{"range, no RIL: one page of any granule", without(smmuv3.RIL), c{0x12 | num3 | scale1, 0x5000 | tg4 | ttl2 | leaf}, c{0x12, 0x5000 | leaf}},
		{"range, no RIL, VAA: one page of any granule", without(smmuv3.RIL), c{0x13 | num3, 0x5000 | tg64}, c{0x13, 0x5000}},
		{"Leaf 0 and TTL: any level", same, c{0x12 | num3, 0x4000 | tg16 | ttl2}, c{0x12 | num3, 0x4000 | tg16}},
		{"Leaf 0 and TTL, no range: any granule", same, c{0x13, 0x5000 | tg4 | ttl2}, c{0x13, 0x5000}},
		{"ASID of 16 bits", same, c{0x11 | 0x1234<<48}, c{0x11 | 0x1234<<48}},
		{"ASID, no ASID16: bits 63:56 are RES0", without(smmuv3.ASID16), c{0x11 | 0x1234<<48}, c{0x11 | 0x34<<48}},
		{"ASID and address, no ASID16: bits 63:56 are RES0", without(smmuv3.ASID16), c{0x12 | 0x1234<<48, 0x5000}, c{0x12 | 0x34<<48, 0x5000}},
		{"SubstreamID of a CD", same, c{0x05 | 7<<12 | sid, leaf}, c{0x05 | 7<<12 | sid, leaf}},
		{"SubstreamID of a CD, no substreams: the one CD", without(smmuv3.SSIDSIZE), c{0x05 | 7<<12 | sid, leaf}, c{0x05 | sid, leaf}},
		{"SubstreamID of ATC_INV", same, c{0x40 | 1<<9 | 1<<11 | 7<<12 | sid, 52}, c{0x40 | 1<<9 | 1<<11 | 7<<12 | sid, 52}},
		{"SubstreamID of ATC_INV, no substreams: SSV 0", without(smmuv3.SSIDSIZE), c{0x40 | 1<<9 | 1<<11 | 7<<12 | sid, 52}, c{0x40 | sid, 52}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newFake(t)
			h := shownHost(t, k, tt.edit)
			require.NoError(t, h.Invalidate([]smmuv3.Command{tt.in}))
			assert.Equal(t, [][]smmuv3.Command{{tt.want}}, k.commands, "%#x", [2]uint64(tt.in))
		})
	}
}

// lacking returns the IDRs with a field of the test above cleared.
func lacking(ids *smmuv3.IDRegs, f smmuv3.IDField) [6]uint32 {
	r := ids.IDR
	switch f {
	case smmuv3.ATS:
		r[0] &^= 1 << 10
	case smmuv3.ASID16:
		r[0] &^= 1 << 12
	case smmuv3.CD2L:
		r[0] &^= 1 << 19
	case smmuv3.SSIDSIZE:
		r[1] &^= 0x1f << 6
	case smmuv3.RIL:
		r[3] &^= 1 << 10
	case smmuv3.DS:
		r[5] &^= 1 << 7
	}
	return r
}

// No reserved bit and no reserved combination reaches the kernel, for any command and any ID
// registers of the guest. The kernel would answer with EIO.
func TestInvalidate_sends_no_reserved_field(t *testing.T) {
	fields := []smmuv3.IDField{smmuv3.ASID16, smmuv3.SSIDSIZE, smmuv3.RIL, smmuv3.DS}
	for lacks := range 1 << len(fields) {
		k := newFake(t)
		h := shownHost(t, k, func(ids *smmuv3.IDRegs) {
			for i, f := range fields {
				if lacks>>i&1 != 0 {
					ids.IDR = lacking(ids, f)
				}
			}
		})
		for _, op := range []uint64{0x30, 0x10, 0x11, 0x12, 0x13, 0x05, 0x06, 0x40} {
			for _, high := range []uint64{0, ^uint64(0xff), 0x5555_5555_5555_5500, 0xaaaa_aaaa_aaaa_aa00, 0x1f << 12, 0x20 << 20} {
				for i := range uint64(64) { // Leaf, TG and TTL, and the reserved bits below them
					low := i>>2<<8 | [...]uint64{0, 1, 0x34, 0xf4}[i&3]
					c := smmuv3.Command{op | high, 0x7fff_0000_0000_0000 | low}
					if op == 0x05 || op == 0x06 || op == 0x40 {
						c[0] = c[0]&0xffff_ffff | 0x100<<32
					}
					k.commands = k.commands[:0]
					if err := h.Invalidate([]smmuv3.Command{c}); err != nil {
						require.NoError(t, err, "%#x, of a guest that lacks %b", [2]uint64(c), lacks)
					}
					require.Len(t, k.commands, 1)
				}
			}
		}
	}
}

// §5.2.2: the guest's ID registers decide whether a stage is legal.
func TestBind_checks_stages_by_the_guests_IDs(t *testing.T) {
	for _, tt := range []struct {
		lacks smmuv3.IDField
		stage func(g *bridge.GuestStage)
		says  string
	}{
		{smmuv3.SSIDSIZE, func(g *bridge.GuestStage) { g.S1CDMax = 1 }, "S1CDMax"},
		{smmuv3.CD2L, func(g *bridge.GuestStage) { g.S1CDMax, g.S1Fmt = 8, smmuv3.S1Fmt64K }, "S1Fmt"},
		{smmuv3.ATS, func(g *bridge.GuestStage) { g.EATS = smmuv3.EATSFull }, "EATS"},
	} {
		t.Run(fmt.Sprint(tt.lacks), func(t *testing.T) {
			g := translate(0x2000)
			tt.stage(&g)
			for _, shown := range []bool{true, false} {
				h := shownHost(t, newFake(t), func(ids *smmuv3.IDRegs) {
					if !shown {
						ids.IDR = lacking(ids, tt.lacks)
					}
				})
				err := h.streams[0x100].Bind(g)
				if shown {
					assert.NoError(t, err)
					continue
				}
				assert.ErrorIs(t, err, bridge.ErrRejected)
				assert.ErrorContains(t, err, tt.says)
			}
		})
	}
}

// The hardware executes the commands: it cannot invalidate a range without RIL, for example.
func TestSetGuestIDs_refuses_what_the_hardware_lacks(t *testing.T) {
	for _, f := range []smmuv3.IDField{smmuv3.ATS, smmuv3.ASID16, smmuv3.CD2L, smmuv3.SSIDSIZE, smmuv3.RIL, smmuv3.DS} {
		t.Run(fmt.Sprint(f), func(t *testing.T) {
			k := newFake(t)
			bigSMMU(k)
			all := smmuv3.IDRegs{IDR: k.smmus[dev0].IDR}
			k.smmus[dev0].IDR = lacking(&all, f)
			h := openFake(t, k, Config{ATS: true})
			_, err := h.Add(dev0)
			require.NoError(t, err)
			err = h.SetGuestIDs(all)
			assert.ErrorIs(t, err, ErrUnsupported)
			assert.ErrorContains(t, err, f.String())
			assert.NotContains(t, err.Error(), "iommufd:")
			all.IDR = lacking(&all, f)
			assert.NoError(t, h.SetGuestIDs(all))
		})
	}
}

func TestSetGuestIDs_before_the_first_device(t *testing.T) {
	k := newFake(t)
	h := openFake(t, k, Config{})
	shown := smmuv3.IDRegs{IDR: k.smmus[dev0].IDR}
	shown.IDR[5] |= 1 << 7 // DS, which the hardware lacks
	require.NoError(t, h.SetGuestIDs(shown))
	_, err := h.Add(dev0)
	assert.ErrorIs(t, err, ErrUnsupported)
	assert.ErrorContains(t, err, "DS")

	shown.IDR = lacking(&shown, smmuv3.DS)
	shown.IDR = lacking(&shown, smmuv3.RIL)
	require.NoError(t, h.SetGuestIDs(shown))
	d, err := h.Add(dev0)
	require.NoError(t, err)
	s, err := h.Attach(0x100, d)
	require.NoError(t, err)
	require.NoError(t, s.Bind(translate(0x1000)))
	require.NoError(t, h.Invalidate([]smmuv3.Command{{0x12 | 3<<12, 0x5000 | 1<<10 | 1}}))
	assert.Equal(t, [][]smmuv3.Command{{{0x12, 0x5000 | 1}}}, k.commands)
}

// The next device that claims the host may show its guest other ID registers.
func TestSetGuestIDs_ends_with_the_claim(t *testing.T) {
	k := newFake(t)
	h := shownHost(t, k, func(ids *smmuv3.IDRegs) { ids.IDR = lacking(ids, smmuv3.RIL) })
	ranged := []smmuv3.Command{{0x12 | 3<<12, 0x5000 | 1<<10 | 1}}
	require.NoError(t, h.Invalidate(ranged))
	require.NoError(t, h.Events(nil))
	require.NoError(t, h.Invalidate(ranged))
	assert.Equal(t, [][]smmuv3.Command{{{0x12, 0x5000 | 1}}, ranged}, k.commands)

	require.NoError(t, h.Close())
	assert.ErrorIs(t, h.SetGuestIDs(smmuv3.IDRegs{}), bridge.ErrClosed)
}
