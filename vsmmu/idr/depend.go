package idr

import "github.com/go-vsmmu/vsmmuv3/smmuv3"

// noLimit is above the value of any field.
const noLimit = ^uint32(0)

// dependency bounds a field by the values of others.
type dependency struct {
	field   smmuv3.IDField
	section string
	why     string
	// limit is the largest value that the other fields leave to this one.
	limit func(g smmuv3.IDRegs) uint32
}

func (d *dependency) reason() string { return d.why + " (§" + d.section + ")" }

// without limits a field to v unless another is there.
func without(need smmuv3.IDField, v uint32) func(smmuv3.IDRegs) uint32 {
	return unless(func(g smmuv3.IDRegs) bool { return g.Has(need) }, v)
}

// unless limits a field to v unless ok.
func unless(ok func(smmuv3.IDRegs) bool, v uint32) func(smmuv3.IDRegs) uint32 {
	return func(g smmuv3.IDRegs) uint32 {
		if ok(g) {
			return noLimit
		}
		return v
	}
}

// dependencies stand in an order in which a field that others depend on has
// been settled before them. VAX and DS need each other: DS is settled with the
// VAX that the version allows, and only then VAX with that DS.
//
// That a field is RES0 without another field that is never shown is said by that
// field's row in rules.
var dependencies = []dependency{
	// What comes with a stage.
	{smmuv3.HAD, "6.3.4", "RES0 without S1P", without(smmuv3.S1P, 0)},
	{smmuv3.VMID16, "6.3.1", "has no meaning without S2P", without(smmuv3.S2P, 0)},
	{smmuv3.XNX, "6.3.4", "has no meaning without S2P", without(smmuv3.S2P, 0)},
	{smmuv3.PTWNNC, "6.3.4", "RES0 without S2P", without(smmuv3.S2P, 0)},
	// What a guest's own stage 2 does not go with here. Split-stage ATS, which is not
	// passed on, would be allowed by IDR0.NS1ATS = 0.
	{smmuv3.TTF, "5.2", "tables of a guest's stage 2 are AArch64 ones", unless(noStage2, smmuv3.TTFAArch64)},
	{smmuv3.ATS, "6.3.1", "ATS is not passed on where the guest has a stage 2", unless(noStage2, 0)},

	// AIDR promises the features that are mandatory in its version.
	{smmuv3.ArchMinor, "6.3.4", "SMMUv3.1 and later have HAD with S1P", unless(has(smmuv3.S1P, smmuv3.HAD), 0)},
	{smmuv3.ArchMinor, "6.3.4", "SMMUv3.1 and later have XNX with S2P", unless(has(smmuv3.S2P, smmuv3.XNX), 0)},
	{smmuv3.ArchMinor, "6.3.4", "SMMUv3.2 and later have RIL", without(smmuv3.RIL, 1)},
	{smmuv3.ArchMinor, "6.3.4", "SMMUv3.2 and later have BBML of 1 or more", without(smmuv3.BBML, 1)},
	{smmuv3.ArchMinor, "6.3.4", "SMMUv3.2 and later have FWB", without(smmuv3.FWB, 1)},
	{smmuv3.ArchMinor, "6.3.4", "SMMUv3.3 and later have E0PD", without(smmuv3.E0PD, 2)},
	{smmuv3.ArchMinor, "6.3.4", "SMMUv3.3 and later have PTWNNC with S2P", unless(has(smmuv3.S2P, smmuv3.PTWNNC), 2)},
	{smmuv3.ArchMinor, "6.3.4", "SMMUv3.4 and later have EPAN", without(smmuv3.EPAN, 3)},
	{smmuv3.ArchMinor, "6.3.4", "SMMUv3.4 and later have MTEPERM with S2P", unless(has(smmuv3.S2P, smmuv3.MTEPERM), 3)},

	// What is reserved in earlier versions. PBHA needs HAD besides, without
	// which the version is SMMUv3.0.
	{smmuv3.FWB, "2.4", "comes with SMMUv3.2", unless(func(g smmuv3.IDRegs) bool { return g.Version() >= 2 }, 0)},
	{smmuv3.XNX, "6.3.4", "RES0 in SMMUv3.0", without(smmuv3.ArchMinor, 0)},
	{smmuv3.PBHA, "6.3.4", "RES0 in SMMUv3.0", without(smmuv3.ArchMinor, 0)},
	{smmuv3.VAX, "6.3.6", "RES0 in SMMUv3.0", without(smmuv3.ArchMinor, 0)},
	{smmuv3.OAS, "6.3.6", "more than 48 bits is reserved in SMMUv3.0", without(smmuv3.ArchMinor, oas48)},

	{smmuv3.DS, "6.3.6", "needs VAX of 52 bits or more", without(smmuv3.VAX, 0)},
	{smmuv3.DS, "6.3.6", "needs GRAN4K or GRAN16K", unless(smallGranule, 0)},
	{smmuv3.VAX, "6.3.6", "more than 48 bits needs GRAN64K or DS", unless(bigGranuleOrDS, 0)},
	{smmuv3.OAS, "6.3.6", "more than 48 bits needs GRAN64K or DS", unless(bigGranuleOrDS, oas48)},
	{smmuv3.TTF, "6.3.6", "AArch32 tables need GRAN4K", without(smmuv3.GRAN4K, smmuv3.TTFAArch64)},

	{smmuv3.CD2L, "6.3.2", "there is one CD where SSIDSIZE is 0", without(smmuv3.SSIDSIZE, 0)},
	{smmuv3.PRI, "6.3.1", "RES0 without ATS", without(smmuv3.ATS, 0)},
	{smmuv3.PRIQS, "6.3.2", "RES0 without PRI", without(smmuv3.PRI, 0)},
	{smmuv3.PPS, "6.3.4", "RES0 without PRI", without(smmuv3.PRI, 0)},
	{smmuv3.PPS, "6.3.4", "RES0 where SSIDSIZE is 0", without(smmuv3.SSIDSIZE, 0)},
	{smmuv3.StallMax, "6.3.6", "RES0 where faults terminate", unless(func(g smmuv3.IDRegs) bool {
		return g.Get(smmuv3.StallModel) != smmuv3.StallTerminate
	}, 0)},
	{smmuv3.PASIDTT, "6.3.4", "RES0 without ATS", without(smmuv3.ATS, 0)},
	{smmuv3.PASIDTT, "6.3.4", "RES0 where SSIDSIZE is 0", without(smmuv3.SSIDSIZE, 0)},
	{smmuv3.SIDSIZE, "6.3.2", "7 bits or more need two-level stream tables", without(smmuv3.STLevel, 6)},
}

// has reports whether there is a feature, which is mandatory with a stage, or not the
// stage.
func has(stage, feature smmuv3.IDField) func(smmuv3.IDRegs) bool {
	return func(g smmuv3.IDRegs) bool { return !g.Has(stage) || g.Has(feature) }
}

func noStage2(g smmuv3.IDRegs) bool { return !g.Has(smmuv3.S2P) }

func smallGranule(g smmuv3.IDRegs) bool { return g.Has(smmuv3.GRAN4K) || g.Has(smmuv3.GRAN16K) }

func bigGranuleOrDS(g smmuv3.IDRegs) bool { return g.Has(smmuv3.GRAN64K) || g.Has(smmuv3.DS) }

// unmet returns the first thing without which there is nothing to show a guest,
// with the field to blame, or ok.
func unmet(g smmuv3.IDRegs) (f smmuv3.IDField, why string, ok bool) {
	switch {
	case !g.Has(smmuv3.S1P) && !g.Has(smmuv3.S2P):
		return smmuv3.S1P, "there is neither stage 1 nor, unless the policy asks for it, stage 2", false
	case g.Get(smmuv3.TTF)&smmuv3.TTFAArch64 == 0:
		return smmuv3.TTF, "drivers for AArch64 need AArch64 tables", false
	case !smallGranule(g) && !g.Has(smmuv3.GRAN64K):
		return smmuv3.GRAN4K, "no granule is left: neither GRAN4K, GRAN16K nor GRAN64K", false
	}
	return 0, "", true
}
