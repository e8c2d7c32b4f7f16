package idr_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// labHost has the registers that IOMMU_GET_HW_INFO of Linux 7.3 returns for QEMU 10.0's nested
// SMMUv3.
var labHost = smmuv3.IDRegs{
	IDR:  [6]uint32{0x0d44101b, 0x02730010, 0x00000000, 0x00001414, 0x00000000, 0x00000074},
	AIDR: 0x01,
}

// fullHost is an SMMUv3.4 with nearly every feature: all of IDR0 but AArch32 tables, mixed
// endianness, both fault models, BBML 2, 56-bit addresses.
var fullHost = smmuv3.IDRegs{
	IDR:  [6]uint32{0x489ffffb, 0x8c739d20, 0x00000002, 0x00fff7bc, 0xdeadbeef, 0x010009f7},
	IIDR: 0x4873043b,
	AIDR: 0x04,
}

// smallHost is the smallest host that can serve a guest: 32-bit addresses, one granule.
var smallHost = smmuv3.IDRegs{IDR: [6]uint32{0: 0x0000000a, 5: 0x00000020}}

func caps(hosts ...smmuv3.IDRegs) []bridge.Capabilities {
	all := make([]bridge.Capabilities, len(hosts))
	for i, h := range hosts {
		all[i].IDs = h
	}
	return all
}

// with returns registers with some fields replaced.
func with(regs smmuv3.IDRegs, fields idr.Policy) smmuv3.IDRegs {
	for f, v := range fields {
		regs.Set(f, v)
	}
	return regs
}

func field(t *testing.T, r idr.Result, f smmuv3.IDField) idr.Field {
	t.Helper()
	require.Equal(t, f, r.Fields[f].Field)
	return r.Fields[f]
}

func TestDeriveOfKnownHosts(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy idr.Policy
		hosts  []smmuv3.IDRegs
		want   smmuv3.IDRegs
	}{
		{
			// Without S2P, VMID16 and XNX; queues of 256 entries.
			name: "QEMU's SMMU under Linux", hosts: []smmuv3.IDRegs{labHost},
			want: smmuv3.IDRegs{IDR: [6]uint32{0x0d40101a, 0x01080010, 0, 0x00001404, 0, 0x00000074}, AIDR: 1},
		},
		{
			name: "an SMMUv3.4 with nearly every feature", hosts: []smmuv3.IDRegs{fullHost},
			want: smmuv3.IDRegs{IDR: [6]uint32{0x090914da, 0x01084510, 0, 0x00a3372c, 0, 0x000004f6}, AIDR: 4},
		},
		{
			name: "the smallest host", hosts: []smmuv3.IDRegs{smallHost},
			want: smmuv3.IDRegs{IDR: [6]uint32{0x0900000a, 0x01080010, 0, 0, 0, 0x00000020}},
		},
		{
			// The other host has every feature of QEMU's SMMU.
			name: "two hosts", hosts: []smmuv3.IDRegs{fullHost, labHost},
			want: smmuv3.IDRegs{IDR: [6]uint32{0x0d40101a, 0x01080010, 0, 0x00001404, 0, 0x00000074}, AIDR: 1},
		},
		{
			// S2P brings VMID16, XNX and FWB, and excludes ATS, PRI, PPS and PASIDTT. Without Hyp
			// there is no SMMUv3.2, and so no feature of SMMUv3.3 or later.
			name: "a stage 2", policy: idr.Policy{smmuv3.S2P: 1}, hosts: []smmuv3.IDRegs{fullHost},
			want: smmuv3.IDRegs{IDR: [6]uint32{0x090d1c9b, 0x01084510, 0, 0x0000173c, 0, 0x00000476}, AIDR: 1},
		},
		{
			// Without S1P there is no HAD, PBHA, THE and AIE. Without MTEPERM there is no SMMUv3.4.
			name: "stage 2 alone", policy: idr.Policy{smmuv3.S2P: 1, smmuv3.S1P: 0}, hosts: []smmuv3.IDRegs{fullHost},
			want: smmuv3.IDRegs{IDR: [6]uint32{0x090d14d9, 0x01084510, 0, 0x00037730, 0, 0x000004f6}, AIDR: 3},
		},
		{
			name: "many fields in the policy", hosts: []smmuv3.IDRegs{fullHost},
			policy: idr.Policy{
				smmuv3.SIDSIZE: 6, smmuv3.STLevel: 0, smmuv3.CMDQS: 19, smmuv3.EVENTQS: 0, smmuv3.MSI: 1,
				smmuv3.SSIDSIZE: 8, smmuv3.CD2L: 0, smmuv3.ATS: 0, smmuv3.TTENDIAN: 2, smmuv3.TermModel: 1,
				smmuv3.HTTU: 0, smmuv3.OAS: 2, smmuv3.ArchMinor: 1, smmuv3.GRAN16K: 0,
				smmuv3.Implementer: 0x43b, smmuv3.ProductID: 0x483, smmuv3.Variant: 1, smmuv3.Revision: 2,
			},
			want: smmuv3.IDRegs{IDR: [6]uint32{0x0540301a, 0x02600206, 0, 0x0000160c, 0, 0x00000452}, IIDR: 0x4831243b, AIDR: 1},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := idr.Derive(tc.policy, caps(tc.hosts...)...)
			require.NoError(t, err)
			assert.Equal(t, tc.want, got.IDs, "want %#x\n%s", tc.want, got.Table())
		})
	}
}

func TestEveryFieldIsExplained(t *testing.T) {
	r, err := idr.Derive(nil, caps(fullHost)...)
	require.NoError(t, err)
	require.Len(t, r.Fields, len(smmuv3.IDFields()))
	for i, f := range smmuv3.IDFields() {
		row := r.Fields[i]
		assert.Equal(t, f, row.Field)
		assert.Equal(t, fullHost.Get(f), row.Host, "%v", f)
		assert.Equal(t, r.IDs.Get(f), row.Guest, "%v", f)
		assert.NotEmpty(t, row.Reason, "%v", f)
	}
	assert.Len(t, strings.Split(strings.TrimSpace(r.Table()), "\n"), 1+len(r.Fields))
}

// Neither a host nor a policy makes a guest read these features.
func TestFeaturesThatNoGuestReads(t *testing.T) {
	for _, f := range []smmuv3.IDField{
		smmuv3.BTM, smmuv3.DORMHINT, smmuv3.Hyp, smmuv3.SEV, smmuv3.ATOS,
		smmuv3.VMW, smmuv3.VATOS, smmuv3.ATSRECERR, smmuv3.RMEImpl, smmuv3.AttrPermsOvr,
		smmuv3.AttrTypesOvr, smmuv3.REL, smmuv3.QueuesPreset, smmuv3.TablesPreset, smmuv3.ECMDQ, smmuv3.BAVATOS,
		smmuv3.MPAM, smmuv3.DPT, smmuv3.S1PI, smmuv3.S2PI, smmuv3.S2PO,
		smmuv3.MTEPERM, smmuv3.D128,
	} {
		t.Run(f.String(), func(t *testing.T) {
			r, err := idr.Derive(idr.Policy{f: 0}, caps(with(fullHost, idr.Policy{f: 1}))...)
			require.NoError(t, err)
			assert.Zero(t, r.IDs.Get(f))
			_, err = idr.Derive(idr.Policy{f: 1}, caps(with(fullHost, idr.Policy{f: 1}))...)
			requireFieldError(t, err, idr.ErrPolicy, f)
		})
	}
}

func requireFieldError(t *testing.T, err error, sentinel error, f smmuv3.IDField) idr.FieldError {
	t.Helper()
	require.ErrorIs(t, err, sentinel)
	var fe *idr.FieldError
	require.ErrorAs(t, err, &fe)
	require.Equal(t, f, fe.Field, "%v", err)
	require.NotEmpty(t, fe.Reason)
	require.Contains(t, err.Error(), f.String())
	return *fe
}

func TestPolicyThatCannotBeMet(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy idr.Policy
		host   smmuv3.IDRegs
		field  smmuv3.IDField
		text   string
	}{
		{"more SubstreamID bits than the host", idr.Policy{smmuv3.SSIDSIZE: 20}, labHost, smmuv3.SSIDSIZE, "asks for SSIDSIZE 20, the host has 0"},
		{"more address bits", idr.Policy{smmuv3.OAS: 5}, labHost, smmuv3.OAS, "asks for OAS 5, the host has 4"},
		{"56-bit addresses", idr.Policy{smmuv3.OAS: 7}, fullHost, smmuv3.OAS, "D128"},
		{"a later version", idr.Policy{smmuv3.ArchMinor: 2}, labHost, smmuv3.ArchMinor, "asks for ArchMinor 2, the host has 1"},
		{"a version without its features in IDR3", idr.Policy{smmuv3.ArchMinor: 4}, with(fullHost, idr.Policy{smmuv3.EPAN: 0}), smmuv3.ArchMinor, "EPAN"},
		{"a stage 2 without FWB", idr.Policy{smmuv3.S2P: 1}, labHost, smmuv3.S2P, "FWB"},
		{"split-stage ATS", idr.Policy{smmuv3.S2P: 1, smmuv3.ATS: 1}, with(fullHost, idr.Policy{smmuv3.NS1ATS: 0}), smmuv3.ATS, "split-stage"},
		{"NS1ATS without stage 2", idr.Policy{smmuv3.NS1ATS: 1}, fullHost, smmuv3.NS1ATS, "S2P"},
		{"a stage 2 with AArch32 tables", idr.Policy{smmuv3.S2P: 1, smmuv3.TTF: 3}, with(fullHost, idr.Policy{smmuv3.TTF: 3}), smmuv3.TTF, "AArch64"},
		{"16-bit VMIDs without stage 2", idr.Policy{smmuv3.VMID16: 1}, fullHost, smmuv3.VMID16, "S2P"},
		{"SMMUv3.3 without PTWNNC", idr.Policy{smmuv3.S1P: 0, smmuv3.S2P: 1, smmuv3.PTWNNC: 0, smmuv3.ArchMinor: 3}, fullHost, smmuv3.ArchMinor, "PTWNNC"},
		{"SMMUv3.2 with both stages and no Hyp", idr.Policy{smmuv3.S2P: 1, smmuv3.ArchMinor: 2}, fullHost, smmuv3.ArchMinor, "Hyp"},
		{"a feature of SMMUv3.2 in SMMUv3.0", idr.Policy{smmuv3.RIL: 1, smmuv3.ArchMinor: 0}, fullHost, smmuv3.RIL, "§2.9"},
		{"a feature of SMMUv3.3 in SMMUv3.1", idr.Policy{smmuv3.E0PD: 1, smmuv3.ArchMinor: 1}, fullHost, smmuv3.E0PD, "§2.9"},
		{"a feature of SMMUv3.4 in SMMUv3.2", idr.Policy{smmuv3.DS: 1, smmuv3.ArchMinor: 2}, fullHost, smmuv3.DS, "§2.9"},
		{"flags of tables in SMMUv3.2", idr.Policy{smmuv3.HTTU: 3, smmuv3.ArchMinor: 2}, fullHost, smmuv3.HTTU, "§2.9"},
		{"PBHA without HAD", idr.Policy{smmuv3.PBHA: 1, smmuv3.HAD: 0}, fullHost, smmuv3.PBHA, "SMMUv3.0"},
		{"THE with stage 2", idr.Policy{smmuv3.S2P: 1, smmuv3.THE: 1}, fullHost, smmuv3.THE, "S2PI"},
		{"AIE without stage 1", idr.Policy{smmuv3.S1P: 0, smmuv3.S2P: 1, smmuv3.AIE: 1}, fullHost, smmuv3.AIE, "S1P"},
		{"stalls, none at a time", idr.Policy{smmuv3.StallModel: 0, smmuv3.StallMax: 0}, fullHost, smmuv3.StallMax, "STALL_MAX is 0"},
		{"stalls of a host that holds none", idr.Policy{smmuv3.StallModel: 0}, with(fullHost, idr.Policy{smmuv3.StallMax: 0}), smmuv3.StallModel, "STALL_MAX is 0"},
		{"ATS", idr.Policy{smmuv3.ATS: 1}, labHost, smmuv3.ATS, "the host has 0"},
		{"mixed endianness of a little-endian host", idr.Policy{smmuv3.TTENDIAN: 0}, labHost, smmuv3.TTENDIAN, "the host has 2"},
		{"big endianness of a little-endian host", idr.Policy{smmuv3.TTENDIAN: 3}, labHost, smmuv3.TTENDIAN, "the host has 2"},
		{"RAZ/WI of a host that aborts", idr.Policy{smmuv3.TermModel: 0}, labHost, smmuv3.TermModel, "the host has 1"},
		{"stalls of a host without", idr.Policy{smmuv3.StallModel: 0}, labHost, smmuv3.StallModel, "asks for STALL_MODEL 0, the host has 1: not all hosts can stall transactions"},
		{"forced stalls", idr.Policy{smmuv3.StallModel: 2}, fullHost, smmuv3.StallModel, "asks for STALL_MODEL 2, the host has 0: forced stalls are not supported"},
		{"a PRI queue without PRI", idr.Policy{smmuv3.PRIQS: 8}, labHost, smmuv3.PRIQS, "without PRI"},
		{"page requests without ATS", idr.Policy{smmuv3.ATS: 0, smmuv3.PRI: 1}, with(fullHost, idr.Policy{smmuv3.PRI: 1}), smmuv3.PRI, "RES0 without ATS"},
		{"AArch32 tables of an AArch64 host", idr.Policy{smmuv3.TTF: 3}, fullHost, smmuv3.TTF, "the host has 2"},

		{"value wider than the field", idr.Policy{smmuv3.MSI: 2}, fullHost, smmuv3.MSI, "not a valid value"},
		{"queue beyond 2^19", idr.Policy{smmuv3.CMDQS: 20}, fullHost, smmuv3.CMDQS, "asks for CMDQS 20: not a valid value (the greatest is 19)"},
		{"event queue beyond 2^19", idr.Policy{smmuv3.EVENTQS: 20}, fullHost, smmuv3.EVENTQS, "not a valid value"},
		{"StreamID beyond 32 bits", idr.Policy{smmuv3.SIDSIZE: 33}, fullHost, smmuv3.SIDSIZE, "greatest is 32"},
		{"SubstreamID beyond 20 bits", idr.Policy{smmuv3.SSIDSIZE: 21}, fullHost, smmuv3.SSIDSIZE, "not a valid value"},
		{"reserved table levels", idr.Policy{smmuv3.STLevel: 2}, fullHost, smmuv3.STLevel, "not a valid value"},
		{"reserved endianness", idr.Policy{smmuv3.TTENDIAN: 1}, fullHost, smmuv3.TTENDIAN, "not a valid value"},
		{"no table format", idr.Policy{smmuv3.TTF: 0}, fullHost, smmuv3.TTF, "not a valid value"},
		{"bit 7 of Implementer", idr.Policy{smmuv3.Implementer: 0x80}, fullHost, smmuv3.Implementer, "greatest is 3967"},
		{"SMMUv4", idr.Policy{smmuv3.ArchMajor: 1}, fullHost, smmuv3.ArchMajor, "not a valid value"},
		{"no such field", idr.Policy{200: 0}, fullHost, 200, "no such field"},
		{"the first invalid field", idr.Policy{smmuv3.ArchMajor + 1: 0}, fullHost, smmuv3.ArchMajor + 1, "no such field"},

		{"no stage 1", idr.Policy{smmuv3.S1P: 0}, fullHost, smmuv3.S1P, "stage 1"},
		{"no granule", idr.Policy{smmuv3.GRAN4K: 0, smmuv3.GRAN16K: 0, smmuv3.GRAN64K: 0}, fullHost, smmuv3.GRAN4K, "granule"},
		{"AArch32 tables only", idr.Policy{smmuv3.TTF: 1}, with(fullHost, idr.Policy{smmuv3.TTF: 3}), smmuv3.TTF, "AArch64"},
		{"wide StreamIDs in a linear table", idr.Policy{smmuv3.STLevel: 0, smmuv3.SIDSIZE: 7}, fullHost, smmuv3.SIDSIZE, "§6.3.2"},
		{"two-level CD tables without substreams", idr.Policy{smmuv3.SSIDSIZE: 0, smmuv3.CD2L: 1}, fullHost, smmuv3.CD2L, "SSIDSIZE"},
		{"SMMUv3.2 without RIL", idr.Policy{smmuv3.RIL: 0, smmuv3.ArchMinor: 2}, fullHost, smmuv3.ArchMinor, "RIL"},
		{"DS without VAX", idr.Policy{smmuv3.VAX: 0, smmuv3.DS: 1}, fullHost, smmuv3.DS, "VAX"},
		{"VAX with neither GRAN64K nor DS", idr.Policy{smmuv3.VAX: 1, smmuv3.DS: 0, smmuv3.GRAN64K: 0}, fullHost, smmuv3.VAX, "GRAN64K"},
		{"PASIDTT without ATS", idr.Policy{smmuv3.ATS: 0, smmuv3.PASIDTT: 1}, fullHost, smmuv3.PASIDTT, "ATS"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := idr.Derive(tc.policy, caps(tc.host)...)
			fe := requireFieldError(t, err, idr.ErrPolicy, tc.field)
			assert.ErrorContains(t, err, tc.text)
			if asked, ok := tc.policy[tc.field]; ok {
				assert.Equal(t, asked, fe.Asked)
			}
			if int(tc.field) < len(smmuv3.IDFields()) {
				assert.Equal(t, tc.host.Get(tc.field), fe.Host)
			}
		})
	}
}

func TestHostThatCannotServe(t *testing.T) {
	for _, tc := range []struct {
		name  string
		hosts []smmuv3.IDRegs
		field smmuv3.IDField
	}{
		{"no stage 1", []smmuv3.IDRegs{with(labHost, idr.Policy{smmuv3.S1P: 0})}, smmuv3.S1P},
		{"AArch32 tables only", []smmuv3.IDRegs{with(labHost, idr.Policy{smmuv3.TTF: 1})}, smmuv3.TTF},
		{"no granule", []smmuv3.IDRegs{with(labHost, idr.Policy{smmuv3.GRAN4K: 0, smmuv3.GRAN16K: 0, smmuv3.GRAN64K: 0})}, smmuv3.GRAN4K},
		{"no granule in common", []smmuv3.IDRegs{
			with(labHost, idr.Policy{smmuv3.GRAN4K: 0, smmuv3.GRAN16K: 0}),
			with(labHost, idr.Policy{smmuv3.GRAN64K: 0}),
		}, smmuv3.GRAN4K},
		{"no endianness in common", []smmuv3.IDRegs{
			with(labHost, idr.Policy{smmuv3.TTENDIAN: 2}),
			with(labHost, idr.Policy{smmuv3.TTENDIAN: 0}),
			with(labHost, idr.Policy{smmuv3.TTENDIAN: 3}),
		}, smmuv3.TTENDIAN},
		{"stalls forced", []smmuv3.IDRegs{with(labHost, idr.Policy{smmuv3.StallModel: 2})}, smmuv3.StallModel},
		{"stalls forced by one, impossible with the other", []smmuv3.IDRegs{
			with(labHost, idr.Policy{smmuv3.StallModel: 2}), labHost,
		}, smmuv3.StallModel},
		{"reserved TTF", []smmuv3.IDRegs{with(labHost, idr.Policy{smmuv3.TTF: 0})}, smmuv3.TTF},
		{"reserved TTENDIAN", []smmuv3.IDRegs{with(labHost, idr.Policy{smmuv3.TTENDIAN: 1})}, smmuv3.TTENDIAN},
		{"reserved STALL_MODEL", []smmuv3.IDRegs{with(labHost, idr.Policy{smmuv3.StallModel: 3})}, smmuv3.StallModel},
		{"not an SMMUv3", []smmuv3.IDRegs{with(labHost, idr.Policy{smmuv3.ArchMajor: 1})}, smmuv3.ArchMajor},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := idr.Derive(nil, caps(tc.hosts...)...)
			requireFieldError(t, err, idr.ErrHost, tc.field)
		})
	}
	t.Run("forced stalls have a reason", func(t *testing.T) {
		_, err := idr.Derive(nil, caps(with(labHost, idr.Policy{smmuv3.StallModel: 2}))...)
		assert.EqualError(t, err, "idr: host does not fit: STALL_MODEL is 2:"+
			" forced stalls are not supported: PCI devices must not stall (§3.12.1)")
	})
	t.Run("no host at all", func(t *testing.T) {
		_, err := idr.Derive(nil)
		assert.ErrorIs(t, err, idr.ErrHost)
	})
}

func TestHostWithAReservedValueLosesThatFeature(t *testing.T) {
	for _, tc := range []struct {
		name  string
		host  smmuv3.IDRegs
		field smmuv3.IDField
		guest uint32
		says  string
	}{
		{"SSIDSIZE 21", with(fullHost, idr.Policy{smmuv3.SSIDSIZE: 21}), smmuv3.SSIDSIZE, 0, "host 1 reports SSIDSIZE 21, a reserved value"},
		{"SSIDSIZE 31", with(fullHost, idr.Policy{smmuv3.SSIDSIZE: 31}), smmuv3.SSIDSIZE, 0, "host 1 reports SSIDSIZE 31, a reserved value"},
		{"BBML 3", with(fullHost, idr.Policy{smmuv3.BBML: 3}), smmuv3.BBML, 0, "host 1 reports BBML 3, a reserved value"},
		{"VAX 3", with(fullHost, idr.Policy{smmuv3.VAX: 3}), smmuv3.VAX, 0, "host 1 reports VAX 3, a reserved value"},
		{"56-bit addresses in SMMUv3.3", with(fullHost, idr.Policy{smmuv3.OAS: 7, smmuv3.ArchMinor: 3}), smmuv3.OAS, 5, "host 1 reports OAS 7, a reserved value"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := idr.Derive(nil, caps(fullHost, tc.host)...)
			require.NoError(t, err)
			require.NoError(t, idr.Check(r.IDs))
			got := field(t, r, tc.field)
			assert.Equal(t, tc.guest, got.Guest)
			assert.Equal(t, tc.guest, got.Host)
			assert.Equal(t, tc.says, got.Reason)
			assert.True(t, r.IDs.Has(smmuv3.HAD), "other features stay")
			assert.NoError(t, idr.Satisfies(bridge.Capabilities{IDs: tc.host}, r.IDs))

			_, err = idr.Derive(idr.Policy{tc.field: tc.guest + 1}, caps(fullHost, tc.host)...)
			requireFieldError(t, err, idr.ErrPolicy, tc.field)
			assert.ErrorContains(t, err, tc.says)
		})
	}
	t.Run("56-bit addresses in SMMUv3.4", func(t *testing.T) {
		r, err := idr.Derive(nil, caps(with(fullHost, idr.Policy{smmuv3.OAS: 7}))...)
		require.NoError(t, err)
		assert.EqualValues(t, 6, r.IDs.Get(smmuv3.OAS))
	})
}

func TestHostWithAReservedValueFailsIfTheFeatureIsMandatory(t *testing.T) {
	for _, tc := range []struct {
		field smmuv3.IDField
		value uint32
		says  string
	}{
		{smmuv3.TTF, 0, "idr: host does not fit: host 1 reports TTF 0, a reserved value"},
		{smmuv3.TTENDIAN, 1, "idr: host does not fit: host 1 reports TTENDIAN 1, a reserved value"},
		{smmuv3.StallModel, 3, "idr: host does not fit: host 1 reports STALL_MODEL 3, a reserved value"},
		{smmuv3.ArchMajor, 1, "idr: host does not fit: host 1 reports ArchMajor 1, a reserved value"},
	} {
		t.Run(tc.field.String(), func(t *testing.T) {
			bad := with(labHost, idr.Policy{tc.field: tc.value})
			_, err := idr.Derive(nil, caps(labHost, bad)...)
			requireFieldError(t, err, idr.ErrHost, tc.field)
			assert.EqualError(t, err, tc.says)
			good, err := idr.Derive(nil, caps(labHost)...)
			require.NoError(t, err)
			assert.ErrorIs(t, idr.Satisfies(bridge.Capabilities{IDs: bad}, good.IDs), idr.ErrHost)
		})
	}
}

// A host's values of fields that the device decides alone have no effect, even if they are
// reserved.
func TestHostsDoNotDecideTheDevicesOwnFields(t *testing.T) {
	want, err := idr.Derive(nil, caps(labHost)...)
	require.NoError(t, err)
	got, err := idr.Derive(nil, caps(with(labHost, idr.Policy{
		smmuv3.STLevel: 3, smmuv3.SIDSIZE: 63, smmuv3.CMDQS: 31, smmuv3.EVENTQS: 31, smmuv3.PRIQS: 31, smmuv3.MSI: 1,
		smmuv3.Implementer: 0xfff, smmuv3.Revision: 15, smmuv3.Variant: 15, smmuv3.ProductID: 0xfff,
	}))...)
	require.NoError(t, err)
	assert.Equal(t, want.IDs, got.IDs)
}

func TestHostOfALaterVersionIsSMMUv34(t *testing.T) {
	r, err := idr.Derive(nil, caps(with(fullHost, idr.Policy{smmuv3.ArchMinor: 9}))...)
	require.NoError(t, err)
	assert.Equal(t, uint32(4), r.IDs.Version())
}

func TestDependenciesLowerDefaults(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy idr.Policy
		lack   idr.Policy // of fullHost
		want   idr.Policy
		why    smmuv3.IDField // the field whose reason names the rule
		text   string
	}{
		{"no HAD, no SMMUv3.1", nil, idr.Policy{smmuv3.HAD: 0},
			idr.Policy{smmuv3.ArchMinor: 0, smmuv3.PBHA: 0, smmuv3.FWB: 0, smmuv3.VAX: 0, smmuv3.DS: 0, smmuv3.OAS: 5}, smmuv3.ArchMinor, "HAD"},
		{"a stage 2 without XNX, no SMMUv3.1", idr.Policy{smmuv3.S2P: 1}, idr.Policy{smmuv3.XNX: 0}, idr.Policy{smmuv3.ArchMinor: 0}, smmuv3.ArchMinor, "XNX"},
		{"a stage 2 in SMMUv3.0", idr.Policy{smmuv3.S2P: 1, smmuv3.ArchMinor: 0}, nil, idr.Policy{smmuv3.XNX: 0}, smmuv3.XNX, "SMMUv3.0"},
		{"both stages, no SMMUv3.2", idr.Policy{smmuv3.S2P: 1}, nil,
			idr.Policy{smmuv3.ArchMinor: 1, smmuv3.FWB: 1, smmuv3.E0PD: 0, smmuv3.PTWNNC: 0, smmuv3.EPAN: 0, smmuv3.DS: 0,
				smmuv3.THE: 0, smmuv3.AIE: 0, smmuv3.HTTU: 2, smmuv3.RIL: 1, smmuv3.STT: 1}, smmuv3.ArchMinor, "Hyp"},
		{"one stage, no Hyp needed", idr.Policy{smmuv3.S2P: 1, smmuv3.S1P: 0}, nil, idr.Policy{smmuv3.ArchMinor: 3, smmuv3.E0PD: 1}, smmuv3.ArchMinor, "MTEPERM"},
		{"SMMUv3.1 has features of SMMUv3.2", idr.Policy{smmuv3.ArchMinor: 1}, nil,
			idr.Policy{smmuv3.RIL: 1, smmuv3.STT: 1, smmuv3.BBML: 2, smmuv3.E0PD: 0, smmuv3.EPAN: 0, smmuv3.DS: 0}, smmuv3.E0PD, "SMMUv3.3"},
		{"SMMUv3.2 has features of SMMUv3.3", idr.Policy{smmuv3.ArchMinor: 2}, nil,
			idr.Policy{smmuv3.E0PD: 1, smmuv3.EPAN: 0, smmuv3.DS: 0, smmuv3.HTTU: 2, smmuv3.PASIDTT: 0, smmuv3.THE: 0, smmuv3.AIE: 0}, smmuv3.EPAN, "SMMUv3.4"},
		{"SMMUv3.3 has features of SMMUv3.4", idr.Policy{smmuv3.ArchMinor: 3}, nil,
			idr.Policy{smmuv3.EPAN: 1, smmuv3.DS: 1, smmuv3.HTTU: 3, smmuv3.PASIDTT: 1, smmuv3.THE: 1, smmuv3.AIE: 1}, smmuv3.EPAN, "CDs"},
		{"SMMUv3.0 has none of SMMUv3.2", idr.Policy{smmuv3.ArchMinor: 0}, nil,
			idr.Policy{smmuv3.RIL: 0, smmuv3.STT: 0, smmuv3.BBML: 0, smmuv3.FWB: 0}, smmuv3.BBML, "SMMUv3.2"},
		{"PBHA needs HAD", idr.Policy{smmuv3.S2P: 1, smmuv3.S1P: 0}, nil, idr.Policy{smmuv3.HAD: 0, smmuv3.PBHA: 0}, smmuv3.PBHA, "HAD"},
		{"no RIL, no SMMUv3.2", nil, idr.Policy{smmuv3.RIL: 0}, idr.Policy{smmuv3.ArchMinor: 1, smmuv3.FWB: 0, smmuv3.VAX: 1}, smmuv3.ArchMinor, "RIL"},
		{"no BBML, no SMMUv3.2", nil, idr.Policy{smmuv3.BBML: 0}, idr.Policy{smmuv3.ArchMinor: 1}, smmuv3.ArchMinor, "BBML"},
		{"BBML level 1 is enough for SMMUv3.4", nil, idr.Policy{smmuv3.BBML: 1}, idr.Policy{smmuv3.ArchMinor: 4}, smmuv3.ArchMinor, "version"},
		{"no E0PD, no SMMUv3.3", nil, idr.Policy{smmuv3.E0PD: 0}, idr.Policy{smmuv3.ArchMinor: 2, smmuv3.FWB: 1}, smmuv3.ArchMinor, "E0PD"},
		{"no EPAN, no SMMUv3.4", nil, idr.Policy{smmuv3.EPAN: 0}, idr.Policy{smmuv3.ArchMinor: 3}, smmuv3.ArchMinor, "EPAN"},
		{"FWB turned off, no SMMUv3.2", idr.Policy{smmuv3.FWB: 0}, nil, idr.Policy{smmuv3.ArchMinor: 1}, smmuv3.ArchMinor, "FWB"},
		{"the host's FWB does not matter", nil, idr.Policy{smmuv3.FWB: 0}, idr.Policy{smmuv3.ArchMinor: 4, smmuv3.FWB: 1}, smmuv3.FWB, "SMMUv3.2"},
		{"SMMUv3.0 asked for", idr.Policy{smmuv3.ArchMinor: 0}, nil,
			idr.Policy{smmuv3.PBHA: 0, smmuv3.VAX: 0, smmuv3.DS: 0, smmuv3.OAS: 5, smmuv3.HAD: 1, smmuv3.RIL: 0}, smmuv3.OAS, "SMMUv3.0"},
		{"DS with 16 KiB only", nil, idr.Policy{smmuv3.GRAN4K: 0, smmuv3.GRAN64K: 0}, idr.Policy{smmuv3.DS: 1, smmuv3.VAX: 1, smmuv3.OAS: 6}, smmuv3.DS, "walks the tables"},
		{"DS with 64 KiB only", nil, idr.Policy{smmuv3.GRAN4K: 0, smmuv3.GRAN16K: 0}, idr.Policy{smmuv3.DS: 0, smmuv3.VAX: 1, smmuv3.OAS: 6}, smmuv3.DS, "GRAN4K or GRAN16K"},
		{"wide addresses without DS or 64 KiB", nil, idr.Policy{smmuv3.DS: 0, smmuv3.GRAN64K: 0}, idr.Policy{smmuv3.VAX: 0, smmuv3.OAS: 5}, smmuv3.VAX, "GRAN64K or DS"},
		{"wide output addresses without VAX", nil, idr.Policy{smmuv3.VAX: 0}, idr.Policy{smmuv3.DS: 0, smmuv3.OAS: 6}, smmuv3.DS, "VAX"},
		{"AArch32 tables", nil, idr.Policy{smmuv3.TTF: 3}, idr.Policy{smmuv3.TTF: 3}, smmuv3.TTF, "walks the tables"},
		{"AArch32 tables without 4 KiB", nil, idr.Policy{smmuv3.TTF: 3, smmuv3.GRAN4K: 0}, idr.Policy{smmuv3.TTF: 2}, smmuv3.TTF, "GRAN4K"},
		{"no substreams", nil, idr.Policy{smmuv3.SSIDSIZE: 0}, idr.Policy{smmuv3.CD2L: 0, smmuv3.PASIDTT: 0}, smmuv3.CD2L, "SSIDSIZE"},
		{"no ATS", nil, idr.Policy{smmuv3.ATS: 0}, idr.Policy{smmuv3.PASIDTT: 0}, smmuv3.PASIDTT, "ATS"},
		{"linear stream tables", idr.Policy{smmuv3.STLevel: 0}, nil, idr.Policy{smmuv3.SIDSIZE: 6}, smmuv3.SIDSIZE, "two-level"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := idr.Derive(tc.policy, caps(with(fullHost, tc.lack))...)
			require.NoError(t, err)
			for f, v := range tc.want {
				assert.Equal(t, v, r.IDs.Get(f), "%v", f)
			}
			assert.Contains(t, field(t, r, tc.why).Reason, tc.text)
		})
	}
}

func TestReasonNamesThePolicy(t *testing.T) {
	r, err := idr.Derive(idr.Policy{smmuv3.CMDQS: 10}, caps(labHost)...)
	require.NoError(t, err)
	assert.Equal(t, uint32(10), field(t, r, smmuv3.CMDQS).Guest)
	assert.Contains(t, field(t, r, smmuv3.CMDQS).Reason, "policy")
	assert.NotContains(t, field(t, r, smmuv3.EVENTQS).Reason, "policy")
}

func TestSatisfies(t *testing.T) {
	guest := func(p idr.Policy, host smmuv3.IDRegs) smmuv3.IDRegs {
		r, err := idr.Derive(p, caps(host)...)
		require.NoError(t, err)
		return r.IDs
	}
	assert.NoError(t, idr.Satisfies(bridge.Capabilities{IDs: labHost}, guest(nil, labHost)))
	assert.NoError(t, idr.Satisfies(bridge.Capabilities{IDs: fullHost}, guest(nil, labHost)), "a better host")
	assert.NoError(t, idr.Satisfies(bridge.Capabilities{IDs: labHost}, guest(idr.Policy{
		smmuv3.MSI: 1, smmuv3.SIDSIZE: 32, smmuv3.CMDQS: 19, smmuv3.Implementer: 0x43b,
	}, labHost)), "the device's own fields have no effect")

	t.Run("names every field that falls short", func(t *testing.T) {
		err := idr.Satisfies(bridge.Capabilities{IDs: labHost}, guest(nil, fullHost))
		require.ErrorIs(t, err, idr.ErrHost)
		for _, f := range []smmuv3.IDField{
			smmuv3.HTTU, smmuv3.ATS, smmuv3.CD2L, smmuv3.TTENDIAN, smmuv3.TermModel, smmuv3.SSIDSIZE, smmuv3.PBHA, smmuv3.STT,
			smmuv3.E0PD, smmuv3.PASIDTT, smmuv3.EPAN, smmuv3.THE, smmuv3.AIE, smmuv3.OAS, smmuv3.DS, smmuv3.VAX, smmuv3.ArchMinor,
		} {
			assert.ErrorContains(t, err, f.String()+" is ")
		}
		assert.Len(t, strings.Split(err.Error(), "\n"), 19)
	})
	for _, tc := range []struct {
		name  string
		host  idr.Policy // of labHost
		field smmuv3.IDField
	}{
		{"one granule less", idr.Policy{smmuv3.GRAN16K: 0}, smmuv3.GRAN16K},
		{"an earlier version", idr.Policy{smmuv3.ArchMinor: 0}, smmuv3.ArchMinor},
		{"big-endian", idr.Policy{smmuv3.TTENDIAN: 3}, smmuv3.TTENDIAN},
		{"stalls forced", idr.Policy{smmuv3.StallModel: 2}, smmuv3.StallModel},
		{"a reserved value instead of a feature", idr.Policy{smmuv3.BBML: 3}, smmuv3.BBML},
		{"not an SMMUv3", idr.Policy{smmuv3.ArchMajor: 1}, smmuv3.ArchMajor},
		{"not coherent", idr.Policy{smmuv3.COHACC: 0}, smmuv3.COHACC},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := idr.Satisfies(bridge.Capabilities{IDs: with(labHost, tc.host)}, guest(nil, labHost))
			fe := requireFieldError(t, err, idr.ErrHost, tc.field)
			assert.Equal(t, tc.host[tc.field], fe.Host)
		})
	}
	t.Run("a host that stalls serves a guest that reads terminate only", func(t *testing.T) {
		assert.NoError(t, idr.Satisfies(bridge.Capabilities{IDs: with(labHost, idr.Policy{smmuv3.StallModel: 0})}, guest(nil, labHost)))
	})
}

func TestPageRequestsAndStalls(t *testing.T) {
	able := with(fullHost, idr.Policy{smmuv3.ATS: 1, smmuv3.SSIDSIZE: 20, smmuv3.PRI: 1, smmuv3.PPS: 1, smmuv3.PRIQS: 3, smmuv3.StallModel: 0, smmuv3.StallMax: 1000})
	for _, tc := range []struct {
		name  string
		p     idr.Policy
		hosts []smmuv3.IDRegs
		want  idr.Policy
	}{
		{"by default", nil, []smmuv3.IDRegs{able},
			idr.Policy{smmuv3.PRI: 1, smmuv3.PPS: 1, smmuv3.PRIQS: 8, smmuv3.StallModel: 1, smmuv3.StallMax: 0}},
		{"stalls, limited by the device", idr.Policy{smmuv3.StallModel: 0}, []smmuv3.IDRegs{able},
			idr.Policy{smmuv3.StallModel: 0, smmuv3.StallMax: 128}},
		{"stalls, limited by the smaller host", idr.Policy{smmuv3.StallModel: 0}, []smmuv3.IDRegs{able, with(able, idr.Policy{smmuv3.StallMax: 7})},
			idr.Policy{smmuv3.StallModel: 0, smmuv3.StallMax: 7}},
		{"no PRI", idr.Policy{smmuv3.PRI: 0}, []smmuv3.IDRegs{able}, idr.Policy{smmuv3.PRI: 0, smmuv3.PPS: 0, smmuv3.PRIQS: 0}},
		{"no ATS", idr.Policy{smmuv3.ATS: 0}, []smmuv3.IDRegs{able}, idr.Policy{smmuv3.PRI: 0, smmuv3.PPS: 0, smmuv3.PRIQS: 0}},
		{"no substreams", idr.Policy{smmuv3.SSIDSIZE: 0}, []smmuv3.IDRegs{able}, idr.Policy{smmuv3.PRI: 1, smmuv3.PPS: 0, smmuv3.PRIQS: 8}},
		{"one host without", nil, []smmuv3.IDRegs{able, with(able, idr.Policy{smmuv3.PRI: 0})}, idr.Policy{smmuv3.PRI: 0, smmuv3.PRIQS: 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := idr.Derive(tc.p, caps(tc.hosts...)...)
			require.NoError(t, err)
			require.NoError(t, idr.Check(r.IDs))
			for f, v := range tc.want {
				assert.Equal(t, v, r.IDs.Get(f), "%v", f)
			}
		})
	}
}
