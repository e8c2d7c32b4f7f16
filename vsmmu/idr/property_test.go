package idr_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// illegal lists the rules that these ID registers break: the device's rules, and the rules of §2.9
// and §6.3.1 to §6.3.8. It does not use the tables of this package.
func illegal(g smmuv3.IDRegs) (broken []string) {
	v, bit, minor := g.Get, g.Has, g.Version()
	for text, holds := range map[string]bool{
		"§6.3.1 a stage": bit(smmuv3.S1P) || bit(smmuv3.S2P),
		"§6.3.1 Hyp from SMMUv3.2 with both stages":   minor < 2 || !bit(smmuv3.S1P) || !bit(smmuv3.S2P),
		"§6.3.1 TTF not reserved":                     v(smmuv3.TTF) != 0,
		"§6.3.1 ST_LEVEL not reserved":                v(smmuv3.STLevel) <= 1,
		"§6.3.1 STALL_MODEL not reserved":             v(smmuv3.StallModel) <= 2,
		"§6.3.1 TTENDIAN not reserved":                v(smmuv3.TTENDIAN) != 1,
		"§6.3.1 PRI needs ATS":                        bit(smmuv3.ATS) || !bit(smmuv3.PRI),
		"§6.3.2 SIDSIZE up to 32":                     v(smmuv3.SIDSIZE) <= 32,
		"§6.3.2 SIDSIZE of 7 needs ST_LEVEL":          v(smmuv3.SIDSIZE) < 7 || bit(smmuv3.STLevel),
		"§6.3.2 SSIDSIZE up to 20":                    v(smmuv3.SSIDSIZE) <= 20,
		"§6.3.2 queues up to 2^19":                    max(v(smmuv3.CMDQS), v(smmuv3.EVENTQS), v(smmuv3.PRIQS)) <= 19,
		"§6.3.4 HAD from SMMUv3.1":                    minor < 1 || bit(smmuv3.HAD) || !bit(smmuv3.S1P),
		"§6.3.4 HAD needs S1P":                        !bit(smmuv3.HAD) || bit(smmuv3.S1P),
		"§6.3.4 XNX from SMMUv3.1 with S2P":           minor < 1 || bit(smmuv3.XNX) || !bit(smmuv3.S2P),
		"§6.3.4 XNX, PBHA not in SMMUv3.0":            minor > 0 || !bit(smmuv3.XNX) && !bit(smmuv3.PBHA),
		"§6.3.4 PBHA needs HAD":                       !bit(smmuv3.PBHA) || bit(smmuv3.HAD),
		"§6.3.4 RIL, BBML, FWB from SMMUv3.2":         minor < 2 || bit(smmuv3.RIL) && bit(smmuv3.BBML) && bit(smmuv3.FWB),
		"§6.3.4 E0PD from SMMUv3.3":                   minor < 3 || bit(smmuv3.E0PD),
		"§6.3.4 PTWNNC from SMMUv3.3 with S2P":        minor < 3 || bit(smmuv3.PTWNNC) || !bit(smmuv3.S2P),
		"§6.3.4 PTWNNC needs S2P":                     !bit(smmuv3.PTWNNC) || bit(smmuv3.S2P),
		"§6.3.4 EPAN from SMMUv3.4":                   minor < 4 || bit(smmuv3.EPAN),
		"§6.3.4 MTEPERM from SMMUv3.4 with S2P":       minor < 4 || !bit(smmuv3.S2P),
		"§6.3.4 THE, AIE need S1P":                    bit(smmuv3.S1P) || !bit(smmuv3.THE) && !bit(smmuv3.AIE),
		"§6.3.4 THE with S2P needs S2PI":              !bit(smmuv3.THE) || !bit(smmuv3.S2P),
		"§6.3.4 BBML not reserved":                    v(smmuv3.BBML) <= 2,
		"§6.3.4 PPS needs PRI and SSIDSIZE":           !bit(smmuv3.PPS) || bit(smmuv3.PRI) && bit(smmuv3.SSIDSIZE),
		"§6.3.4 PASIDTT needs ATS and SSIDSIZE":       !bit(smmuv3.PASIDTT) || bit(smmuv3.ATS) && bit(smmuv3.SSIDSIZE),
		"§6.3.6 STALL_MAX without stalls":             v(smmuv3.StallModel) != 1 || !bit(smmuv3.StallMax),
		"§6.3.6 stalls without STALL_MAX":             v(smmuv3.StallModel) == 1 || bit(smmuv3.StallMax),
		"§6.3.6 VAX not in SMMUv3.0":                  minor > 0 || !bit(smmuv3.VAX),
		"§6.3.6 VAX needs 64 KiB, or DS":              !bit(smmuv3.VAX) || bit(smmuv3.GRAN64K) || bit(smmuv3.DS),
		"§6.3.6 DS needs VAX":                         !bit(smmuv3.DS) || bit(smmuv3.VAX),
		"§6.3.6 DS needs 4 or 16 KiB":                 !bit(smmuv3.DS) || bit(smmuv3.GRAN4K) || bit(smmuv3.GRAN16K),
		"§6.3.6 4 KiB for AArch32 tables":             v(smmuv3.TTF)&1 == 0 || bit(smmuv3.GRAN4K),
		"§6.3.6 52-bit output not in SMMUv3.0":        minor > 0 || v(smmuv3.OAS) <= 5,
		"§6.3.6 52-bit output needs 64 KiB or DS":     v(smmuv3.OAS) <= 5 || bit(smmuv3.GRAN64K) || bit(smmuv3.DS),
		"§6.3.6 a granule":                            bit(smmuv3.GRAN4K) || bit(smmuv3.GRAN16K) || bit(smmuv3.GRAN64K),
		"§6.3.7 bit 7 of Implementer is 0":            g.IIDR&0x80 == 0,
		"§6.3.8 SMMUv3.0 to SMMUv3.4":                 g.AIDR <= 4,
		"§2.9 SMMUv3.0 without SMMUv3.2":              minor >= 1 || !bit(smmuv3.STT) && !bit(smmuv3.RIL) && !bit(smmuv3.BBML) && !bit(smmuv3.FWB),
		"§2.9 SMMUv3.1 without SMMUv3.3":              minor >= 2 || !bit(smmuv3.E0PD) && !bit(smmuv3.PTWNNC),
		"§2.9 SMMUv3.2 without SMMUv3.4":              minor >= 3 || !bit(smmuv3.EPAN) && !bit(smmuv3.DS) && !bit(smmuv3.THE) && !bit(smmuv3.AIE) && !bit(smmuv3.PASIDTT),
		"§2.9 SMMUv3.2 without flags of tables":       minor >= 3 || v(smmuv3.HTTU) <= 2,
		"§6.3.1, §6.3.3 to §6.3.6 RES0":               g.IDR[0]&0xa0000000|g.IDR[2]&0xfffffc00|g.IDR[3]&0xff000043|g.IDR[5]&0x0000f208 == 0,
		"never: BTM, DORMHINT, Hyp":                   g.IDR[0]&(1<<5|1<<8|1<<9) == 0,
		"§6.3.1 NS1ATS needs ATS and both stages":     !bit(smmuv3.NS1ATS) || bit(smmuv3.ATS) && bit(smmuv3.S1P) && bit(smmuv3.S2P),
		"never: SEV, ATOS, VMW, VATOS, RECERR, RME":   g.IDR[0]&(1<<14|1<<15|1<<17|1<<20|1<<23|1<<30) == 0,
		"never: overrides, presets, ECMDQ, BA_VATOS":  g.IDR[1]>>26 == 0 && g.IDR[2]&0x3ff == 0,
		"never: MPAM, DPT, S1PI, S2PI, S2PO, MTEPERM": g.IDR[3]&(1<<7|1<<15|7<<18|1<<22) == 0,
		"never: D128, 56-bit addresses":               g.IDR[5]&(1<<8|2<<10) == 0 && v(smmuv3.OAS) < 7,
		"never: forced stalls":                        v(smmuv3.StallModel) != 2,
		"never: split-stage ATS":                      !bit(smmuv3.S1P) || !bit(smmuv3.S2P) || !bit(smmuv3.ATS) || bit(smmuv3.NS1ATS),
		"never: AArch32 tables with stage 2":          !bit(smmuv3.S2P) || v(smmuv3.TTF) == 2,
		"AArch64 tables":                              v(smmuv3.TTF)&2 != 0,
		"up to 128 stalled transactions":              v(smmuv3.StallMax) <= 128,
	} {
		if !holds {
			broken = append(broken, text)
		}
	}
	return broken
}

// exceeds lists the fields in which the guest reads more than the host has.
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

// genHost draws ID registers: mostly those of hosts that can serve a guest, sometimes any words.
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
		// Make most policies valid.
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
			require.True(t, errors.Is(fe.Err, idr.ErrPolicy) || errors.Is(fe.Err, idr.ErrHost))
			if len(policy) == 0 && fe.Field != smmuv3.S1P { // only a policy enables stage 2 alone
				require.ErrorIs(t, err, idr.ErrHost, "without a policy, only a host can be the cause")
			}
			return
		}
		assert.Empty(t, illegal(r.IDs), "\n%s", r.Table())
		assert.NoError(t, idr.Check(r.IDs), "\n%s", r.Table())
		for f, v := range policy {
			assert.Equal(t, v, r.IDs.Get(f), "the policy's %v", f)
		}
		for i, h := range caps(hosts...) {
			assert.Empty(t, exceeds(r.IDs, h.IDs), "host %d", i)
			assert.NoError(t, idr.Satisfies(h, r.IDs), "host %d", i)
		}
	})
}

// Check accepts a register set exactly if illegal lists no rule. The sets come from Derive, with a
// few fields or bits changed.
func TestCheckAgreesWithTheArchitecture(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	seen := map[bool]int{}
	for range 15_000 {
		host := fullHost
		for _, f := range smmuv3.IDFields() {
			if rnd.IntN(4) == 0 {
				host.Set(f, rnd.Uint32()&f.Max())
			}
		}
		policy := idr.Policy{smmuv3.S2P: uint32(rnd.IntN(2))}
		r, err := idr.Derive(policy, caps(host)...)
		if err != nil {
			continue
		}
		for range rnd.IntN(4) {
			if rnd.IntN(8) == 0 {
				r.IDs.IDR[rnd.IntN(6)] ^= 1 << rnd.IntN(32)
				continue
			}
			f := smmuv3.IDField(rnd.IntN(len(smmuv3.IDFields())))
			r.IDs.Set(f, rnd.Uint32()&f.Max()&rnd.Uint32())
		}
		broken := illegal(r.IDs)
		err = idr.Check(r.IDs)
		seen[err == nil]++
		require.Equal(t, len(broken) == 0, err == nil, "%#x: %v, %v", r.IDs, broken, err)
		if err == nil {
			require.Nil(t, r.IDs.Illegal(), "%#x", r.IDs)
		}
	}
	assert.Greater(t, seen[true], 1_000)
	assert.Greater(t, seen[false], 1_000)
}

// If Satisfies accepts a host, the guest's registers do not exceed the host's.
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
