package vsmmu_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// newHypervisor returns a guest with a stage 2, if the policy offers it. Its stage 2 has 39 bits
// from level 1: the table at 7 MiB has a block of 1 GiB for IPAs from 1 GiB on, which is physical
// memory from 0 on, and below 1 GiB nothing yet.
func newHypervisor(t testing.TB, policy idr.Policy) *softRig {
	r := &softRig{TB: t, ram: new(guestmem.Slots), ep: soft.NewEndpoint()}
	require.NoError(t, r.ram.Add(guestmem.Slot{GPA: 0, Mem: make([]byte, 16<<20)}))
	r.words(s2Table+8, 0x7fd)
	r.words(page, 0x1111)
	r.boot(soft.Stage2IDs(), policy)
	return r
}

const (
	s2Table = 0x70_0000

	// The STE's dw2: S2VMID 0x1234, S2T0SZ 25, S2SL0 1, S2PS 48 bits, S2AA64, S2R.
	s2DW2 = 0x040d_0059_0000_1234

	steS2     = 0xd         // V, Config 110
	steNested = 0xf | cdIPA // V, Config 111
	cdIPA     = 1<<30 | 0x40_0000
	vmid      = 0x1234 << 32
)

// ste writes stream 3's STE and sends a CFGI_STE.
func (r *softRig) ste(words ...uint64) {
	r.words(0x10_00c0, append(words, make([]uint64, 8-len(words))...)...)
	r.run(smmuv3.Command{0x3_0000_0003, 1}, smmuv3.Command{0x46})
}

// readAt reads eight bytes.
func (r *softRig) readAt(iova uint64) (uint64, error) {
	var p [8]byte
	err := r.ep.ReadAt(p[:], iova)
	return binary.LittleEndian.Uint64(p[:]), err
}

var asked = idr.Policy{smmuv3.S2P: 1}

// TestNoStage2WithoutThePolicy shows that the guest has no stage 2 unless the policy offers it,
// even if the host has it.
func TestNoStage2WithoutThePolicy(t *testing.T) {
	r := newHypervisor(t, nil)
	assert.Zero(t, r.Load(smmuv3.RegIDR0, 4)&(1<<0|1<<18), "IDR0.S2P, VMID16")
	for _, config := range []uint64{steS2, steNested} {
		r.ste(config, 0, s2DW2, s2Table)
		_, err := r.readAt(1<<30 + page)
		require.ErrorIs(t, err, soft.ErrFault)
		assert.Equal(t, smmuv3.Event{0x3_0000_0004}, r.event(), "C_BAD_STE")
	}
	cons := r.Load(smmuv3.RegCMDQ_PROD, 4)
	r.words(guestmem.GPA(0x20_0000+cons%16*16), 0x28|vmid, 0)
	r.Store(smmuv3.RegCMDQ_PROD, 4, (cons+1)%32)
	r.eventually(func() bool { return r.Load(smmuv3.RegGERROR, 4)&1 != 0 })
	assert.Equal(t, cons|1<<24, r.Load(smmuv3.RegCMDQ_CONS, 4), "CERROR_ILL")
}

// TestStage2EndToEnd shows DMA, commands and records of a hypervisor's stage 2.
func TestStage2EndToEnd(t *testing.T) {
	r := newHypervisor(t, asked)
	assert.Equal(t, uint64(1<<0|1<<1|1<<18), r.Load(smmuv3.RegIDR0, 4)&(1<<0|1<<1|1<<9|1<<18), "S2P, S1P, VMID16; no Hyp")

	r.ste(steS2, 0, s2DW2, s2Table)
	v, err := r.readAt(1<<30 + page)
	require.NoError(t, err)
	assert.EqualValues(t, 0x1111, v)
	_, err = r.readAt(0x678)
	require.ErrorIs(t, err, soft.ErrFault)
	// F_TRANSLATION: RnW 35, S2 39, CLASS = IN [41:40]; InputAddr; IPA.
	assert.Equal(t, smmuv3.Event{0x3_0000_0010, 1<<35 | 1<<39 | 0b10<<40, 0x678, 0}, r.event())

	// The GiB moves up by a page; the guest invalidates by IPA.
	r.words(s2Table+8, s2Table+0x1003)
	r.words(s2Table+0x1000, s2Table+0x2003)
	r.words(s2Table+0x1000+8*(page>>21), s2Table+0x2003)
	r.words(s2Table+0x2000+8*(page>>12&511), page+0x1000|0x7ff)
	r.words(page+0x1000, 0x2222)
	v, err = r.readAt(1<<30 + page)
	require.NoError(t, err)
	assert.EqualValues(t, 0x1111, v, "it is held")
	r.run(smmuv3.Command{0x2a | vmid, 1<<30 | 1}, smmuv3.Command{0x46})
	v, err = r.readAt(1<<30 + page)
	require.NoError(t, err)
	assert.EqualValues(t, 0x2222, v, "of a block, any address")

	// An illegal STE: S2SL0 is inconsistent with S2T0SZ.
	r.ste(steS2, 0, s2DW2&^(1<<38), s2Table)
	_, err = r.readAt(1<<30 + page)
	require.ErrorIs(t, err, soft.ErrFault)
	assert.Equal(t, smmuv3.Event{0x3_0000_0004}, r.event())
}

// TestNestedEndToEnd shows that the addresses of CDs and stage-1 tables, and the output of stage 1,
// are IPAs.
func TestNestedEndToEnd(t *testing.T) {
	r := newHypervisor(t, asked)
	const table = 1<<30 | 0x50_0000
	r.words(0x40_0000, 0x0001_6205_c000_0019, table) // CD: T0SZ 25, EPD1, V, IPS, AA64, R, A, ASID 1
	r.words(0x50_0000, 1<<30|0x51_0003)              // levels 1 to 3
	r.words(0x51_0000, 1<<30|0x52_0003)
	r.words(0x52_0000, 1<<30|page|0xc43)
	r.ste(steNested, 0, s2DW2, s2Table)
	v, err := r.readAt(0)
	require.NoError(t, err)
	assert.EqualValues(t, 0x1111, v)

	// A TLBI_NH_* of another VMID does not affect this VMID.
	r.words(0x52_0000, 1<<30|(page+0x1000)|0xc43)
	r.words(page+0x1000, 0x2222)
	for _, tc := range []struct {
		cmd  smmuv3.Command
		want uint64
	}{
		{smmuv3.Command{0x10 | 0x1235<<32}, 0x1111},
		{smmuv3.Command{0x12 | 0x1235<<32 | 1<<48}, 0x1111},
		{smmuv3.Command{0x2a | vmid, 1<<30 | page}, 0x1111}, // combined: §4.4.3.1
		{smmuv3.Command{0x12 | vmid | 1<<48}, 0x2222},
	} {
		r.run(tc.cmd, smmuv3.Command{0x46})
		v, err = r.readAt(0)
		require.NoError(t, err)
		assert.Equal(t, tc.want, v, "%v", tc.cmd)
	}

	r.words(0x52_0000, 1<<30|page|0xc43)
	for _, tc := range []struct {
		cmd  smmuv3.Command
		want uint64
	}{
		{smmuv3.Command{0x28 | 0x1235<<32}, 0x2222},
		{smmuv3.Command{0x28 | vmid}, 0x1111},
	} {
		r.run(tc.cmd, smmuv3.Command{0x46})
		v, err = r.readAt(0)
		require.NoError(t, err)
		assert.Equal(t, tc.want, v, "%v", tc.cmd)
	}

	// The CD is where stage 2 no longer maps anything.
	r.words(s2Table+8, 0)
	r.run(smmuv3.Command{0x28 | vmid}, smmuv3.Command{0x3_0000_0006}, smmuv3.Command{0x46})
	_, err = r.readAt(0x5678)
	require.ErrorIs(t, err, soft.ErrFault)
	assert.Equal(t, smmuv3.Event{0x3_0000_0010, 1<<35 | 1<<39, 0x5678, cdIPA}, r.event(), "CLASS = CD")
	r.words(s2Table+8, 0x7fd)

	// Stage by stage, in one CFGI_STE each, and back.
	for _, tc := range []struct {
		name  string
		ste   []uint64
		iova  uint64
		event smmuv3.EventType // 0: the read succeeds
	}{
		{"stage 1 alone: the CD and its tables are physical", []uint64{0xb | 0x40_0000, 0, 0x1234}, 0, smmuv3.FTranslation},
		{"stage 2", []uint64{steS2, 0, s2DW2, s2Table}, 1<<30 + page, 0},
		{"bypass", []uint64{0x9}, page, 0},
		{"nested", []uint64{steNested, 0, s2DW2, s2Table}, 0x1000, smmuv3.FTranslation},
		{"abort", []uint64{0x1}, page, smmuv3.EventType(0xff)}, // without an event
		{"nested again", []uint64{steNested, 0, s2DW2, s2Table}, 0, 0},
	} {
		if tc.name == "stage 1 alone: the CD and its tables are physical" {
			r.words(0x40_0008, 0x60_0000+0x8000) // an empty table
		}
		r.ste(tc.ste...)
		v, err := r.readAt(tc.iova)
		switch tc.event {
		case 0:
			require.NoError(t, err, tc.name)
			assert.EqualValues(t, 0x1111, v, tc.name)
		case 0xff:
			require.ErrorIs(t, err, soft.ErrFault, tc.name)
		default:
			require.ErrorIs(t, err, soft.ErrFault, tc.name)
			assert.Equal(t, tc.event, r.event().Type(), tc.name)
		}
		r.words(0x40_0008, table)
	}
}

// TestStage2IsSavedAndRestored shows that stage 2 is part of a stream's saved state.
func TestStage2IsSavedAndRestored(t *testing.T) {
	r := newHypervisor(t, asked)
	r.ste(steS2, 0, s2DW2, s2Table)
	was, _ := r.Stage(3)
	state, err := r.Save()
	require.NoError(t, err)
	require.NoError(t, r.Device.Close())

	r.words(0x10_00c0, 0) // the change has no effect before a CFGI
	r.ep = soft.NewEndpoint()
	r.boot(soft.Stage2IDs(), asked)
	require.NoError(t, r.Reset()) // boot has run a guest
	require.NoError(t, r.Restore(state))
	is, _ := r.Stage(3)
	assert.Equal(t, was, is)
	v, err := r.readAt(1<<30 + page)
	require.NoError(t, err)
	assert.EqualValues(t, 0x1111, v)

	plain := newHypervisor(t, nil)
	assert.ErrorIs(t, plain.Restore(state), vsmmu.ErrState, "a device that shows no stage 2")
}
