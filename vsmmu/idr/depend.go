package idr

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// noLimit is greater than every field value.
const noLimit = ^uint32(0)

// dependency limits a field by the values of other fields.
type dependency struct {
	field   smmuv3.IDField
	section string
	why     string
	// limit returns the largest value of this field that the other fields permit.
	limit func(g smmuv3.IDRegs) uint32
	// version marks a rule that CheckDevice does not apply.
	version bool
}

func (d *dependency) reason() string { return d.why + " (§" + d.section + ")" }

func dep(field smmuv3.IDField, section, why string, limit func(smmuv3.IDRegs) uint32) dependency {
	return dependency{field: field, section: section, why: why, limit: limit}
}

// without returns a limit of v for a field unless another field is present.
func without(need smmuv3.IDField, v uint32) func(smmuv3.IDRegs) uint32 {
	return unless(func(g smmuv3.IDRegs) bool { return g.Has(need) }, v)
}

// unless returns a limit of v for a field unless ok holds.
func unless(ok func(smmuv3.IDRegs) bool, v uint32) func(smmuv3.IDRegs) uint32 {
	return func(g smmuv3.IDRegs) uint32 {
		if ok(g) {
			return noLimit
		}
		return v
	}
}

// before returns a limit of v for a field in SMMUv3 versions below SMMUv3.minor.
func before(minor, v uint32) func(smmuv3.IDRegs) uint32 {
	return unless(func(g smmuv3.IDRegs) bool { return g.Version() >= minor }, v)
}

// later limits a feature of SMMUv3.minor to v in versions before SMMUv3.(minor-1).
func later(minor uint32, field smmuv3.IDField, v uint32) dependency {
	return dependency{
		field: field, section: "2.9", limit: before(minor-1, v), version: true,
		why: fmt.Sprintf("a feature of SMMUv3.%d, which needs SMMUv3.%d or later", minor, minor-1),
	}
}

// dependencies are the rules between fields. Derive applies them, and Check enforces them. Their
// order resolves every field before the fields that depend on it. VAX and DS depend on each other:
// Derive resolves DS with the VAX of the version, and then VAX with the resulting DS.
//
// A field that depends on a feature that no guest reads has no row here. Its row in rules covers
// this.
var dependencies = []dependency{
	// Fields that depend on a stage.
	dep(smmuv3.HAD, "6.3.4", "0 without S1P", without(smmuv3.S1P, 0)),
	dep(smmuv3.AIE, "6.3.4", "RES0 without S1P", without(smmuv3.S1P, 0)),
	dep(smmuv3.THE, "6.3.4", "RES0 without S1P", without(smmuv3.S1P, 0)),
	dep(smmuv3.THE, "6.3.4", "needs S2PI with S2P", unless(noStage2, 0)),
	dep(smmuv3.PTWNNC, "6.3.4", "RES0 without S2P", without(smmuv3.S2P, 0)),
	// Features that the device does not combine with a guest's own stage 2. IDR0.NS1ATS = 0 would
	// allow split-stage ATS, which the device does not forward: the guest has ATS with both stages
	// only if the host's NS1ATS is 1.
	dep(smmuv3.TTF, "5.2", "a guest's stage 2 has AArch64 tables", unless(noStage2, smmuv3.TTFAArch64)),
	dep(smmuv3.NS1ATS, "6.3.1", "RES0 without ATS, S1P and S2P", unless(bothStagesATS, 0)),
	dep(smmuv3.ATS, "6.3.1", "both stages with ATS, without NS1ATS, promise split-stage ATS", unless(noSplitATS, 0)),

	// A version promises its mandatory features.
	dep(smmuv3.ArchMinor, "6.3.4", "SMMUv3.1 and later have HAD with S1P", unless(has(smmuv3.S1P, smmuv3.HAD), 0)),
	dep(smmuv3.ArchMinor, "6.3.4", "SMMUv3.1 and later have XNX with S2P", unless(has(smmuv3.S2P, smmuv3.XNX), 0)),
	dep(smmuv3.ArchMinor, "6.3.4", "SMMUv3.2 and later have RIL", without(smmuv3.RIL, 1)),
	dep(smmuv3.ArchMinor, "6.3.4", "SMMUv3.2 and later have BBML of 1 or more", without(smmuv3.BBML, 1)),
	dep(smmuv3.ArchMinor, "6.3.4", "SMMUv3.2 and later have FWB", without(smmuv3.FWB, 1)),
	{smmuv3.ArchMinor, "6.3.1", "SMMUv3.2 and later have Hyp with S1P and S2P", unless(oneStage, 1), true},
	dep(smmuv3.ArchMinor, "6.3.4", "SMMUv3.3 and later have E0PD", without(smmuv3.E0PD, 2)),
	dep(smmuv3.ArchMinor, "6.3.4", "SMMUv3.3 and later have PTWNNC with S2P",
		unless(has(smmuv3.S2P, smmuv3.PTWNNC), 2)),
	dep(smmuv3.ArchMinor, "6.3.4", "SMMUv3.4 and later have EPAN", without(smmuv3.EPAN, 3)),
	dep(smmuv3.ArchMinor, "6.3.4", "SMMUv3.4 and later have MTEPERM with S2P",
		unless(has(smmuv3.S2P, smmuv3.MTEPERM), 3)),

	// Fields that are reserved in SMMUv3.0.
	dep(smmuv3.XNX, "6.3.4", "RES0 in SMMUv3.0", before(1, 0)),
	dep(smmuv3.PBHA, "6.3.4", "RES0 in SMMUv3.0", before(1, 0)),
	dep(smmuv3.PBHA, "6.3.4", "needs HAD", without(smmuv3.HAD, 0)),
	dep(smmuv3.VAX, "6.3.6", "RES0 in SMMUv3.0", before(1, 0)),
	dep(smmuv3.OAS, "6.3.6", "more than 48 bits is reserved in SMMUv3.0", before(1, oas48)),

	// A version has no feature of the version after the next (§2.9). The features of each are in
	// §2.4, §2.5 and §2.8.
	later(2, smmuv3.FWB, 0),
	later(2, smmuv3.STT, 0),
	later(2, smmuv3.RIL, 0),
	later(2, smmuv3.BBML, 0),
	later(3, smmuv3.E0PD, 0),
	later(3, smmuv3.PTWNNC, 0),
	later(4, smmuv3.HTTU, httuDirty),
	later(4, smmuv3.EPAN, 0),
	later(4, smmuv3.PASIDTT, 0),
	later(4, smmuv3.THE, 0),
	later(4, smmuv3.AIE, 0),
	later(4, smmuv3.DS, 0),

	dep(smmuv3.DS, "6.3.6", "needs VAX of 52 bits or more", without(smmuv3.VAX, 0)),
	dep(smmuv3.DS, "6.3.6", "needs GRAN4K or GRAN16K", unless(smallGranule, 0)),
	dep(smmuv3.VAX, "6.3.6", "more than 48 bits needs GRAN64K or DS", unless(bigGranuleOrDS, 0)),
	dep(smmuv3.OAS, "6.3.6", "more than 48 bits needs GRAN64K or DS", unless(bigGranuleOrDS, oas48)),
	dep(smmuv3.TTF, "6.3.6", "AArch32 tables need GRAN4K", without(smmuv3.GRAN4K, smmuv3.TTFAArch64)),

	dep(smmuv3.PRI, "6.3.1", "RES0 without ATS", without(smmuv3.ATS, 0)),
	dep(smmuv3.PPS, "6.3.4", "RES0 without PRI", without(smmuv3.PRI, 0)),
	dep(smmuv3.PPS, "6.3.4", "RES0 if SSIDSIZE is 0", without(smmuv3.SSIDSIZE, 0)),
	dep(smmuv3.PASIDTT, "6.3.4", "RES0 without ATS", without(smmuv3.ATS, 0)),
	dep(smmuv3.PASIDTT, "6.3.4", "RES0 if SSIDSIZE is 0", without(smmuv3.SSIDSIZE, 0)),
	dep(smmuv3.StallMax, "6.3.6", "RES0 if faults terminate", unless(stalls, 0)),
	dep(smmuv3.SIDSIZE, "6.3.2", "7 bits or more need two-level stream tables", without(smmuv3.STLevel, 6)),
}

// preferences lists fields that have no effect without another field. Derive then sets them to 0.
// The architecture and Check allow other values.
var preferences = []dependency{
	dep(smmuv3.VMID16, "6.3.1", "has no meaning without S2P", without(smmuv3.S2P, 0)),
	dep(smmuv3.XNX, "6.3.4", "has no meaning without S2P", without(smmuv3.S2P, 0)),
	dep(smmuv3.FWB, "6.3.4", "has no meaning without S2P, and is mandatory only from SMMUv3.2 on",
		unless(stage2Or32, 0)),
	dep(smmuv3.CD2L, "6.3.2", "has no meaning if SSIDSIZE is 0", without(smmuv3.SSIDSIZE, 0)),
	dep(smmuv3.PRIQS, "6.3.2", "has no meaning without PRI", without(smmuv3.PRI, 0)),
}

// has returns a condition that holds if the stage is absent or the feature is present.
func has(stage, feature smmuv3.IDField) func(smmuv3.IDRegs) bool {
	return func(g smmuv3.IDRegs) bool { return !g.Has(stage) || g.Has(feature) }
}

func noStage2(g smmuv3.IDRegs) bool { return !g.Has(smmuv3.S2P) }

func bothStagesATS(g smmuv3.IDRegs) bool {
	return g.Has(smmuv3.ATS) && g.Has(smmuv3.S1P) && g.Has(smmuv3.S2P)
}

func noSplitATS(g smmuv3.IDRegs) bool { return oneStage(g) || g.Has(smmuv3.NS1ATS) }

func oneStage(g smmuv3.IDRegs) bool { return !g.Has(smmuv3.S1P) || !g.Has(smmuv3.S2P) }

func stage2Or32(g smmuv3.IDRegs) bool { return g.Has(smmuv3.S2P) || g.Version() >= 2 }

func smallGranule(g smmuv3.IDRegs) bool { return g.Has(smmuv3.GRAN4K) || g.Has(smmuv3.GRAN16K) }

func bigGranuleOrDS(g smmuv3.IDRegs) bool { return g.Has(smmuv3.GRAN64K) || g.Has(smmuv3.DS) }

func stalls(g smmuv3.IDRegs) bool { return g.Get(smmuv3.StallModel) != smmuv3.StallTerminate }

// unmet returns the first violated requirement that Derive cannot meet by lowering a field, and the
// field that violates it. ok is true if all requirements are met.
func unmet(g smmuv3.IDRegs) (f smmuv3.IDField, why string, ok bool) {
	switch {
	case !g.Has(smmuv3.S1P) && !g.Has(smmuv3.S2P):
		return smmuv3.S1P, "there is no stage: neither stage 1 nor stage 2 (the policy can ask for S2P)", false
	case g.Get(smmuv3.TTF)&smmuv3.TTFAArch64 == 0:
		return smmuv3.TTF, "drivers for AArch64 need AArch64 tables", false
	case !smallGranule(g) && !g.Has(smmuv3.GRAN64K):
		return smmuv3.GRAN4K, "no granule is left: neither GRAN4K, GRAN16K nor GRAN64K", false
	case stalls(g) && !g.Has(smmuv3.StallMax):
		return smmuv3.StallModel, "a fault may not stall if STALL_MAX is 0 (§6.3.6)", false
	}
	return 0, "", true
}
