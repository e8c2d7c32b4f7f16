package idr

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

func TestCheck(t *testing.T) {
	// S1P, AArch64 tables, CD2L, terminate model, two-level stream tables; SSIDSIZE 10, SIDSIZE 16;
	// 44 bits, all granules.
	good := smmuv3.IDRegs{IDR: [6]uint32{0: 0x0908001a, 1: 0x00000290, 5: 0x00000074}}
	require.NoError(t, Check(good))
	both := good
	both.Set(smmuv3.S2P, 1)
	require.NoError(t, Check(both))
	both.Set(smmuv3.S1P, 0)
	require.NoError(t, Check(both), "stage 2 alone")
	for _, tc := range []struct {
		name  string
		field smmuv3.IDField
		value uint32
	}{
		{"no stage 1", smmuv3.S1P, 0},
		{"a hypervisor's contexts", smmuv3.Hyp, 1},
		{"RIL in SMMUv3.0", smmuv3.RIL, 1},
		{"E0PD in SMMUv3.0", smmuv3.E0PD, 1},
		{"EPAN in SMMUv3.0", smmuv3.EPAN, 1},
		{"stalls, none at a time", smmuv3.StallModel, 0},
		{"stalled transactions if faults terminate", smmuv3.StallMax, 1},
		{"PBHA in SMMUv3.0", smmuv3.PBHA, 1},
		{"PTWNNC without stage 2", smmuv3.PTWNNC, 1},
		{"page requests without ATS", smmuv3.PRI, 1},
		{"no AArch64 tables", smmuv3.TTF, 1},
		{"a reserved TTF", smmuv3.TTF, 0},
		{"a stall model that the device does not implement", smmuv3.StallModel, 2},
		{"a stream table level that does not exist", smmuv3.STLevel, 2},
		{"SSIDSIZE above 20", smmuv3.SSIDSIZE, 21},
		{"CMDQS above 19", smmuv3.CMDQS, 20},
		{"a version without its mandatory features", smmuv3.ArchMinor, 1},
		{"linear tables for 16-bit StreamIDs", smmuv3.STLevel, 0},
		{"more than 48 bits in SMMUv3.0", smmuv3.OAS, 6},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bad := good
			bad.Set(tc.field, tc.value)
			err := Check(bad)
			assert.ErrorIs(t, err, ErrPolicy)
			var fe *FieldError
			assert.ErrorAs(t, err, &fe)
		})
	}
}

// Check refuses bits that §6.3.1 to §6.3.8 define as Reserved, RES0.
func TestCheckRefusesReservedBits(t *testing.T) {
	good := smmuv3.IDRegs{IDR: [6]uint32{0: 0x0908001a, 1: 0x00000290, 5: 0x00000074}}
	for i, reserved := range [6]uint32{0: 0xa000_0000, 2: 0xffff_fc00, 3: 0xff00_0043, 5: 0x0000_f208} {
		for bit := range 32 {
			bad := good
			bad.IDR[i] |= 1 << bit
			if reserved>>bit&1 == 0 || bad == good {
				continue
			}
			err := Check(bad)
			assert.ErrorIs(t, err, ErrPolicy, "IDR%d[%d]", i, bit)
			assert.ErrorContains(t, err, fmt.Sprintf("idr: IDR%d has reserved bits %#x set", i, 1<<bit))
		}
	}
	for bit := 8; bit < 32; bit++ {
		bad := good
		bad.AIDR |= 1 << bit
		assert.ErrorContains(t, Check(bad), fmt.Sprintf("idr: AIDR has reserved bits %#x set", 1<<bit))
	}
}

// The architecture allows values of fields that have no effect, and any value of IDR4.
func TestCheckAcceptsFieldsWithoutEffect(t *testing.T) {
	good := smmuv3.IDRegs{IDR: [6]uint32{0: 0x0908001a, 1: 0x00000290, 5: 0x00000074}}
	for name, edit := range map[string]func(*smmuv3.IDRegs){
		"16-bit VMIDs without stage 2":              func(r *smmuv3.IDRegs) { r.Set(smmuv3.VMID16, 1) },
		"PRI queue without PRI":                     func(r *smmuv3.IDRegs) { r.Set(smmuv3.PRIQS, 19) },
		"two-level CD tables without substreams":    func(r *smmuv3.IDRegs) { r.Set(smmuv3.SSIDSIZE, 0) },
		"FWB and XNX of SMMUv3.1 without stage 2":   func(r *smmuv3.IDRegs) { r.AIDR, r.IDR[3] = 1, 1<<2|1<<4|1<<8 },
		"HAD, which is optional in SMMUv3.0":        func(r *smmuv3.IDRegs) { r.Set(smmuv3.HAD, 1) },
		"IMPLEMENTATION DEFINED IDR4":               func(r *smmuv3.IDRegs) { r.IDR[4] = 0xdead_beef },
		"one stream":                                func(r *smmuv3.IDRegs) { r.Set(smmuv3.SIDSIZE, 0) },
		"stage 2 with FWB in SMMUv3.1, without Hyp": func(r *smmuv3.IDRegs) { r.Set(smmuv3.S2P, 1); r.AIDR, r.IDR[3] = 1, 1<<2|1<<4|1<<8 },
	} {
		t.Run(name, func(t *testing.T) {
			regs := good
			edit(&regs)
			assert.NoError(t, Check(regs))
		})
	}
}

func TestEveryFieldHasARule(t *testing.T) {
	require.Len(t, rules, len(smmuv3.IDFields()))
	for _, f := range smmuv3.IDFields() {
		r := &rules[f]
		assert.NotEmpty(t, r.why, "%v", f)
		assert.False(t, r.isReserved(r.offer) && r.meet == nil, "%v: the default is reserved", f)
		assert.LessOrEqual(t, r.offer, f.Max(), "%v", f)
	}
	for _, table := range [][]dependency{dependencies, preferences} {
		for _, d := range table {
			assert.NotEmpty(t, d.why, "%v", d.field)
			assert.Regexp(t, `^\d+(\.\d+)+$`, d.section, "%v: %s", d.field, d.why)
		}
	}
}

func TestCheckDeviceAllowsFeaturesOfOtherVersions(t *testing.T) {
	good := smmuv3.IDRegs{IDR: [6]uint32{0: 0x0908001a, 1: 0x00000290, 5: 0x00000074}}
	for name, edit := range map[string]func(*smmuv3.IDRegs){
		"EPAN in SMMUv3.0":                  func(r *smmuv3.IDRegs) { r.Set(smmuv3.EPAN, 1) },
		"flags of tables in SMMUv3.0":       func(r *smmuv3.IDRegs) { r.Set(smmuv3.HTTU, 3) },
		"SMMUv3.2 with both stages, no Hyp": func(r *smmuv3.IDRegs) { r.Set(smmuv3.S2P, 1); r.AIDR, r.IDR[3] = 2, 1<<2|1<<4|1<<8|1<<10|2<<11 },
	} {
		t.Run(name, func(t *testing.T) {
			regs := good
			edit(&regs)
			assert.ErrorIs(t, Check(regs), ErrPolicy)
			assert.NoError(t, CheckDevice(regs))
		})
	}
	for name, edit := range map[string]func(*smmuv3.IDRegs){
		"a version without its mandatory features": func(r *smmuv3.IDRegs) { r.Set(smmuv3.ArchMinor, 1) },
		"a reserved bit":                func(r *smmuv3.IDRegs) { r.IDR[3] |= 1 },
		"a feature that no guest reads": func(r *smmuv3.IDRegs) { r.Set(smmuv3.BTM, 1) },
		"stalls, none at a time":        func(r *smmuv3.IDRegs) { r.Set(smmuv3.StallModel, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			regs := good
			edit(&regs)
			assert.ErrorIs(t, CheckDevice(regs), ErrPolicy)
		})
	}
}
