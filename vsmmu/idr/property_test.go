package idr_test

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// illegal lists what the architecture has against a stage-1 SMMU with these ID
// registers: §6.3.1 to §6.3.8 read anew, not the tables of this package.
func illegal(g smmuv3.IDRegs) (broken []string) {
	v := g.Get
	bit := g.Has
	for text, holds := range map[string]bool{
		"§6.3.1 a stage":                                bit(smmuv3.S1P) || bit(smmuv3.S2P),
		"§6.3.1 RES0 without S2P":                       bit(smmuv3.S2P) || !bit(smmuv3.Hyp) && !bit(smmuv3.VMW) && !bit(smmuv3.NS1ATS) && !bit(smmuv3.VATOS),
		"§5.2 no split-stage ATS, which nobody does":    !bit(smmuv3.S1P) || !bit(smmuv3.S2P) || !bit(smmuv3.ATS),
		"§6.3.1 TTF not reserved":                       v(smmuv3.TTF) != 0,
		"§6.3.1 TTF without AArch32 tables for D128":    !bit(smmuv3.D128) || v(smmuv3.TTF) == 2,
		"§6.3.1 ST_LEVEL not reserved":                  v(smmuv3.STLevel) <= 1,
		"§6.3.1 STALL_MODEL not reserved":               v(smmuv3.StallModel) <= 2,
		"§6.3.1 TTENDIAN not reserved":                  v(smmuv3.TTENDIAN) != 1,
		"§6.3.1 PRI and ATSRECERR need ATS":             bit(smmuv3.ATS) || !bit(smmuv3.PRI) && !bit(smmuv3.ATSRECERR),
		"§6.3.2 SIDSIZE up to 32":                       v(smmuv3.SIDSIZE) <= 32,
		"§6.3.2 SIDSIZE of 7 needs ST_LEVEL":            v(smmuv3.SIDSIZE) < 7 || bit(smmuv3.STLevel),
		"§6.3.2 SSIDSIZE up to 20":                      v(smmuv3.SSIDSIZE) <= 20,
		"§6.3.2 queues up to 2^19":                      max(v(smmuv3.CMDQS), v(smmuv3.EVENTQS), v(smmuv3.PRIQS)) <= 19,
		"§6.3.2 REL needs a preset":                     !bit(smmuv3.REL),
		"§6.3.2 ECMDQ needs COHACC and MSI":             !bit(smmuv3.ECMDQ),
		"§6.3.3 BA_VATOS needs VATOS":                   !bit(smmuv3.BAVATOS),
		"§6.3.4 HAD from SMMUv3.1":                      g.Version() < 1 || bit(smmuv3.HAD) == bit(smmuv3.S1P),
		"§6.3.4 HAD needs S1P":                          !bit(smmuv3.HAD) || bit(smmuv3.S1P),
		"§6.3.4 XNX from SMMUv3.1":                      g.Version() < 1 || bit(smmuv3.XNX) == bit(smmuv3.S2P),
		"§6.3.4 PTWNNC from SMMUv3.3":                   g.Version() < 3 || bit(smmuv3.PTWNNC) == bit(smmuv3.S2P),
		"§6.3.4 MTEPERM from SMMUv3.4":                  g.Version() < 4 || bit(smmuv3.MTEPERM) == bit(smmuv3.S2P),
		"§6.3.4 RIL from SMMUv3.2":                      g.Version() < 2 || bit(smmuv3.RIL),
		"§6.3.4 BBML from SMMUv3.2":                     g.Version() < 2 || bit(smmuv3.BBML),
		"§6.3.4 FWB from SMMUv3.2":                      g.Version() < 2 || bit(smmuv3.FWB),
		"§6.3.4 E0PD from SMMUv3.3":                     g.Version() < 3 || bit(smmuv3.E0PD),
		"§6.3.4 EPAN from SMMUv3.4":                     g.Version() < 4 || bit(smmuv3.EPAN),
		"§6.3.4 XNX, PBHA not in SMMUv3.0":              g.Version() > 0 || !bit(smmuv3.XNX) && !bit(smmuv3.PBHA),
		"§6.3.4 PBHA needs HAD":                         !bit(smmuv3.PBHA) || bit(smmuv3.HAD) || !bit(smmuv3.S1P),
		"§6.3.4 BBML not reserved":                      v(smmuv3.BBML) <= 2,
		"§6.3.4 PPS needs PRI and SSIDSIZE":             !bit(smmuv3.PPS) || bit(smmuv3.PRI) && bit(smmuv3.SSIDSIZE),
		"§6.3.2 PRIQS needs PRI":                        !bit(smmuv3.PRIQS) || bit(smmuv3.PRI),
		"§6.3.4 PASIDTT needs ATS and SSIDSIZE":         !bit(smmuv3.PASIDTT) || bit(smmuv3.ATS) && bit(smmuv3.SSIDSIZE),
		"§6.3.4 RES0 without S2P":                       bit(smmuv3.S2P) || !bit(smmuv3.PTWNNC) && !bit(smmuv3.S2PI) && !bit(smmuv3.S2PO) && !bit(smmuv3.MTEPERM),
		"§6.3.4 DPT needs ATS":                          !bit(smmuv3.DPT) || bit(smmuv3.ATS),
		"§6.3.6 STALL_MAX without stalls":               v(smmuv3.StallModel) != 1 || !bit(smmuv3.StallMax),
		"§6.3.6 VAX not reserved":                       v(smmuv3.VAX) <= 2,
		"§6.3.6 VAX not in SMMUv3.0":                    g.Version() > 0 || !bit(smmuv3.VAX),
		"§6.3.6 VAX needs 64 KiB, or DS and a granule":  !bit(smmuv3.VAX) || bit(smmuv3.GRAN64K) || bit(smmuv3.DS) && (bit(smmuv3.GRAN4K) || bit(smmuv3.GRAN16K)),
		"§6.3.6 56-bit addresses need D128":             bit(smmuv3.D128) || v(smmuv3.VAX) < 2 && v(smmuv3.OAS) < 7,
		"§6.3.6 DS needs VAX":                           !bit(smmuv3.DS) || bit(smmuv3.VAX),
		"§6.3.6 DS needs 4 or 16 KiB":                   !bit(smmuv3.DS) || bit(smmuv3.GRAN4K) || bit(smmuv3.GRAN16K),
		"§6.3.6 D128 needs S1PI, S2PO, AIE, MTEPERM":    !bit(smmuv3.D128),
		"§6.3.6 4 KiB for AArch32 tables":               v(smmuv3.TTF)&1 == 0 || bit(smmuv3.GRAN4K),
		"§6.3.6 52-bit output not in SMMUv3.0":          g.Version() > 0 || v(smmuv3.OAS) <= 5,
		"§6.3.6 52-bit output needs 64 KiB, DS or D128": v(smmuv3.OAS) <= 5 || bit(smmuv3.GRAN64K) || bit(smmuv3.DS) || bit(smmuv3.D128),
		"§6.3.6 a granule":                              bit(smmuv3.GRAN4K) || bit(smmuv3.GRAN16K) || bit(smmuv3.GRAN64K),
		"§6.3.7 bit 7 of Implementer is 0":              v(smmuv3.Implementer)&0x80 == 0,
		"§6.3.8 SMMUv3.0 to SMMUv3.4":                   g.AIDR <= 4,
		"§6.3.1 bits 29 and 31 are RES0":                g.IDR[0]&0xa0000000 == 0,
		"§6.3.3, §6.3.5 nothing in IDR2 and IDR4":       g.IDR[2] == 0 && g.IDR[4] == 0,
		"§6.3.4 bits 1:0, 6 and 31:24 are RES0":         g.IDR[3]&0xff000043 == 0,
		"§6.3.6 bits 3, 9 and 15:12 are RES0":           g.IDR[5]&0x0000f208 == 0,
		"§3.12.1 a PCI system has no forced stalls":     v(smmuv3.StallModel) != 2,
	} {
		if !holds {
			broken = append(broken, text)
		}
	}
	return broken
}

// exceeds lists the fields in which the guest could do what the host cannot.
func exceeds(guest, host smmuv3.IDRegs) (fields []smmuv3.IDField) {
	for _, f := range smmuv3.IDFields() {
		g, h := guest.Get(f), host.Get(f)
		switch f {
		case smmuv3.FWB:
			if guest.Has(smmuv3.S2P) && g > h {
				fields = append(fields, f)
			}
		case smmuv3.STLevel, smmuv3.SIDSIZE, smmuv3.CMDQS, smmuv3.EVENTQS, smmuv3.PRIQS, smmuv3.MSI,
			smmuv3.Implementer, smmuv3.Revision, smmuv3.Variant, smmuv3.ProductID: // the device's own
		case smmuv3.TTF:
			if g&^h != 0 {
				fields = append(fields, f)
			}
		case smmuv3.TTENDIAN, smmuv3.StallModel, smmuv3.TermModel:
			if h != 0 && g != h {
				fields = append(fields, f)
			}
		default:
			if g > h {
				fields = append(fields, f)
			}
		}
	}
	return fields
}

// genHost draws ID registers, mostly such as can serve a guest, now and then
// any words at all.
var genHost = rapid.Custom(func(t *rapid.T) smmuv3.IDRegs {
	word := rapid.Uint32()
	h := smmuv3.IDRegs{IIDR: word.Draw(t, "IIDR"), AIDR: rapid.Uint32Range(0, 5).Draw(t, "AIDR")}
	for i := range h.IDR {
		h.IDR[i] = word.Draw(t, "IDR")
	}
	if rapid.IntRange(0, 19).Draw(t, "wild") == 0 {
		h.AIDR = word.Draw(t, "AIDR")
		return h
	}
	h.Set(smmuv3.S1P, 1)
	h.Set(smmuv3.TTF, rapid.SampledFrom([]uint32{2, 3}).Draw(t, "TTF"))
	h.Set(smmuv3.TTENDIAN, rapid.SampledFrom([]uint32{0, 2}).Draw(t, "TTENDIAN"))
	h.Set(smmuv3.StallModel, rapid.SampledFrom([]uint32{0, 1}).Draw(t, "STALL_MODEL"))
	h.Set(smmuv3.SSIDSIZE, rapid.Uint32Range(0, 20).Draw(t, "SSIDSIZE"))
	h.Set(smmuv3.BBML, rapid.Uint32Range(0, 2).Draw(t, "BBML"))
	h.Set(smmuv3.VAX, rapid.Uint32Range(0, 2).Draw(t, "VAX"))
	return h
})

var genPolicy = rapid.MapOfN(
	rapid.Custom(func(t *rapid.T) smmuv3.IDField {
		return smmuv3.IDField(rapid.IntRange(0, len(smmuv3.IDFields())).Draw(t, "field")) // one too many
	}),
	rapid.OneOf(rapid.Uint32Range(0, 2), rapid.Uint32Range(0, 40), rapid.Uint32()), 0, 5)

func TestDeriveProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts := rapid.SliceOfN(genHost, 1, 3).Draw(t, "hosts")
		policy := idr.Policy(genPolicy.Draw(t, "policy"))
		// Most policies should be such as can be met.
		if r, err := idr.Derive(nil, caps(hosts...)...); err == nil && rapid.IntRange(0, 3).Draw(t, "tame") > 0 {
			maps.DeleteFunc(policy, func(f smmuv3.IDField, _ uint32) bool { return int(f) >= len(r.Fields) })
			for f, v := range policy {
				policy[f] = v % (r.IDs.Get(f) + 1)
			}
			if rapid.Bool().Draw(t, "S2P") {
				policy[smmuv3.S2P] = 1
			}
		}

		r, err := idr.Derive(policy, caps(hosts...)...)
		if err != nil {
			var fe *idr.FieldError
			require.ErrorAs(t, err, &fe, "an error names its field")
			require.True(t, fe.Err == idr.ErrPolicy || fe.Err == idr.ErrHost)
			if len(policy) == 0 && fe.Field != smmuv3.S1P { // stage 2 alone has to be asked for
				require.ErrorIs(t, err, idr.ErrHost, "without a policy there is none to blame")
			}
			return
		}
		assert.Empty(t, illegal(r.IDs), "\n%s", r.Table())
		for f, v := range policy {
			assert.Equal(t, v, r.IDs.Get(f), "the policy's %v", f)
		}
		for i, h := range caps(hosts...) {
			assert.Empty(t, exceeds(r.IDs, h.IDs), "host %d", i)
			assert.NoError(t, idr.Satisfies(h, r.IDs), "host %d", i)
		}
	})
}

// A host that a guest's registers pass by is one that they do not exceed.
func TestSatisfiesIsSound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, err := idr.Derive(nil, caps(genHost.Draw(t, "first"))...)
		if err != nil {
			t.Skip()
		}
		later := genHost.Draw(t, "later")
		if err := idr.Satisfies(caps(later)[0], r.IDs); err == nil {
			assert.Empty(t, exceeds(r.IDs, later))
		}
	})
}
