package smmuv3

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// ID registers are legal if the architecture allows them, even if this module would not offer them
// to a guest.
func TestIDRegsLegal(t *testing.T) {
	all := AllFeatures()
	for name, r := range map[string]IDRegs{
		"every feature":            all,
		"QEMU's with stage 1":      {IDR: [6]uint32{0x0d40_101a, 0x0273_0010, 0, 0x1404, 0, 0x74}, IIDR: 0, AIDR: 1},
		"QEMU's with stage 2":      {IDR: [6]uint32{0x0d44_1019, 0x0273_0010, 0, 0x1410, 0, 0x74}, IIDR: 0, AIDR: 1},
		"BTM, SEV and MPAM":        ids(S1P, 1, TTF, 2, BTM, 1, SEV, 1, MPAM, 1, GRAN4K, 1, OAS, 5),
		"bits of no field":         {IDR: [6]uint32{0: 0x8000_000a, 2: ^uint32(0), 3: 0xff00_0043, 4: ^uint32(0), 5: 0x1d}, IIDR: ^uint32(0)},
		"a product of any number":  {IDR: [6]uint32{0: 0xa, 5: 0x15}, IIDR: 0xffff_fffb},
		"SMMUv3.9":                 all.with(ArchMinor, 9),
		"stalls, no STALL_MAX":     all.with(StallMax, 0),
		"PRIQS without PRI":        ids(S1P, 1, TTF, 2, PRIQS, 31),
		"Hyp of SMMUv3.1 is there": ids(S1P, 1, S2P, 1, TTF, 2, Hyp, 1, HAD, 1, XNX, 1, ArchMinor, 1),
	} {
		assert.Nil(t, r.Illegal(), "%s: %v", name, r.Illegal())
	}
}

// Each rule of §6.3.1 to §6.3.8 has a case that breaks it by a change to legal registers.
func TestIDRegsIllegal(t *testing.T) {
	all := AllFeatures()
	v30 := ids(S1P, 1, S2P, 1, TTF, 2, GRAN4K, 1, OAS, 5)
	broken := map[*Rule]bool{}
	for _, c := range []struct {
		ids  IDRegs
		want string
	}{
		{all.with(TTF, 0), "TTF is a reserved value (§6.3.1)"},
		{all.with(TTENDIAN, 1), "TTENDIAN is a reserved value (§6.3.1)"},
		{all.with(StallModel, 3), "STALL_MODEL is a reserved value (§6.3.1)"},
		{all.with(STLevel, 2), "ST_LEVEL is a reserved value (§6.3.1)"},
		{all.with(STLevel, 3), "ST_LEVEL is a reserved value (§6.3.1)"},
		{v30.with(Hyp, 1).with(S2P, 0), "Hyp needs S1P and S2P (§6.3.1)"},
		{v30.with(ATS, 1).with(NS1ATS, 1).with(S2P, 0), "NS1ATS needs ATS and S1P and S2P (§6.3.1)"},
		{v30.with(PRI, 1), "PRI needs ATS (§6.3.1)"},
		{v30.with(ATSRECERR, 1), "ATSRECERR needs ATS (§6.3.1)"},
		{v30.with(VMW, 1).with(S2P, 0), "VMW needs S2P (§6.3.1)"},
		{v30.with(VATOS, 1), "VATOS needs ATOS and S1P and S2P (§6.3.1)"},
		{all.with(Hyp, 0), "SMMUv3.2 and later have Hyp with S1P and S2P (§6.3.1)"},
		{all.with(SIDSIZE, 33), "SIDSIZE is a reserved value (§6.3.2)"},
		{all.with(SSIDSIZE, 21), "SSIDSIZE is a reserved value (§6.3.2)"},
		{all.with(CMDQS, 20), "CMDQS is a reserved value (§6.3.2)"},
		{all.with(EVENTQS, 20), "EVENTQS is a reserved value (§6.3.2)"},
		{all.with(PRIQS, 20), "PRIQS is a reserved value (§6.3.2)"},
		{all.with(STLevel, 0).with(SIDSIZE, 7), "SIDSIZE of 7 or more needs ST_LEVEL (§6.3.2)"},
		{all.with(MSI, 0), "ECMDQ needs COHACC and MSI (§6.3.2)"},
		{all.with(QueuesPreset, 1), "ECMDQ excludes QUEUES_PRESET (§6.3.2)"},
		{all.with(REL, 1), "REL needs TABLES_PRESET or QUEUES_PRESET (§6.3.2)"},
		{v30.with(HAD, 1).with(S1P, 0), "HAD needs S1P (§6.3.4)"},
		{v30.with(ArchMinor, 1), "SMMUv3.1 and later have HAD with S1P (§6.3.4)"},
		{v30.with(HAD, 1).with(PBHA, 1), "PBHA is RES0 in SMMUv3.0 (§6.3.4)"},
		{v30.with(S1P, 0).with(XNX, 1).with(ArchMinor, 1).with(PBHA, 1), "PBHA needs HAD (§6.3.4)"},
		{v30.with(XNX, 1), "XNX is RES0 in SMMUv3.0 (§6.3.4)"},
		{v30.with(ArchMinor, 1).with(HAD, 1), "SMMUv3.1 and later have XNX with S2P (§6.3.4)"},
		{all.with(SSIDSIZE, 0), "PPS needs PRI and SSIDSIZE (§6.3.4)"},
		{all.with(FWB, 0), "SMMUv3.2 and later have FWB with S2P (§6.3.4)"},
		{all.with(RIL, 0), "SMMUv3.2 and later have RIL (§6.3.4)"},
		{all.with(BBML, 0), "SMMUv3.2 and later have BBML (§6.3.4)"},
		{all.with(BBML, 3), "BBML is a reserved value (§6.3.4)"},
		{all.with(E0PD, 0), "SMMUv3.3 and later have E0PD (§6.3.4)"},
		{v30.with(S2P, 0).with(PTWNNC, 1), "PTWNNC needs S2P (§6.3.4)"},
		{all.with(PTWNNC, 0), "SMMUv3.3 and later have PTWNNC with S2P (§6.3.4)"},
		{v30.with(PASIDTT, 1), "PASIDTT needs ATS and SSIDSIZE (§6.3.4)"},
		{all.with(EPAN, 0), "SMMUv3.4 and later have EPAN (§6.3.4)"},
		{v30.with(S1P, 0).with(S1PI, 1), "S1PI needs S1P (§6.3.4)"},
		{v30.with(S2P, 0).with(S2PI, 1), "S2PI needs S2P (§6.3.4)"},
		{v30.with(S1P, 0).with(THE, 1), "THE needs S1P (§6.3.4)"},
		{all.with(S2PI, 0), "THE needs S2PI with S2P (§6.3.4)"},
		{v30.with(S2P, 0).with(MTEPERM, 1), "MTEPERM needs S2P (§6.3.4)"},
		{all.with(MTEPERM, 0), "SMMUv3.4 and later have MTEPERM with S2P (§6.3.4)"},
		{v30.with(S1P, 0).with(AIE, 1), "AIE needs S1P (§6.3.4)"},
		{v30.with(OAS, 6), "OAS is a reserved value in this version (§6.3.6)"},
		{all.with(ArchMinor, 3), "OAS is a reserved value in this version (§6.3.6)"},
		{all.with(OAS, 6).with(GRAN64K, 0).with(DS, 0).with(D128, 0), "OAS of 52 bits needs GRAN64K, DS or D128 (§6.3.6)"},
		{all.with(VAX, 1).with(D128, 0), "OAS of 56 bits needs D128 (§6.3.6)"},
		{v30.with(TTF, 3).with(GRAN4K, 0), "TTF with AArch32 needs GRAN4K (§6.3.6)"},
		{v30.with(DS, 1), "DS needs VAX (§6.3.6)"},
		{all.with(TTF, 2).with(GRAN4K, 0).with(GRAN16K, 0), "DS needs GRAN4K or GRAN16K (§6.3.6)"},
		{v30.with(VAX, 1), "VAX is RES0 in SMMUv3.0 (§6.3.6)"},
		{all.with(VAX, 3), "VAX is a reserved value (§6.3.6)"},
		{all.with(GRAN64K, 0).with(DS, 0), "VAX needs GRAN64K or DS (§6.3.6)"},
		{all.with(OAS, 6).with(D128, 0), "VAX of 56 bits needs D128 (§6.3.6)"},
		{all.with(ArchMajor, 1), "ArchMajor is a reserved value (§6.3.8)"},
	} {
		rule := c.ids.Illegal()
		assert.Equal(t, c.want, rule.String())
		broken[rule] = true
	}
	for i := range idRules {
		assert.True(t, broken[&idRules[i].Rule], "no case breaks: %v", &idRules[i].Rule)
	}
}

// A structure that is legal on some SMMU is legal on an SMMU with every feature.
func TestAllFeatures(t *testing.T) {
	all := AllFeatures()
	for _, c := range []Command{
		NewTLBIEL2All(), NewTLBIEL2ASID(1), NewTLBIEL2VA(1, 2, true), NewTLBIEL2VAA(1, true), NewCfgiVMSPIDM(1), NewTLBIS12VMAll(1),
		NewTLBIS2IPA(1, 2, true), NewATCInv(1, 2, 3), NewPRIResp(1, 2, PRGSuccess), NewResume(1, 2, ResumeRetry), NewDPTIAll(), {0x73},
	} {
		assert.Nil(t, c.Illegal(&all), c.String())
	}
	for _, op := range []uint64{0x18, 0x1a, 0x50, 0x51, 0x52, 0x53, 0x58, 0x5a, 0x60} {
		rule := Command{op}.Illegal(&all)
		assert.NotNil(t, rule, "%v", Opcode(op))
		assert.False(t, rule.Choice, "%v", Opcode(op))
	}
}

// IllegalKnown skips rules that read an unknown field: without AIDR, rules on the version; without
// IDR5, rules on its fields.
func TestIDRegsIllegalKnown(t *testing.T) {
	r := ids(S1P, 1, TTF, 3, HAD, 1, XNX, 1, PBHA, 1, VAX, 1, GRAN64K, 1, OAS, 6) // AIDR = 0
	assert.NotNil(t, r.Illegal())
	assert.Equal(t, "TTF with AArch32 needs GRAN4K (§6.3.6)", r.IllegalKnown(func(f IDField) bool { return f.Register() != "AIDR" }).String())
	assert.Nil(t, r.IllegalKnown(func(f IDField) bool { return f.Register() != "AIDR" && f.Register() != "IDR5" }))
}

// A rule names every field that it reads: other fields do not change its verdict.
func TestIDRulesNameTheirFields(t *testing.T) {
	all, none := AllFeatures(), IDRegs{}
	for i := range idRules {
		rule := &idRules[i]
		for _, base := range []IDRegs{all, none} {
			for n := range 1 << min(2*len(rule.of), 10) {
				here, there := base, IDRegs{}
				for j, f := range rule.of {
					v := []uint32{0, 1, 2, f.Max()}[n>>(2*j)&3]
					here.Set(f, v)
					there.Set(f, v)
				}
				assert.Equal(t, rule.broken(&here), rule.broken(&there), "%v: %+v", &rule.Rule, here)
			}
		}
	}
}
