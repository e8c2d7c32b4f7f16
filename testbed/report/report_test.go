package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-vsmmu/vsmmuv3/internal/asjson"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
)

// good returns the report of a boot whose checks all hold.
func good() *Report {
	const tested = 16 << 20
	stage := func(max uint8, dss string) []asjson.Bind {
		return []asjson.Bind{
			{Disposition: "abort", Text: "abort"},
			{Disposition: "translate", S1Fmt: "linear", S1CDMax: max, S1DSS: dss, Text: "translate"},
		}
	}
	moved := map[string]uint64{"translate": 2*tested + 100}
	return &Report{
		Accel: "tcg",
		Mode:  Mode{PASIDBits: 6},
		IDs:   []asjson.ID{{Register: "IDR1", Field: "SSIDSIZE", Guest: 16}, {Register: "IDR0", Field: "CD2L", Guest: 1}},
		Guest: Guest{Release: "6.1.0", PageSize: 4096, CPUs: 2, PoweredOff: true},
		Probe: []string{"arm-smmu-v3 9050000.iommu: ias 48-bit, oas 48-bit (features 0x0000830f)"},
		Streams: []Stream{
			{StreamID: 0x10, Endpoint: "plain", Binds: stage(0, "terminate"), BindCalls: 2, Moved: moved},
			{StreamID: 0x21, Endpoint: "pasid", Binds: stage(6, "substream 0"), BindCalls: 2, Moved: moved},
		},
		Disks: []Disk{
			{Serial: "plain", IOMMU: "DMA", Written: tested, Read: tested, Verified: tested, Backing: tested, Table: 2 << 20},
			{Serial: "pasid", IOMMU: "DMA", Written: tested, Read: tested, Verified: tested, Backing: tested, Table: 2 << 20},
		},
		Fault: Fault{
			StreamID: 0x32, Address: 0xbad000, Made: true, Error: "F_TRANSLATION",
			Device: []Event{{Type: 0x10, Name: "F_TRANSLATION", StreamID: 0x32, Address: 0xbad000}},
			Kernel: []string{"arm-smmu-v3 9050000.iommu: event 0x10 received:"},
		},
		Wiring: Wiring{ITS: true, SMMUs: []map[string]uint32{{"eventq": 40, "gerror": 42}}, Disks: []uint32{48, 49}},
		Description: &guest.Description{
			By: "device tree",
			Interrupts: []guest.Interrupt{
				{Handler: "arm-smmu-v3-evtq", Chip: "GICv3", Number: 40, Count: 1}, {Handler: "arm-smmu-v3-gerror", Chip: "GICv3", Number: 42},
				{Handler: "virtio0", Chip: "GICv3", Number: 48, Count: 7}, {Handler: "virtio1", Chip: "GICv3", Number: 49, Count: 8},
			},
			Nodes: []guest.Node{
				{Path: "/iommu@9050000", Interrupts: true, Parent: true, Coherent: true},
				{Path: "/virtio_mmio@a000000", Interrupts: true, Parent: true, Master: true, Coherent: true},
			},
		},
		Commands:   map[string]uint64{"SYNC": 10, "CFGI_STE": 2},
		Removed:    RemovedTables{TLBI: 4},
		Events:     map[string]uint64{"F_TRANSLATION": 1},
		Interrupts: map[string]uint64{"eventq": 1},
		Phases:     []progress.Phase{{Name: "the guest's kernel boots", Seconds: 12.5}},
		Seconds:    12.5,
	}
}

func failed(r *Report) (names []string) {
	for _, c := range r.Checks {
		if !c.OK {
			names = append(names, c.Name)
		}
	}
	return names
}

func TestChecksHoldForAGoodBoot(t *testing.T) {
	r := good()
	r.Judge()
	assert.Empty(t, failed(r))
	assert.True(t, r.OK)
	assert.Len(t, r.Checks, 22)

	r = good()
	r.Fault.Kernel = []string{"arm-smmu-v3 9050000.iommu: event: F_TRANSLATION client: a000400.virtio_mmio sid: 0x32 ssid: 0x0"}
	r.Judge()
	assert.True(t, r.OK, "the form of kernels since 6.15")
}

// passthrough returns a good report of a boot with iommu.passthrough=1.
func passthrough() *Report {
	r := good()
	r.Mode.Passthrough = true
	for i := range r.Streams {
		r.Streams[i].Binds = []asjson.Bind{
			{Disposition: "abort"},
			{Disposition: "bypass", Text: "bypass"},
			{Disposition: "abort", SMMUDisabled: true},
		}
		r.Streams[i].Moved = map[string]uint64{"bypass": 32<<20 + 100}
		r.Disks[i].IOMMU = "identity"
	}
	r.Fault.Device, r.Fault.Kernel = nil, nil
	r.Events, r.Interrupts = nil, nil
	return r
}

// stalled returns a good report of a boot with stalls.
func stalled() *Report {
	r := good()
	r.Mode.Stalls = true
	for i := range r.Streams {
		r.Streams[i].Binds[1].S1STALLD = true
	}
	r.Streams = append(r.Streams, Stream{StreamID: 0x32, Endpoint: "rogue", Binds: []asjson.Bind{{Disposition: "translate"}}})
	r.Fault.Device[0].Stall, r.Fault.Device[0].STAG = true, 5
	r.Fault.Resumes = []Resume{{StreamID: 0x32, STAG: 5, How: "abort"}}
	return r
}

// stage2 returns a good report of a boot with stage 2.
func stage2() *Report {
	r := good()
	r.Mode.Stage2 = true
	for i := range r.Streams {
		r.Streams[i].Binds = []asjson.Bind{{Disposition: "translate by stage 2", Text: "s2",
			S2VMID: uint16(1 + i), S2: &smmuv3.Stage2{TTB: uint64(0x1000 * i)}}}
		r.Streams[i].Moved = map[string]uint64{"translate by stage 2": 32<<20 + 100}
	}
	r.Fault.Device[0].Stage2 = true
	r.Commands["TLBI_S2_IPA"], r.Commands["TLBI_S12_VMALL"] = 100, 2
	return r
}

func TestEveryModeHasItsChecks(t *testing.T) {
	always := []string{
		"the guest reached its user space", "the guest's driver probed the SMMU",
		"the disks have the domains that the command line asks for",
		"plain: all data was written, read back and verified", "pasid: all data was written, read back and verified",
		"rogue: its DMA to an unmapped address failed",
		"the guest's driver reported no error", "no other fault was recorded",
		"the device consumed commands and signalled interrupts", "the guest powered off",
	}
	translated := []string{"rogue: the device recorded F_TRANSLATION", "rogue: the guest's kernel printed the fault"}
	for _, tt := range []struct {
		name string
		r    *Report
		asks []string
	}{
		{"stage 1", good(), slices.Concat(always, translated)},
		{"stage 2", stage2(), slices.Concat(always, translated)},
		{"stalls", stalled(), slices.Concat(always, translated)},
		{"passthrough", passthrough(), always},
	} {
		tt.r.Judge()
		var names []string
		for _, c := range tt.r.Checks {
			names = append(names, c.Name)
		}
		assert.Subset(t, names, tt.asks, tt.name)
		tt.r.Judge()
		assert.Len(t, tt.r.Checks, len(names), "%s, judged again", tt.name)
	}
}

func TestChecksDependOnTheMode(t *testing.T) {
	table := func(bits, s1cdmax uint8, s1fmt string) *Report {
		r := good()
		r.Mode.PASIDBits = bits
		r.Streams[1].Binds[1].S1CDMax, r.Streams[1].Binds[1].S1Fmt = s1cdmax, s1fmt
		return r
	}
	const stalledCheck = "rogue: its DMA stalled until the guest's driver aborted it"
	with := func(r *Report, edit func(*Report)) *Report { edit(r); return r }
	for _, tt := range []struct {
		name  string
		r     *Report
		fails []string
	}{
		{"passthrough", passthrough(), nil},
		{"passthrough, but streams translate", with(good(), func(r *Report) { r.Mode.Passthrough = true }), []string{
			"the disks have the domains that the command line asks for",
			"plain: its stage is bypass", "pasid: its stage is bypass",
			"plain: every byte bypassed stage 1", "pasid: every byte bypassed stage 1",
		}},
		{"translation, but streams bypass", with(passthrough(), func(r *Report) { r.Mode.Passthrough = false }), []string{
			"the disks have the domains that the command line asks for",
			"plain: stage 1 has a single Context Descriptor", "pasid: stage 1 has a table of Context Descriptors",
			"plain: every byte moved through stage 1", "pasid: every byte moved through stage 1",
			"rogue: the device recorded F_TRANSLATION", "rogue: the guest's kernel printed the fault",
		}},
		{"bypass of a disabled SMMU", with(passthrough(), func(r *Report) { r.Streams[0].Binds[1].SMMUDisabled = true }), []string{"plain: its stage is bypass"}},
		{"passthrough with a fault", with(passthrough(), func(r *Report) { r.Events = map[string]uint64{"C_BAD_STE": 1} }), []string{"no other fault was recorded"}},
		{"passthrough with a stray interrupt", with(passthrough(), func(r *Report) { r.Interrupts = map[string]uint64{"eventq": 1} }), []string{"the device consumed commands and signalled interrupts"}},
		{"stage 2", stage2(), nil},
		{"stage 2, passthrough", with(passthrough(), func(r *Report) { r.Mode.Stage2 = true }), nil},
		{"stage 2, but stage 1 translates", with(good(), func(r *Report) { r.Mode.Stage2 = true }), []string{
			"plain, pasid: stage 2 has separate tables and VMIDs",
			"plain: every byte moved through stage 2", "pasid: every byte moved through stage 2",
			"the guest invalidated by IPA and VMID, and not by commands of stage 1",
			"rogue: the device recorded F_TRANSLATION",
		}},
		{"one VMID", with(stage2(), func(r *Report) { r.Streams[1].Binds[0].S2VMID = 1 }), []string{"plain, pasid: stage 2 has separate tables and VMIDs"}},
		{"one set of tables", with(stage2(), func(r *Report) { r.Streams[1].Binds[0].S2.TTB = 0 }), []string{"plain, pasid: stage 2 has separate tables and VMIDs"}},
		{"no invalidation by IPA", with(stage2(), func(r *Report) { r.Commands["TLBI_S2_IPA"] = 0 }), []string{"the guest invalidated by IPA and VMID, and not by commands of stage 1"}},
		{"no invalidation by VMID", with(stage2(), func(r *Report) { r.Commands["TLBI_S12_VMALL"] = 0 }), []string{"the guest invalidated by IPA and VMID, and not by commands of stage 1"}},
		{"stage 2, lazy, no invalidation by IPA", with(stage2(), func(r *Report) {
			r.Mode.Lazy, r.Commands["TLBI_S2_IPA"] = true, 0
			r.Disks[0].IOMMU, r.Disks[1].IOMMU = "DMA-FQ", "DMA-FQ"
		}), nil},
		{"commands of stage 1", with(stage2(), func(r *Report) { r.Commands["TLBI_NH_VA"] = 1 }), []string{"the guest invalidated by IPA and VMID, and not by commands of stage 1"}},
		{"a fault of stage 1", with(stage2(), func(r *Report) { r.Fault.Device[0].Stage2 = false }), []string{"rogue: the device recorded F_TRANSLATION"}},
		{"stalls", stalled(), nil},
		{"stalls, passthrough", with(passthrough(), func(r *Report) { r.Mode.Stalls = true }), nil},
		{"stalls, but the rogue may not", with(stalled(), func(r *Report) { r.Streams[2].Binds[0].S1STALLD = true }), []string{"rogue: no other endpoint may stall"}},
		{"stalls of a disk", with(stalled(), func(r *Report) { r.Streams[1].Binds[1].S1STALLD = false }), []string{"rogue: no other endpoint may stall"}},
		{"no stall", with(stalled(), func(r *Report) { r.Fault.Device[0].Stall = false }), []string{stalledCheck}},
		{"a stall without an answer", with(stalled(), func(r *Report) { r.Fault.Resumes = nil }), []string{stalledCheck}},
		{"another answer", with(stalled(), func(r *Report) { r.Fault.Resumes[0].How = "retry" }), []string{stalledCheck}},
		{"an answer to another transaction", with(stalled(), func(r *Report) { r.Fault.Resumes[0].STAG++ }), []string{stalledCheck}},
		{"two answers", with(stalled(), func(r *Report) { r.Fault.Resumes = append(r.Fault.Resumes, Resume{}) }), []string{stalledCheck}},
		{"lazy", with(good(), func(r *Report) { r.Mode.Lazy = true; r.Disks[0].IOMMU, r.Disks[1].IOMMU = "DMA-FQ", "DMA-FQ" }), nil},
		{"lazy, but strict domains", with(good(), func(r *Report) { r.Mode.Lazy = true }), []string{"the disks have the domains that the command line asks for"}},
		{"strict, but a lazy domain", with(good(), func(r *Report) { r.Disks[1].IOMMU = "DMA-FQ" }), []string{"the disks have the domains that the command line asks for"}},
		{"a table of 1,024", table(10, 10, "linear"), nil},
		{"a table of 2,048 has two levels", table(11, 11, "two-level/64KiB"), nil},
		{"a linear table of 2,048", table(11, 11, "linear"), []string{"pasid: stage 1 has a table of Context Descriptors"}},
		{"more than SSIDSIZE", table(20, 16, "two-level/64KiB"), nil},
		{"fewer than pasid-num-bits", table(12, 11, "two-level/64KiB"), []string{"pasid: stage 1 has a table of Context Descriptors"}},
		{"without CD2L", with(table(16, 10, "linear"), func(r *Report) { r.IDs[1].Guest = 0 }), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.r.Judge()
			assert.Equal(t, tt.fails, failed(tt.r))
		})
	}
}

// The lines are those of Linux 6.1 to 7.3.
func TestDriversErrorsFailTheirCheck(t *testing.T) {
	for line, fine := range map[string]bool{
		"arm-smmu-v3 9050000.iommu: CMD_SYNC timeout at 0x00000012 [hwprod 0x00000013, hwcons 0x00000012]":                   false,
		"arm-smmu-v3 9050000.iommu: CMDQ error (cons 0x01000012): Illegal command":                                           false,
		"arm-smmu-v3 9050000.iommu: unexpected global error reported (0x00000001), this could be serious":                    false,
		"arm-smmu-v3 9050000.iommu: EVTQ overflow detected -- events lost":                                                   false,
		"arm-smmu-v3 9050000.iommu: GBPA not responding to update":                                                           false,
		"arm-smmu-v3 9050000.iommu: device has entered Service Failure Mode!":                                                false,
		"arm-smmu-v3 9050000.iommu: allocated 256 entries for evtq":                                                          true,
		`arm-smmu-v3 9050000.iommu: unpriv data read s1 "Input address caused fault" stag: 0x0`:                              true,
		"arm-smmu-v3 9050000.iommu: event: F_TRANSLATION client: a000400.virtio_mmio sid: 0x32 ssid: 0x0 iova: 0x5 ipa: 0x0": true,
	} {
		r := good()
		r.Probe = append(r.Probe, line)
		r.Judge()
		assert.Equal(t, fine, r.OK, line)
		r = good()
		r.Fault.Kernel = append(r.Fault.Kernel, line)
		r.Judge()
		assert.Equal(t, fine, r.OK, line)
	}
}

func TestRebindCheckNeedsABypassAndAReturn(t *testing.T) {
	const plain = "plain: its driver was unbound and bound again, bypassing stage 1 once"
	const all = guest.RebindSize
	for _, tt := range []struct {
		name  string
		asked bool
		done  *guest.Rebound
		past  uint64
		fails []string
	}{
		{"not asked for", false, nil, 0, nil},
		{"not asked for, but it bypassed stage 1", false, nil, all, []string{"plain: every byte moved through stage 1"}},
		{"as asked for", true, &guest.Rebound{Identity: all, Before: all}, all, nil},
		{"not done", true, nil, 0, []string{plain}},
		{"no bypass", true, &guest.Rebound{Identity: all, Before: all}, 0, []string{plain}},
		{"no return", true, &guest.Rebound{Identity: all}, all, []string{plain}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := good()
			r.Mode.Rebind = tt.asked
			r.Disks[0].Rebound, r.Disks[1].Rebound = tt.done, &guest.Rebound{Identity: all, Before: all}
			for i := range r.Streams {
				r.Streams[i].Moved = maps.Clone(r.Streams[i].Moved)
			}
			if tt.asked {
				r.Streams[1].Moved["bypass"] = all
			}
			r.Streams[0].Moved["bypass"] = tt.past
			r.Judge()
			assert.Equal(t, tt.fails, failed(r))
		})
	}
}

func TestInterruptsTakeTheStageOfTheData(t *testing.T) {
	const check = "plain: its interrupts took the same stage as its data"
	for _, tt := range []struct {
		name   string
		mode   Mode
		sent   map[string]uint64
		failed bool
	}{
		{"not on the PCI bus", Mode{}, nil, false},
		{"translated", Mode{PCI: true}, map[string]uint64{"translate": 5}, false},
		{"none", Mode{PCI: true}, nil, true},
		{"bypass", Mode{PCI: true}, map[string]uint64{"translate": 5, "bypass": 1}, true},
		{"bypass during a rebind", Mode{PCI: true, Rebind: true}, map[string]uint64{"translate": 5, "bypass": 1}, false},
		{"bypass only", Mode{PCI: true, Rebind: true}, map[string]uint64{"bypass": 1}, true},
		{"bypass with passthrough", Mode{PCI: true, Passthrough: true}, map[string]uint64{"bypass": 1}, false},
		{"by stage 2", Mode{PCI: true, Stage2: true}, map[string]uint64{"translate by stage 2": 5}, false},
	} {
		r := good()
		r.Mode, r.Streams[0].Messages = tt.mode, tt.sent
		r.Judge()
		assert.Equal(t, tt.failed, slices.Contains(failed(r), check), tt.name)
	}
}

func TestMovesMustBeAllAndDuringDMA(t *testing.T) {
	const check = "the SMMU was saved, discarded and restored during the disks' requests"
	for _, tt := range []struct {
		name  string
		asked int
		moves Moves
		fails []string
	}{
		{"not asked for", 0, Moves{}, nil},
		{"as asked for", 2, Moves{Made: 2, At: []uint64{5, 9}, DMA: 10, StateBytes: 500, Longest: 0.001}, nil},
		{"never", 2, Moves{DMA: 10}, []string{check}},
		{"too few", 2, Moves{Made: 1, At: []uint64{5}, DMA: 10}, []string{check}},
		{"no DMA after the last move", 2, Moves{Made: 2, At: []uint64{5, 10}, DMA: 10}, []string{check}},
		{"no record of the points", 2, Moves{Made: 2, DMA: 10}, []string{check}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []*Report{good(), passthrough()} {
				r.Mode.Moves, r.Moves = tt.asked, tt.moves
				r.Judge()
				assert.Equal(t, tt.fails, failed(r))
			}
		})
	}
}

func TestModeOfReadsTheCommandLineAsLinuxDoes(t *testing.T) {
	for _, tt := range []struct {
		cmdline           string
		passthrough, lazy bool
	}{
		{"", false, false},
		{DefaultCmdline, false, false},
		{"iommu.passthrough=1", true, false},
		{"iommu.passthrough=on", true, false},
		{"iommu.passthrough=Y quiet", true, false},
		{"iommu.passthrough=off", false, false},
		{"iommu.passthrough", false, false},
		{"iommu.passthrough=maybe", false, false},
		{"iommu.passthrough=1 iommu.passthrough=0", false, false},
		{"iommu.strict=0", false, true},
		{"iommu.strict=n", false, true},
		{"iommu.strict=0 iommu.strict=1", false, false},
		{DefaultCmdline + " iommu.strict=0", false, true},
		{"console=ttyAMA0 -- iommu.strict=0", false, false},
	} {
		assert.Equal(t, Mode{Passthrough: tt.passthrough, Lazy: tt.lazy, PASIDBits: 6}, ModeOf(tt.cmdline, 6), tt.cmdline)
	}
}

func TestEachFaultFailsItsCheckAlone(t *testing.T) {
	const tables = "the guest removed translation tables, and invalidated them by TLBIs with Leaf = 0"
	for _, tt := range []struct {
		name  string
		spoil func(*Report)
		fails []string
	}{
		{"no user space", func(r *Report) { r.Guest.Release = "" }, []string{"the guest reached its user space"}},
		{"no driver", func(r *Report) { r.Probe = nil }, []string{"the guest's driver probed the SMMU"}},
		{"a table for plain", func(r *Report) { r.Streams[0].Binds[1].S1CDMax = 6 }, []string{"plain: stage 1 has a single Context Descriptor"}},
		{"no table for pasid", func(r *Report) { r.Streams[1].Binds[1].S1CDMax = 0 }, []string{"pasid: stage 1 has a table of Context Descriptors"}},
		{"S1DSS for pasid", func(r *Report) { r.Streams[1].Binds[1].S1DSS = "bypass" }, []string{"pasid: stage 1 has a table of Context Descriptors"}},
		{"a stage that the host refused", func(r *Report) { r.Streams[0].Binds[1].Error = "no" }, []string{"plain: stage 1 has a single Context Descriptor"}},
		{"too little written", func(r *Report) { r.Disks[0].Written-- }, []string{"plain: all data was written, read back and verified"}},
		{"too little read", func(r *Report) { r.Disks[0].Read-- }, []string{"plain: all data was written, read back and verified"}},
		{"too little verified", func(r *Report) { r.Disks[1].Verified-- }, []string{"pasid: all data was written, read back and verified"}},
		{"the backing file differs", func(r *Report) { r.Disks[1].Backing = 0 }, []string{"pasid: all data was written, read back and verified"}},
		{"a disk's error", func(r *Report) { r.Disks[1].Error = "EIO" }, []string{"pasid: all data was written, read back and verified"}},
		{"bytes that bypassed", func(r *Report) {
			r.Streams[0].Moved = map[string]uint64{"translate": 1 << 30, "bypass": 1}
		}, []string{"plain: every byte moved through stage 1"}},
		{"bytes unaccounted for", func(r *Report) { r.Streams[1].Moved = map[string]uint64{"translate": 1} }, []string{"pasid: every byte moved through stage 1"}},
		{"no DMA of the rogue", func(r *Report) { r.Fault.Made = false }, []string{"rogue: its DMA to an unmapped address failed"}},
		{"a breach of isolation", func(r *Report) { r.Fault.Error = "" }, []string{"rogue: its DMA to an unmapped address failed"}},
		{"one byte unaccounted for", func(r *Report) {
			r.Streams[1].Moved = map[string]uint64{"translate": 32<<20 - 1}
		}, []string{"pasid: every byte moved through stage 1"}},
		{"nothing read or moved", func(r *Report) {
			r.Disks[1].Read, r.Disks[1].Written, r.Streams[1].Moved = 0, 0, nil
		}, []string{"pasid: all data was written, read back and verified", "pasid: every byte moved through stage 1"}},
		{"no PASIDs", func(r *Report) {
			r.Mode.PASIDBits, r.Streams[1].Binds[1].S1CDMax = 0, 0
		}, []string{"pasid: stage 1 has a table of Context Descriptors"}},
		{"no CFGI_STE", func(r *Report) { delete(r.Commands, "CFGI_STE") }, []string{"the device consumed commands and signalled interrupts"}},
		{"another event", func(r *Report) { r.Fault.Device[0].Type = 0x13 }, []string{"rogue: the device recorded F_TRANSLATION"}},
		{"another stream's event", func(r *Report) { r.Fault.Device[0].StreamID = 0x10 }, []string{"rogue: the device recorded F_TRANSLATION"}},
		{"another address", func(r *Report) { r.Fault.Device[0].Address++ }, []string{"rogue: the device recorded F_TRANSLATION"}},
		{"nothing printed", func(r *Report) { r.Fault.Kernel = nil }, []string{"rogue: the guest's kernel printed the fault"}},
		{"another fault", func(r *Report) { r.Events["C_BAD_STE"] = 1 }, []string{"no other fault was recorded"}},
		{"a fault of another stream", func(r *Report) { r.Events["F_TRANSLATION"] = 2 }, []string{"no other fault was recorded"}},
		{"a table that was not filled", func(r *Report) { r.Disks[1].Table = 0 }, []string{tables}},
		{"a table that was not invalidated", func(r *Report) { r.Removed.TLBI = 3 }, []string{tables}},
		{"no commands", func(r *Report) { delete(r.Commands, "SYNC") }, []string{"the device consumed commands and signalled interrupts"}},
		{"no interrupt", func(r *Report) { r.Interrupts = nil }, []string{"the device consumed commands and signalled interrupts"}},
		{"no power off", func(r *Report) { r.Guest.PoweredOff = false }, []string{"the guest powered off"}},
		{"an error, though all checks hold", func(r *Report) { r.Error = "x" }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := good()
			tt.spoil(r)
			r.Judge()
			assert.Equal(t, tt.fails, failed(r))
			assert.False(t, r.OK)
		})
	}
}

func TestBootWithAnErrorHasOnlyTheChecksThatItReached(t *testing.T) {
	untested := func(r *Report, i int) { r.Disks[i] = Disk{Serial: r.Disks[i].Serial, Error: NotTested} }
	hung := func(r *Report) { r.Error, r.Guest.PoweredOff = "the guest hung", false }
	beforeDMA := func(r *Report) {
		hung(r)
		r.Probe, r.Fault, r.Events, r.Interrupts, r.Description = nil, Fault{}, nil, nil, nil
	}
	for _, tt := range []struct {
		name   string
		until  func(*Report)
		checks int
		fails  []string
	}{
		{"the guest's kernel panicked", func(r *Report) {
			beforeDMA(r)
			untested(r, 0)
			untested(r, 1)
			r.Guest = Guest{}
		}, 0, nil},
		{"the guest powered off before its init spoke", func(r *Report) {
			beforeDMA(r)
			untested(r, 0)
			untested(r, 1)
			r.Guest = Guest{PoweredOff: true}
		}, 0, nil},
		{"before the disks' tests", func(r *Report) { beforeDMA(r); untested(r, 0); untested(r, 1) }, 1, nil},
		{"between the disks' tests", func(r *Report) { beforeDMA(r); untested(r, 1) }, 4, nil},
		{"between the disks' tests, of which one failed", func(r *Report) {
			beforeDMA(r)
			untested(r, 1)
			r.Disks[0].Error = "EIO"
		}, 4, []string{"plain: all data was written, read back and verified"}},
		{"before the rogue's DMA", beforeDMA, 9, nil},
		{"before the guest's kernel printed the fault", func(r *Report) { hung(r); r.Fault.Kernel, r.Description = nil, nil }, 15, nil},
		{"before power off", hung, 21, nil},
		{"a breach", func(r *Report) { hung(r); r.Fault.Error = "" }, 21, []string{"rogue: its DMA to an unmapped address failed"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := good()
			tt.until(r)
			r.Judge()
			assert.Equal(t, tt.fails, failed(r))
			assert.Len(t, r.Checks, tt.checks)
			assert.False(t, r.OK)
			r.Error = "" // without an error, whatever is missing is a failure
			r.Judge()
			assert.Len(t, r.Checks, 22)
			assert.False(t, r.OK)
		})
	}
}

func TestSummaryOfABootThatNeverStartedHasTheCauseAndTheLastLines(t *testing.T) {
	r := &Report{Error: "the host ended", LastSeen: &progress.LastSeen{
		Stage: "the host boots", ExitStatus: "exit status 1", Console: "qemu", Lines: []string{"one", "two\x1b[2J"},
	}, Phases: []progress.Phase{{Name: "the host boots", Seconds: 1.5}}, Seconds: 1.5}
	r.Judge()
	var out strings.Builder
	require.NoError(t, r.Summary(&out))
	assert.Equal(t, "\nError\n  the host ended\n\nEmulator: exit status 1\n\nLast lines on console qemu\n  one\n  two.[2J\n"+
		"\nTime\n     1.5 s  the host boots\n     1.5 s  in all\n\nNOT OK: no check was reached\n", out.String())
	b := &Bench{Error: r.Error, LastSeen: r.LastSeen}
	out.Reset()
	require.NoError(t, b.Summary(&out))
	assert.Equal(t, "\nError\n  the host ended\n\nEmulator: exit status 1\n\nLast lines on console qemu\n  one\n  two.[2J\n", out.String())
}

func TestEmptyReportIsNotOK(t *testing.T) {
	r := &Report{}
	r.Judge()
	assert.False(t, r.OK)
	require.NoError(t, r.Summary(new(bytes.Buffer)))
}

func TestReportHasTheDocumentedJSONNames(t *testing.T) {
	r := good()
	r.Judge()
	out, err := json.Marshal(r)
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(out, &m))
	assert.Equal(t, true, m["ok"])
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	assert.Equal(t, []string{
		"accel", "checks", "commands", "description", "disks", "events", "fault", "guest", "id_registers",
		"interrupts", "mode", "ok", "phases", "probe", "removed_tables", "seconds", "streams", "wiring",
	}, names)
}

func TestSummaryShowsEachBind(t *testing.T) {
	r := good()
	r.Streams[0].BindCalls = 7
	r.Judge()
	var out bytes.Buffer
	require.NoError(t, r.Summary(&out))
	for _, want := range []string{
		"stream 0x10 (plain)  1.  abort\n", "2.  translate\n", "and 5 more", "stream 0x21 (pasid)",
		"16.0 MiB written", "SYNC 10, CFGI_STE 2", "OK: 22 of 22 checks held",
	} {
		assert.Contains(t, out.String(), want)
	}
}

func TestBindOfHasEveryFieldOfTheStage(t *testing.T) {
	stage1 := bridge.GuestStage{
		Disposition: bridge.Translate, S1ContextPtr: 0x4000, S1CDMax: 6, S1Fmt: smmuv3.S1FmtLinear,
		S1DSS: smmuv3.S1DSSSubstream0, S1CIR: 1, S1COR: 2, S1CSH: 3, S1STALLD: true, EATS: smmuv3.EATSFull,
	}
	assert.Equal(t, asjson.Bind{
		Disposition: "translate", S1ContextPtr: 0x4000, S1CDMax: 6, S1Fmt: "linear", S1DSS: "substream 0",
		S1CIR: 1, S1COR: 2, S1CSH: 3, S1STALLD: true, EATS: "full", Text: stage1.String(), Error: "refused",
	}, asjson.BindOf(stage1, errors.New("refused")))

	stage2 := bridge.GuestStage{Disposition: bridge.TranslateS2, S2VMID: 7, S2: smmuv3.Stage2{TTB: 0x8000}}
	assert.Equal(t, asjson.Bind{
		Disposition: "translate by stage 2", S2VMID: 7, S2: &smmuv3.Stage2{TTB: 0x8000}, EATS: "none", Text: stage2.String(),
	}, asjson.BindOf(stage2, nil))

	abort := bridge.GuestStage{Disposition: bridge.Abort, Disabled: true, Cause: smmuv3.CBadSTE}
	assert.Equal(t, asjson.Bind{Disposition: "abort", SMMUDisabled: true, Cause: "C_BAD_STE", Text: abort.String()}, asjson.BindOf(abort, nil))
}

func TestReportsEndWithTheVerdict(t *testing.T) {
	checks := []Check{{"one", true, "seen"}, {"other", false, "not seen"}}
	phases := []progress.Phase{{Name: "it boots", Seconds: 12.5}}
	for _, tt := range []struct {
		ok   bool
		want string
	}{{true, "OK"}, {false, "NOT OK"}} {
		var out strings.Builder
		WriteEnd(&out, tt.ok, checks, phases, 13, ", by far")
		assert.Equal(t, "\nTime\n    12.5 s\tit boots\n    13.0 s\tin all\n"+
			"\nChecks\n  ok\tone\tseen\n  FAILED\tother\tnot seen\n\n"+tt.want+": 1 of 2 checks held, by far\n", out.String())
	}
}

// A guest with larger pages cannot fill a table by one mapping.
func TestTablesAreNotJudgedForLargePages(t *testing.T) {
	r := good()
	r.Guest.PageSize, r.Removed, r.Disks[0].Table, r.Disks[1].Table = 16<<10, RemovedTables{}, 0, 0
	r.Judge()
	assert.True(t, r.OK)
	assert.Len(t, r.Checks, 21)
}
