package labtest

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

// good returns the report of a run in which every check holds.
func good() *Report {
	r := &Report{Kernel: "7.3.4", SMMU: SMMU{IDR: [6]string{"0d44101b"}}, Figures: Figures{Hosts: 3}}
	for _, name := range []string{
		"TestKernelConformance/Capabilities", "TestKernelConformance/Claim", "TestKernelConformance/GuestIDs",
		"TestKernelConformance/States", "TestKernelConformance/Identity",
		"TestKernelConformance/Tables", "TestKernelConformance/Rejected", "TestKernelConformance/Granules",
		"TestKernelConformance/Permissions", "TestKernelConformance/TwoStreams", "TestKernelConformance/Invalidate",
		"TestKernelConformance/InFlight", "TestKernelConformance/Close", "TestKernelConformance/Faults",
		"TestKernelAcceptsOfferedStages", "TestKernelMemoryFollowsSlots", "TestKernelCDFetchOutsideMemoryAborts",
		"TestKernelCountsLostEvents", "TestKernelBatchIsOneIoctl", "TestKernelAcceptsCommandsWithReservedBits",
		"TestKernelDriverConfiguresDevice", "TestKernelRefusesWithAdvice", "TestKernelRefusesSharedGroup",
		"TestKernelRefusesUserWithoutPermission", "TestRefusesWithoutCANWBS",
		"TestRefusesStage1Alone", "TestRefusesStage2Alone", "TestRefusesIncoherentSMMU",
		"TestKernelInvalidatesBeforeStage1Translates", "TestKernelCloseLeavesNoObject",
		"TestKernelDeviceRemovedDuringDMA", "TestKernelKeepsBusyVDevice", "TestKernelSavedSMMUContinuesOnAnotherHost",
		"TestMachineEndsAsTheGuestAsks", "TestMachineEndsWithItsContext", "TestMachineBootsAgainAfterAReset",
		"TestMachineInterrupts", "TestAccessThatCannotBeEmulatedEndsTheMachine",
	} {
		r.Tests = append(r.Tests, Test{Name: name, Outcome: Pass})
	}
	r.Tests = append(r.Tests, Test{Name: "TestKernelConformance/Tables/two-level", Outcome: Skip, Reason: "the host has no IDR0.CD2L"})
	for _, s := range ownMachines() {
		if s.own.refused != "" {
			r.Tests = append(r.Tests, Test{Machine: s.name, Name: s.own.refused, Outcome: Pass})
			r.Own = append(r.Own, Own{Machine: s.name, Own: machine.Own{Commands: map[string]uint64{"CMD_SYNC": 1}}})
			continue
		}
		r.Tests = append(r.Tests, Test{Machine: s.name, Name: "TestKernelConformance", Outcome: Pass},
			Test{Machine: s.name, Name: "TestKernelConformance/Close", Outcome: Pass})
		r.Own = append(r.Own, Own{Machine: s.name, Own: machine.Own{
			Moves: map[string]int{"CMD_SYNC": minMoves - 1, "bind abort": 1}, Commands: map[string]uint64{"CMD_SYNC": 1},
		}})
	}
	r.Guest = Guest{
		Release: "7.3.4",
		Boots:   []machine.Boot{{End: guest.EndReboot}, {End: guest.EndCrash}, {End: guest.EndPowerOff}},
		Reads: []Read{
			{Name: guest.ReadStrict, Read: machine.Read{
				LabRead: guest.LabRead{IOMMU: guest.DomainStrict, Bytes: 1 << 20, Seconds: 2}, Syncs: 10, Commands: 50, Ioctls: 11,
			}},
			{Name: guest.ReadBypass, Read: machine.Read{LabRead: guest.LabRead{IOMMU: guest.DomainIdentity, Bytes: 1 << 20, Seconds: 1}}},
			{Name: guest.ReadStrict, Read: machine.Read{
				LabRead: guest.LabRead{IOMMU: guest.DomainStrict, Bytes: 1 << 20, Seconds: 2.1}, Syncs: 10, Commands: 50, Ioctls: 11,
			}},
			{Name: guest.ReadBypass, Read: machine.Read{LabRead: guest.LabRead{IOMMU: guest.DomainIdentity, Bytes: 1 << 20, Seconds: 1}}},
		},
		Stray: &guest.LabStray{Address: 0x5000, Kernel: []string{"arm-smmu-v3 9050000.iommu: event 0x10 received:"}},
		Moved: &guest.LabMove{From: 0x100, To: 0x200},
		Lost: &guest.LabLost{
			Bytes: 1 << 20, Error: "input/output error", Virtio: guest.Disk{Verified: guest.LabSize(guest.StepTakenOver)},
		},
		Removed:    &machine.Removed{Seconds: 0.1},
		Interrupts: &guest.LabInterrupts{Line: 20},
		TakenOver:  []string{"arm-smmu-v3 9050000.iommu: SMMU currently enabled! Resetting..."},
		NVMe:       guest.TestSize,
		End: machine.End{
			Streams: []machine.Stream{
				{StreamID: 0x100, Host: "iommufd", Binds: []string{"abort", "translate s1fmt=linear"}},
				{StreamID: 0x200, Host: "iommufd", Binds: []string{"translate s1fmt=linear"}},
				{StreamID: 0x2000, Host: "soft", Binds: []string{"translate s1fmt=linear"}},
			},
			Events: []machine.Event{{Name: "F_TRANSLATION", StreamID: 0x200, Address: 0x5040}},
			Places: []machine.Place{{StreamID: 0x100, Attached: true}, {StreamID: 0x100}, {StreamID: 0x200, Attached: true}, {StreamID: 0x200}},
			Virtio: guest.TestSize,
		},
	}
	for _, name := range guest.LabSteps {
		disk := guest.Disk{Verified: guest.LabSize(name), IOMMU: guest.DomainStrict}
		r.Guest.Steps = append(r.Guest.Steps, Step{Name: name, Disks: []guest.Disk{disk, disk}})
	}
	return r
}

func TestEachCheckFailsForItsCause(t *testing.T) {
	r := good()
	r.Judge()
	for _, c := range r.Checks {
		assert.True(t, c.OK, "%s: %s", c.Name, c.Detail)
	}
	require.True(t, r.OK)
	assert.Equal(t, Speed{1 << 19, 1 << 20, 0.5}, r.Speed, "of the fastest turns")

	for _, tt := range []struct {
		name string
		edit func(*Report)
		want string
	}{
		{"no ID registers", func(r *Report) { r.SMMU = SMMU{} }, "the kernel shows a guest the physical SMMU's ID registers"},
		{"a test is missing", func(r *Report) { r.Tests[1].Name = "TestOther" }, "any stage can replace any other"},
		{"a test was skipped", func(r *Report) { r.Tests[10].Outcome, r.Tests[10].Reason = Skip, "QEMU: cannot" }, "no DMA uses invalidated configuration or translations after SYNC"},
		{"a test failed", func(r *Report) { r.Tests = append(r.Tests, Test{Name: "TestX", Outcome: Fail}) }, "no test failed"},
		{"a test was skipped for an unknown reason", func(r *Report) {
			r.Tests = append(r.Tests, Test{Name: "TestX", Outcome: Skip, Reason: "this is not the machine"})
		}, "skipped tests need something that the machine lacks"},
		{"an object leaked", func(r *Report) { r.Figures.Objects = 1 }, "no iommufd object leaked"},
		{"no host reported its objects", func(r *Report) { r.Figures = Figures{} }, "no iommufd object leaked"},
		{"a warning", func(r *Report) { r.Warnings = []string{"BUG: x"} }, "no kernel printed a warning"},
		{"the guest did not power off", func(r *Report) { r.Guest.Boots = r.Guest.Boots[:2] }, "the guest rebooted, crashed, and powered off, in this order"},
		{"the emulated disk has no stream", func(r *Report) { r.Guest.Streams = r.Guest.Streams[:2] }, "both disks are behind one SMMU, each with a host of its own"},
		{"a stream that was not translated", func(r *Report) { r.Guest.Streams[2].Binds = []string{"bypass"} }, "both disks are behind one SMMU, each with a host of its own"},
		{"the StreamID did not change", func(r *Report) { r.Guest.Moved.To = 0x100 }, "the NVMe disk's StreamID follows the number of its bus"},
		{"another StreamID was attached", func(r *Report) { r.Guest.Moved.To = 0x300 }, "the NVMe disk's StreamID follows the number of its bus"},
		{"the old StreamID was not detached", func(r *Report) { r.Guest.Places[1].Error = "no" }, "the NVMe disk's StreamID follows the number of its bus"},
		{"the new StreamID was not attached", func(r *Report) { r.Guest.Places = r.Guest.Places[:2] }, "the NVMe disk's StreamID follows the number of its bus"},
		{"no interrupts", func(r *Report) { r.Guest.Interrupts.Line = 0 }, "without MSIs the NVMe disk interrupts by INTx"},
		{"an MSI", func(r *Report) { r.Guest.Interrupts.Messages = 1 }, "without MSIs the NVMe disk interrupts by INTx"},
		{"a step is missing", func(r *Report) { r.Guest.Steps = r.Guest.Steps[1:] }, "both disks were written, read and verified at every step"},
		{"a disk failed", func(r *Report) { r.Guest.Steps[3].Disks[1].Error = "EIO" }, "both disks were written, read and verified at every step"},
		{"a disk is missing", func(r *Report) { r.Guest.Steps[3].Disks = r.Guest.Steps[3].Disks[:1] }, "both disks were written, read and verified at every step"},
		{"fewer bytes were verified", func(r *Report) { r.Guest.Steps[3].Disks[1].Verified-- }, "both disks were written, read and verified at every step"},
		{"the disk bypassed stage 1", func(r *Report) { r.Guest.Steps[3].Disks[1].IOMMU = guest.DomainIdentity }, "both disks were written, read and verified at every step"},
		{"the NVMe disk has other bytes", func(r *Report) { r.Guest.NVMe = 0 }, "both disks' storage has the bytes that the guest wrote"},
		{"no event", func(r *Report) { r.Guest.Events = nil }, "the SMMU recorded an unmapped DMA, and the guest's kernel reported it"},
		{"an event for another address", func(r *Report) { r.Guest.Events[0].Address = 0x7000 }, "the SMMU recorded an unmapped DMA, and the guest's kernel reported it"},
		{"the kernel reported nothing", func(r *Report) { r.Guest.Stray.Kernel = nil }, "the SMMU recorded an unmapped DMA, and the guest's kernel reported it"},
		{"the kernel did not find the SMMU enabled", func(r *Report) { r.Guest.TakenOver = nil }, "the guest's kernel took over an enabled SMMU"},
		{"the host did not remove the disk", func(r *Report) { r.Guest.Removed = nil }, "the host removed the NVMe disk during DMA, and the other disk still works"},
		{"the removal failed", func(r *Report) { r.Guest.Removed.Error = "no" }, "the host removed the NVMe disk during DMA, and the other disk still works"},
		{"its stream is still attached", func(r *Report) { r.Guest.Places = r.Guest.Places[:3] }, "the host removed the NVMe disk during DMA, and the other disk still works"},
		{"no byte was read before", func(r *Report) { r.Guest.Lost.Bytes = 0 }, "the host removed the NVMe disk during DMA, and the other disk still works"},
		{"reads continued after the removal", func(r *Report) { r.Guest.Lost.Error = "" }, "the host removed the NVMe disk during DMA, and the other disk still works"},
		{"the other disk failed, too", func(r *Report) { r.Guest.Lost.Virtio.Verified = 0 }, "the host removed the NVMe disk during DMA, and the other disk still works"},
		{"too many ioctls", func(r *Report) { r.Guest.Reads[0].Ioctls = 13 }, "a CMD_SYNC of the NVMe disk takes at most 1.1 invalidation ioctls"},
		{"one command for each SYNC", func(r *Report) { r.Guest.Reads[0].Commands, r.Guest.Reads[2].Commands = 10, 10 }, "no invalidation ioctl has one command where the guest gave more"},
		{"a turn did not bypass stage 1", func(r *Report) { r.Guest.Reads[3].IOMMU = guest.DomainStrict }, "the NVMe disk was read with stage 1 translating and bypassed, by turns"},
		{"no turn bypassed stage 1", func(r *Report) { r.Guest.Reads = slices.Delete(slices.Delete(r.Guest.Reads, 3, 4), 1, 2) }, "the NVMe disk was read with stage 1 translating and bypassed, by turns"},
		{"turns without time", func(r *Report) { r.Guest.Reads[1].Seconds, r.Guest.Reads[3].Seconds = 0, 0 }, "the NVMe disk was read with stage 1 translating and bypassed, by turns"},
		{"too many ioctls in a later turn", func(r *Report) { r.Guest.Reads[2].Ioctls = 13 }, "a CMD_SYNC of the NVMe disk takes at most 1.1 invalidation ioctls"},
		{"ioctls with one command", func(r *Report) { r.Guest.Reads[0].Alone = 1 }, "no invalidation ioctl has one command where the guest gave more"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := good()
			tt.edit(r)
			r.Judge()
			assert.False(t, r.OK)
			var failed []string
			for _, c := range r.Checks {
				if !c.OK {
					failed = append(failed, c.Name)
				}
			}
			assert.Equal(t, []string{tt.want}, failed)
		})
	}

}

// Judge judges a run that ended early by its complete checks and its failures.
func TestJudgeLeavesOutWhatARunDidNotReach(t *testing.T) {
	names := func(r *Report) (held, failed []string) {
		for _, c := range r.Checks {
			if c.OK {
				held = append(held, c.Name)
			} else {
				failed = append(failed, c.Name)
			}
		}
		return held, failed
	}
	early := func(r *Report) *Report {
		r.Error = "the machine ended before its program"
		r.Judge()
		assert.False(t, r.OK)
		assert.Equal(t, len(r.checks()), len(r.Checks)+len(r.NotReached))
		return r
	}
	r := early(&Report{})
	assert.Empty(t, r.Checks)

	r = early(&Report{Tests: []Test{{Name: "TestKernelDriverConfiguresDevice", Outcome: Pass}, {Name: "TestKernelConformance/Faults/x", Outcome: Fail}}})
	held, failed := names(r)
	assert.Equal(t, []string{"a device does what a guest's driver writes to registers, queues and tables"}, held)
	assert.Equal(t, []string{"faults carry the guest's StreamID", "no test failed"}, failed)

	r = early(&Report{Tests: []Test{{Name: "TestX", Outcome: Skip, Reason: "not in a lab machine"}}, Figures: Figures{Hosts: 1, Figures: machine.Figures{Objects: 2}},
		Warnings: []string{"host: Kernel panic - not syncing", "host: WARNING: CPU: 0"}})
	_, failed = names(r)
	assert.Equal(t, []string{"skipped tests need something that the machine lacks", "no iommufd object leaked", "no kernel printed a warning"}, failed)

	r = early(&Report{Warnings: []string{"host: Kernel panic - not syncing", "host: Call trace:"}})
	assert.Empty(t, r.Checks, "the panic is the error")

	r = good()
	r.reached = testsEnded
	r.Guest = Guest{Steps: []Step{{Name: guest.StepFirst, Disks: []guest.Disk{{Serial: "nvme", Error: "EIO"}}}}, Interrupts: &guest.LabInterrupts{},
		Removed: &machine.Removed{Error: "busy"}}
	_, failed = names(early(r))
	assert.Equal(t, []string{"without MSIs the NVMe disk interrupts by INTx", "both disks were written, read and verified at every step",
		"the host removed the NVMe disk during DMA, and the other disk still works"}, failed)

	r = good()
	r.reached = guestEnded
	r.Guest.NVMeError = "at offset 0x0: wrong"
	_, failed = names(early(r))
	assert.Equal(t, []string{"both disks' storage has the bytes that the guest wrote"}, failed)
	assert.Empty(t, r.NotReached)
}

// A skipped test does not count as passed.
func TestSummaryListsSkippedTestsWithReasons(t *testing.T) {
	r := good()
	r.Judge()
	var out bytes.Buffer
	require.NoError(t, r.Summary(&out))
	assert.Regexp(t, `Skipped tests\n  TestKernelConformance/Tables/two-level  the host has no IDR0.CD2L`, out.String())
	n, passed := len(r.checks()), r.count(Pass)
	assert.Contains(t, out.String(), fmt.Sprintf("\nOK: %d of %d checks held; %d tests passed, 0 failed, 1 skipped\n", n, n, passed))
}

func TestComplainsFindsWarningsAndOopses(t *testing.T) {
	for line, want := range map[string]bool{
		"WARNING: CPU: 0 PID: 1 at drivers/iommu/iommufd/main.c:1": true,
		"Unable to handle kernel NULL pointer dereference":         true,
		"arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:":     false,
		"Mount-cache hash table entries: 2048":                     false,
	} {
		assert.Equal(t, want, complains(line), line)
	}
}

func TestChecksOfOurSMMUFailForTheirCause(t *testing.T) {
	const suite, moves, commands = "with our SMMU, the conformance suite passes",
		"with our SMMU, it was saved and restored at least 50 times during the tests",
		"with our SMMU, no command of the host's kernel is rejected"
	for _, tt := range []struct {
		name string
		edit func(*Report)
		want []string
	}{
		{"everything holds", func(*Report) {}, nil},
		{"the suite did not run", func(r *Report) {
			r.Tests = slices.DeleteFunc(r.Tests, func(t Test) bool { return t.Machine == machineOwn })
		}, []string{suite}},
		{"a test failed", func(r *Report) {
			r.Tests = append(r.Tests, Test{Machine: machineOwn, Name: "TestX", Outcome: Fail})
		}, []string{suite, "no test failed"}},
		{"it was not moved often", func(r *Report) { r.Own[0].Moves["CMD_SYNC"]-- }, []string{moves}},
		{"it rejected a command", func(r *Report) { r.Own[0].Rejected = []string{"CMD_SYNC: CERROR_ILL"} }, []string{commands}},
		{"it got no command", func(r *Report) { r.Own[0].Commands = nil }, []string{commands}},
		{"it did not run", func(r *Report) { r.Own = nil }, []string{commands, moves}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := good()
			r.Only = machineOwn
			tt.edit(r)
			r.Judge()
			var failed []string
			for _, c := range r.Checks {
				if !c.OK {
					failed = append(failed, c.Name)
				}
			}
			assert.Equal(t, tt.want, failed)
			assert.Equal(t, tt.want == nil, r.OK)
		})
	}
}

// A test that makes an ATC hang excuses what the kernel says about it, and nothing else.
func TestComplaintsAboutAnATCAreExcusedWhileATestExpectsThem(t *testing.T) {
	var e excuses
	for _, line := range []struct {
		text string
		want bool
	}{
		{"arm-smmu-v3 9050000.iommu: CMD_SYNC timeout at 0x00000151", true},
		{"kerneltest: complaints about an ATC are expected", false},
		{"arm-smmu-v3 9050000.iommu: CMD_SYNC timeout at 0x00000151", false},
		{"arm-smmu-v3 9050000.iommu: CMDQ error (cons 0x03000151): ATC invalidate timeout", false},
		{"arm-smmu-v3 9050000.iommu: unexpected global error reported (0x00000001), this could be serious", false},
		{"Internal error: Oops: 0000000096000047 [#1]  SMP", true},
		{"kerneltest: complaints are faults again", false},
		{"arm-smmu-v3 9050000.iommu: CMDQ error (cons 0x03000151): ATC invalidate timeout", true},
	} {
		assert.Equal(t, line.want, e.complains(line.text), line.text)
	}
}
