package soft_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// lower returns ID registers with one field changed.
func lower(ids smmuv3.IDRegs, f smmuv3.IDField, v uint32) smmuv3.IDRegs {
	ids.Set(f, v)
	return ids
}

// everything returns ID registers with every feature that a host can offer at once, with stage 2
// and without ATS.
func everything() smmuv3.IDRegs {
	ids := withStage2(idsDS())
	ids.Set(smmuv3.HTTU, 3)
	ids.Set(smmuv3.StallModel, smmuv3.StallBoth)
	ids.Set(smmuv3.StallMax, 4)
	return ids
}

// Events of an unprivileged read of IOVA 0 in stream 0x42.
var (
	noEvent      = smmuv3.Event{}
	badCD        = smmuv3.Event{0x42_0000000a}
	translation0 = smmuv3.Event{0x42_00000010, 1<<35 | 0b10<<40}
	addrSize0    = smmuv3.Event{0x42_00000011, 1<<35 | 0b10<<40}
	permission0  = smmuv3.Event{0x42_00000013, 1<<35 | 0b10<<40}
)

// The host offers a feature, but the guest's ID registers lack it. CDs and descriptors that use the
// feature have the outcome of an SMMU without the feature. Each row lowers one field, and has the
// event before and after.
func TestSetGuestIDs_LoweredFieldDoesNotExistForCDs(t *testing.T) {
	const dw0 = cd4K
	for _, c := range []struct {
		name    string
		field   smmuv3.IDField
		to      uint32
		mem     words
		attrs   soft.Attrs
		offered smmuv3.Event
		shown   smmuv3.Event
	}{
		{"HAD0 is RES0 (§5.4), so APTable[0] applies", smmuv3.HAD, 0,
			words{cdAt + 8: 0x10000 | 1<<1, 0x10000: 0x20003 | 1<<61}, soft.Attrs{}, noEvent, permission0},
		{"E0PD0 is RES0 (§5.4)", smmuv3.E0PD, 0,
			words{cdAt + 8: 0x10000 | 1<<2}, soft.Attrs{}, translation0, noEvent},
		{"EPAN is RES0 (§5.4)", smmuv3.EPAN, 0,
			words{cdAt: dw0 | 1<<40, cdAt + 8: 0x10000 | 1<<59, 0x40000: 0x5000_0000 | 0xc03}, soft.Attrs{Privileged: true},
			smmuv3.Event{0x42_00000013, 1<<33 | 1<<35 | 0b10<<40}, noEvent},
		{"OAS limits the output of a leaf (§3.4)", smmuv3.OAS, 4,
			words{0x40000: 1<<44 | pageRW}, soft.Attrs{}, noEvent, addrSize0},
		{"OAS limits the output of a table descriptor (§3.4)", smmuv3.OAS, 4,
			words{0x20000: 1<<44 | 3}, soft.Attrs{}, translation0, addrSize0},
		{"OAS limits TTB0 (§5.4.2)", smmuv3.OAS, 4,
			words{cdAt + 8: 1 << 44}, soft.Attrs{}, translation0, badCD},
		{"HTTU = 0: HA is ILLEGAL (§5.4.2)", smmuv3.HTTU, 0, words{cdAt: dw0 | 1<<43}, soft.Attrs{}, noEvent, badCD},
		{"HTTU = 0: HD is ILLEGAL (§5.4.2)", smmuv3.HTTU, 0, words{cdAt: dw0 | 1<<42}, soft.Attrs{}, noEvent, badCD},
		{"HTTU = 1: HA is legal (§5.4.2)", smmuv3.HTTU, 1, words{cdAt: dw0 | 1<<43}, soft.Attrs{}, noEvent, noEvent},
		{"HTTU = 1: HD is ILLEGAL (§5.4.2)", smmuv3.HTTU, 1, words{cdAt: dw0 | 1<<43 | 1<<42}, soft.Attrs{}, noEvent, badCD},
		{"HTTU = 2: HAFT without HA is IGNORED (§5.4)", smmuv3.HTTU, 2, words{cdAt + 8: 0x10000 | 1<<3}, soft.Attrs{}, badCD, noEvent},
		{"GRAN4K = 0: TG0 is ILLEGAL (§5.4.2)", smmuv3.GRAN4K, 0, nil, soft.Attrs{}, noEvent, badCD},
		{"GRAN16K = 0: TG0 is ILLEGAL (§5.4.2)", smmuv3.GRAN16K, 0,
			words{cdAt: 0x0001_6205_c000_00a7, 0x10000: 0x5000_0000 | pageRW}, soft.Attrs{}, noEvent, badCD},
		{"GRAN64K = 0: TG0 is ILLEGAL (§5.4.2)", smmuv3.GRAN64K, 0,
			words{cdAt: 0x0001_6205_c000_0063, 0x10000: 0x5000_0000 | pageRW}, soft.Attrs{}, noEvent, badCD},
		{"STT = 0: T0SZ of 40 is ILLEGAL (§5.4.2)", smmuv3.STT, 0,
			words{cdAt: 0x0001_6205_c000_0028, 0x10000: 0x20003, 0x20000: 0x5000_0000 | pageRW}, soft.Attrs{}, noEvent, badCD},
		{"VAX = 0: T0SZ of 12 is ILLEGAL (§5.4.2)", smmuv3.VAX, 0,
			words{cdAt: 0x0001_6205_c000_004c, 0x10000: 0x20003, 0x20000: 0x30003, 0x30000: 0x5000_0000 | pageRW}, soft.Attrs{}, noEvent, badCD},
		{"DS = 0: CD.DS is RES0, so T0SZ of 12 is ILLEGAL (§5.4)", smmuv3.DS, 0,
			words{cdAt: 0x0001_6206_c000_000c, cdAt + 16: 1 << 58, 0x10000: 0x20003, 0x20000: 0x30003, 0x30000: 0x40003, 0x40000: 0x50003, 0x50000: 0x5000_0000 | pageRW},
			soft.Attrs{}, noEvent, badCD},
		{"TTENDIAN = 2: ENDI is ILLEGAL (§5.4.2)", smmuv3.TTENDIAN, 2, words{cdAt: dw0 | 1<<15, 0x10000: 0}, soft.Attrs{}, translation0, badCD},
		{"TTENDIAN = 3: no ENDI is ILLEGAL (§5.4.2)", smmuv3.TTENDIAN, 3, nil, soft.Attrs{}, noEvent, badCD},
		{"ASID16 = 0: ASID of 16 bits is ILLEGAL (§5.4.2)", smmuv3.ASID16, 0, words{cdAt: dw0&^(0xffff<<48) | 0x100<<48}, soft.Attrs{}, noEvent, badCD},
		{"ASID16 = 0: ASID of 8 bits is legal", smmuv3.ASID16, 0, words{cdAt: dw0&^(0xffff<<48) | 0xff<<48}, soft.Attrs{}, noEvent, noEvent},
		{"STALL_MODEL = 1: S is ILLEGAL (§5.4.2)", smmuv3.StallModel, 1, words{cdAt: dw0 | 1<<44}, soft.Attrs{}, noEvent, badCD},
		{"TERM_MODEL = 1: A = 0 is ILLEGAL (§5.4.2)", smmuv3.TermModel, 1, words{cdAt: dw0 &^ (1 << 46)}, soft.Attrs{}, noEvent, badCD},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, s := range []struct {
				ids  smmuv3.IDRegs
				want smmuv3.Event
			}{{everything(), c.offered}, {lower(everything(), c.field, c.to), c.shown}} {
				r := newRigShown(t, soft.Config{IDs: everything()}, s.ids)
				r.map4K(dw0, 0x5000_0000|pageRW)
				for at, w := range c.mem {
					r.mem.SetWords(at, w)
				}
				r.bind(oneCD)
				_, err := word(r.ep.With(c.attrs), 0)
				if s.want == noEvent {
					assert.NoError(t, err)
					assert.Empty(t, r.taken())
				} else {
					assert.ErrorIs(t, err, soft.ErrFault)
					assert.Equal(t, []smmuv3.Event{s.want}, r.taken())
				}
				caps, err := r.host.Capabilities()
				require.NoError(t, err)
				assert.Equal(t, everything(), caps.IDs, "Capabilities are the host's own")
			}
		})
	}
}

// §5.2.2: Bind rejects stages that use a feature which the guest's ID registers lack.
func TestSetGuestIDs_LoweredFieldDoesNotExistForSTEs(t *testing.T) {
	s2 := stage2(bridge.TranslateS2, s2DW2, tableAt)
	with := func(g bridge.GuestStage, f func(*bridge.GuestStage)) bridge.GuestStage { f(&g); return g }
	for _, c := range []struct {
		name  string
		field smmuv3.IDField
		to    uint32
		stage bridge.GuestStage
	}{
		{"S1P = 0: Config 101", smmuv3.S1P, 0, oneCD},
		{"S1P = 0: Config 111", smmuv3.S1P, 0, with(s2, func(g *bridge.GuestStage) { g.Disposition = bridge.TranslateNested })},
		{"S2P = 0: Config 110", smmuv3.S2P, 0, s2},
		{"S2P = 0: S2VMID", smmuv3.S2P, 0, with(oneCD, func(g *bridge.GuestStage) { g.S2VMID = 1 })},
		{"SSIDSIZE = 4: S1CDMax of 5", smmuv3.SSIDSIZE, 4, bridge.GuestStage{Disposition: bridge.Translate, S1CDMax: 5}},
		{"SSIDSIZE = 0: S1CDMax of 1", smmuv3.SSIDSIZE, 0, bridge.GuestStage{Disposition: bridge.Translate, S1CDMax: 1}},
		{"CD2L = 0: S1Fmt 01", smmuv3.CD2L, 0, bridge.GuestStage{Disposition: bridge.Translate, S1CDMax: 1, S1Fmt: smmuv3.S1Fmt4K}},
		{"CD2L = 0: S1Fmt 10", smmuv3.CD2L, 0, bridge.GuestStage{Disposition: bridge.Translate, S1CDMax: 1, S1Fmt: smmuv3.S1Fmt64K}},
		{"OAS = 44 bits: S1ContextPtr", smmuv3.OAS, 4, bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: 1 << 44}},
		{"OAS = 44 bits: S2TTB", smmuv3.OAS, 4, with(s2, func(g *bridge.GuestStage) { g.S2.TTB = 1 << 44 })},
		{"GRAN4K = 0: S2TG", smmuv3.GRAN4K, 0, s2},
		{"VMID16 = 0: S2VMID of 16 bits", smmuv3.VMID16, 0, with(s2, func(g *bridge.GuestStage) { g.S2VMID = 0x100 })},
		{"HTTU = 0: S2HA", smmuv3.HTTU, 0, with(s2, func(g *bridge.GuestStage) { g.S2.HA = true })},
		{"HTTU = 1: S2HD", smmuv3.HTTU, 1, with(s2, func(g *bridge.GuestStage) { g.S2.HA, g.S2.HD = true, true })},
		{"HTTU = 2: S2HAFT", smmuv3.HTTU, 2, with(s2, func(g *bridge.GuestStage) { g.S2.HA, g.S2.HAFT = true, true })},
		{"TTENDIAN = 2: S2ENDI", smmuv3.TTENDIAN, 2, with(s2, func(g *bridge.GuestStage) { g.S2.ENDI = true })},
		{"FWB = 0: S2FWB", smmuv3.FWB, 0, with(s2, func(g *bridge.GuestStage) { g.S2.FWB = true })},
		{"STALL_MODEL = 1: S2S", smmuv3.StallModel, 1, with(s2, func(g *bridge.GuestStage) { g.S2.S = true })},
		{"DS = 0: S2DS", smmuv3.DS, 0, with(s2, func(g *bridge.GuestStage) { g.S2.DS = true })},
		{"STT = 0: S2T0SZ of 40", smmuv3.STT, 0, with(s2, func(g *bridge.GuestStage) { g.S2.T0SZ, g.S2.SL0 = 40, 0 })},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRigShown(t, soft.Config{IDs: everything()}, everything())
			r.bind(c.stage)
			r = newRigShown(t, soft.Config{IDs: everything()}, lower(everything(), c.field, c.to))
			assert.ErrorIs(t, r.stream.Bind(c.stage), bridge.ErrRejected)
		})
	}
}

// A device sets S1STALLD if the host can stall and the guest's ID registers show no stalls
// (§3.12.2.3). The guest's CD with S = 1 is still ILLEGAL.
func TestSetGuestIDs_S1STALLDOfTheDevice(t *testing.T) {
	shown := lower(everything(), smmuv3.StallModel, smmuv3.StallTerminate)
	r := newRigShown(t, soft.Config{IDs: everything()}, lower(shown, smmuv3.StallMax, 0))
	r.map4K(cd4K|1<<44, 0x5000_0000|pageRW)
	r.bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: cdAt, S1STALLD: true})
	_, err := word(r.ep, 0)
	assert.ErrorIs(t, err, soft.ErrFault)
	assert.Equal(t, []smmuv3.Event{badCD}, r.taken())
}

// §3.4: OAS limits the addresses of transactions that bypass. §7.3.9: a SubstreamID beyond SSIDSIZE
// has no CD.
func TestSetGuestIDs_AddressesAndSubstreamIDs(t *testing.T) {
	shown := lower(lower(everything(), smmuv3.OAS, 4), smmuv3.SSIDSIZE, 4)
	r := newRigShown(t, soft.Config{IDs: everything()}, shown)
	r.bind(bridge.GuestStage{Disposition: bridge.Bypass})
	assert.NoError(t, r.ep.WriteAt([]byte{1}, 1<<44-1))
	assert.ErrorIs(t, r.ep.WriteAt([]byte{1}, 1<<44), soft.ErrFault)
	assert.Equal(t, []smmuv3.Event{{0x42_00000011, 0b10 << 40, 1 << 44}}, r.taken())

	r.bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: cdAt, S1CDMax: 4})
	_, err := word(r.ep.With(soft.Attrs{Substream: 0x10, HasSubstream: true}), 0)
	assert.ErrorIs(t, err, soft.ErrFault)
	assert.Equal(t, []smmuv3.Event{{0x42_00010008}}, r.taken())
}

// §5.4: without IDR5.DS, CD.DS is RES0, and [9:8] of a leaf are SH and not address bits. With HTTU
// = 0b10, CD.HAFT is RES0, and a walk does not change table descriptors. In SMMUv3.0, TTB0 [51:48]
// are RES0.
func TestSetGuestIDs_FieldsOfDescriptors(t *testing.T) {
	leaf := uint64(0x5000_0000 | pageRW | 0b01<<8)
	for _, ds := range []uint32{0, 1} {
		r := newRigShown(t, soft.Config{IDs: everything()}, lower(everything(), smmuv3.DS, ds))
		r.map4K(0x0001_6206_c000_0010, leaf)
		r.mem.SetWords(cdAt+16, 1<<58)
		r.mem.SetWords(0x5000_0000, 0x0d5)
		r.mem.SetWords(1<<50|0x5000_0000, 0x1d5)
		r.bind(oneCD)
		got, err := word(r.ep, 0)
		require.NoError(t, err)
		assert.EqualValues(t, []uint64{0x0d5, 0x1d5}[ds], got)
	}

	for _, httu := range []uint32{2, 3} {
		r := newRigShown(t, soft.Config{IDs: everything()}, lower(everything(), smmuv3.HTTU, httu))
		r.map4K(cd4K|1<<43, 0x5000_0000|pageRW)
		r.mem.SetWords(cdAt+8, 0x10000|1<<3)
		r.bind(oneCD)
		_, err := word(r.ep, 0)
		require.NoError(t, err)
		assert.Equal(t, []uint64{[]uint64{2: 0x20003, 3: 0x20403}[httu]}, r.mem.Words(0x10000, 1))
	}

	for _, version := range []uint32{0, 2} {
		r := newRigShown(t, soft.Config{IDs: everything()}, lower(everything(), smmuv3.ArchMinor, version))
		r.mem.SetWords(cdAt, 0x0001_6206_c000_0063, 1<<50|tableAt) // 64 KiB, level 3
		for i, at := range []guestmem.GPA{tableAt, 1<<50 | tableAt} {
			r.mem.SetWords(at, 0x5000_0000+uint64(i)<<16|pageRW)
			r.mem.SetWords(0x5000_0000+guestmem.GPA(i)<<16, uint64(2*i))
		}
		r.bind(oneCD)
		got, err := word(r.ep, 0)
		require.NoError(t, err)
		assert.EqualValues(t, version, got)
	}
}

// DDI 0487, D8.4.2: without XNX, XN[0] of a stage 2 leaf is ignored.
func TestSetGuestIDs_XNX(t *testing.T) {
	for _, xnx := range []uint32{0, 1} {
		r := newRigShown(t, soft.Config{IDs: everything()}, lower(everything(), smmuv3.XNX, xnx))
		r.mem.SetWords(tableAt, 0x5000_0000|1<<53|0x7ff)
		r.bind(stage2(bridge.TranslateS2, 0x040d_00eb_0000_0000, tableAt))
		_, err := word(r.ep.With(soft.Attrs{Privileged: true, Instruction: true}), 0)
		assert.Equal(t, xnx == 1, errors.Is(err, soft.ErrFault), "XNX %d", xnx)
	}
}

// §4.4.1.1: TTL = 1 with the 16 KiB granule is reserved if the guest reads IDR5.DS = 0. It then
// behaves as 0, even if the host has DS.
func TestTTL1Of16KiBIsReservedWithoutTheGuestsDS(t *testing.T) {
	for _, l := range leaves() {
		if l.tg != 0b10 || l.ds {
			continue
		}
		l.ids = everything()
		for _, r := range newLeafRigs(t, l, lower(everything(), smmuv3.DS, 0)) {
			r.invalidate(tlbi(r.op, 0, 1, 0, 0b10, 1, 1))
			got, err := word(r.ep, 0)
			require.NoError(t, err)
			assert.EqualValues(t, leafNew, got, "%s opcode %#x", l.name, r.op)
		}
	}
}

// The 64 KiB granule has blocks at level 1 with 52-bit addresses only. If the guest's ID registers
// lack these, TTL = 1 behaves as 0.
func TestTTL1Of64KiBIsNoHintWithout52Bits(t *testing.T) {
	for _, l := range leaves() {
		if l.tg != 0b11 || l.level == 1 {
			continue
		}
		l.ids = everything()
		for _, r := range newLeafRigs(t, l, lower(everything(), smmuv3.OAS, 5)) {
			r.invalidate(tlbi(r.op, 0, 1, 0, 0b11, 1, 1))
			got, err := word(r.ep, 0)
			require.NoError(t, err)
			assert.EqualValues(t, leafNew, got, "%s opcode %#x", l.name, r.op)
		}
	}
}

// §4.4.1: fields of TLBIs that the guest's SMMU does not have are ignored.
func TestSetGuestIDs_FieldsOfTLBIs(t *testing.T) {
	type row struct {
		name  string
		field smmuv3.IDField
		to    uint32
		cmd   smmuv3.Command
		gone  bool
	}
	page := leaves()[0]
	page.ids = everything()
	for _, c := range []row{
		{"RIL = 1: TTL counts", smmuv3.RIL, 1, smmuv3.Command{0x12 | 1<<48, 0b01<<10 | 2<<8 | 1}, false},
		{"RIL = 0: TTL is ignored", smmuv3.RIL, 0, smmuv3.Command{0x12 | 1<<48, 0b01<<10 | 2<<8 | 1}, true},
		{"DS = 1: SCALE has six bits", smmuv3.DS, 1, smmuv3.Command{0x13 | 32<<20, 0b01<<10 | 3<<8 | 1}, true},
		{"ASID16 = 1: another ASID", smmuv3.ASID16, 1, smmuv3.Command{0x11 | 0x0101<<48}, false},
		{"ASID16 = 0: ASID[15:8] are ignored", smmuv3.ASID16, 0, smmuv3.Command{0x11 | 0x0101<<48}, true},
		{"ASID16 = 0: also by address", smmuv3.ASID16, 0, smmuv3.Command{0x12 | 0x0101<<48, 0}, true},
		{"VMID16 = 1: another VMID", smmuv3.VMID16, 1, smmuv3.Command{0x10 | 0x0100<<32}, false},
		{"VMID16 = 0: VMID[15:8] are ignored", smmuv3.VMID16, 0, smmuv3.Command{0x10 | 0x0100<<32}, true},
		{"S2P = 0: VMID is ignored", smmuv3.S2P, 0, smmuv3.Command{0x10 | 0x0007<<32}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newLeafRigs(t, page, lower(everything(), c.field, c.to))[0]
			r.invalidate(c.cmd)
			got, err := word(r.ep, 0)
			require.NoError(t, err)
			assert.Equal(t, c.gone, got == leafNew)
		})
	}
}

func TestSetGuestIDs_ATSAndPRI(t *testing.T) {
	offered := withATS()
	r := newRigShown(t, soft.Config{IDs: offered}, lower(lower(offered, smmuv3.PRI, 0), smmuv3.ATS, 0))
	r.ep.EnableATS(soft.ATS{})
	require.NoError(t, r.host.PageRequests(func(smmuv3.PageRequest) { t.Error("a page request") }))
	r.bind(bridge.GuestStage{Disposition: bridge.Bypass})
	_, err := r.ep.Translate(0, false)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	assert.ErrorIs(t, r.ep.ReadTranslated(make([]byte, 1), 0), errors.ErrUnsupported)
	assert.ErrorIs(t, r.ep.RequestPage(smmuv3.PageRequest{}), errors.ErrUnsupported)

	r = newRigShown(t, soft.Config{IDs: offered}, lower(offered, smmuv3.PRI, 0))
	r.ep.EnableATS(soft.ATS{})
	require.NoError(t, r.host.PageRequests(func(smmuv3.PageRequest) { t.Error("a page request") }))
	assert.ErrorIs(t, r.ep.RequestPage(smmuv3.PageRequest{}), errors.ErrUnsupported)
}

// §6.3.6: at most STALL_MAX transactions stall, by the guest's ID registers.
func TestSetGuestIDs_STALL_MAX(t *testing.T) {
	for _, most := range []int{1, 2} {
		r := newRigShown(t, soft.Config{IDs: everything()}, lower(everything(), smmuv3.StallMax, uint32(most)))
		r.map4K(cd4K | 1<<44)
		r.bind(oneCD)
		r.ep.AllowStalls(t.Context())
		over := make(chan error, 3)
		for range 3 {
			go func() { _, err := word(r.ep, 0); over <- err }()
		}
		for range 3 - most {
			assert.ErrorIs(t, <-over, soft.ErrFault)
		}
		require.NoError(t, r.host.TerminateStalled(sid))
		for range most {
			assert.ErrorIs(t, <-over, soft.ErrFault)
		}
	}
}

// SetGuestIDs refuses registers if a single field exceeds the host's.
func TestSetGuestIDs_RefusesMoreThanTheHostOffers(t *testing.T) {
	notOfTheHost := map[smmuv3.IDField]bool{
		smmuv3.DORMHINT: true, smmuv3.MSI: true, smmuv3.SEV: true, smmuv3.STLevel: true, smmuv3.SIDSIZE: true,
		smmuv3.PRIQS: true, smmuv3.EVENTQS: true, smmuv3.CMDQS: true, smmuv3.REL: true, smmuv3.QueuesPreset: true,
		smmuv3.TablesPreset: true, smmuv3.BAVATOS: true,
		smmuv3.Implementer: true, smmuv3.Revision: true, smmuv3.Variant: true, smmuv3.ProductID: true,
	}
	least := smmuv3.IDRegs{IDR: [6]uint32{0: 0x0500_000a, 5: 0x10}} // S1P, AArch64; stalls terminate with an abort; GRAN4K, 32 bits
	host, err := soft.New(soft.Config{Memory: new(guestmem.Fake), IDs: least})
	require.NoError(t, err)
	for _, f := range smmuv3.IDFields() {
		if f == smmuv3.FWB || least.Get(f) == f.Max() {
			continue // FWB has no effect without stage 2
		}
		guest := lower(least, f, least.Get(f)+1)
		if err := host.SetGuestIDs(guest); notOfTheHost[f] {
			assert.NoError(t, err, f.String())
		} else {
			assert.ErrorContains(t, err, fmt.Sprintf("%s.%v", f.Register(), f), f.String())
		}
	}
	for name, c := range map[string]struct {
		ids  smmuv3.IDRegs
		want string
	}{
		"zero":          {smmuv3.IDRegs{}, "ID registers are zero"},
		"no stage":      {lower(least, smmuv3.S1P, 0), "S1P"},
		"no tables":     {lower(least, smmuv3.TTF, 0), "TTF"},
		"no granule":    {lower(least, smmuv3.GRAN4K, 0), "granule"},
		"RAZ/WI":        {lower(least, smmuv3.TermModel, 0), "TERM_MODEL"},
		"stalls":        {lower(least, smmuv3.StallModel, 0), "STALL_MODEL"},
		"forced stalls": {lower(least, smmuv3.StallModel, 2), "STALL_MODEL"},
	} {
		assert.ErrorContains(t, host.SetGuestIDs(c.ids), c.want, name)
	}
	assert.NoError(t, host.SetGuestIDs(least))
}

// The guest's registers apply from SetGuestIDs until the host is released. A refused set changes
// nothing.
func TestSetGuestIDs_Life(t *testing.T) {
	offered := soft.DefaultIDs()
	host, err := soft.New(soft.Config{Memory: new(guestmem.Fake), IDs: offered})
	require.NoError(t, err)
	bypasses := func(iova uint64) bool {
		ep := soft.NewEndpoint()
		s, err := host.Attach(sid, ep)
		require.NoError(t, err)
		require.NoError(t, s.Bind(bridge.GuestStage{Disposition: bridge.Bypass}))
		defer func() { require.NoError(t, s.Close()) }()
		return ep.ReadAt(make([]byte, 1), iova) == nil
	}
	require.NoError(t, host.Events(func(smmuv3.Event) {}))
	assert.True(t, bypasses(1<<44))
	require.NoError(t, host.SetGuestIDs(lower(offered, smmuv3.OAS, 4)))
	assert.False(t, bypasses(1<<44))
	require.Error(t, host.SetGuestIDs(lower(offered, smmuv3.OAS, 6)))
	assert.False(t, bypasses(1<<44))

	s, err := host.Attach(sid, soft.NewEndpoint())
	require.NoError(t, err)
	assert.ErrorIs(t, host.SetGuestIDs(offered), bridge.ErrInUse, "a stream is attached")
	require.NoError(t, s.Close())

	require.NoError(t, host.Events(nil))
	assert.True(t, bypasses(1<<44), "the host is released")
	require.NoError(t, host.Close())
	assert.ErrorIs(t, host.SetGuestIDs(offered), bridge.ErrClosed)
}
