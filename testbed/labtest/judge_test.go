package labtest

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

// good is a report of a run in which all is as it should be.
func good() *Report {
	r := &Report{Kernel: "7.3.4", SMMU: SMMU{IDR: [6]string{"0d44101b"}}, Figures: Figures{Hosts: 3}}
	for _, name := range []string{
		"TestKernelConformance/Capabilities", "TestKernelConformance/Claim", "TestKernelConformance/GuestIDs",
		"TestKernelConformance/States", "TestKernelConformance/Identity",
		"TestKernelConformance/Tables", "TestKernelConformance/Rejected", "TestKernelConformance/Granules",
		"TestKernelConformance/Permissions", "TestKernelConformance/TwoStreams", "TestKernelConformance/Invalidate",
		"TestKernelConformance/InFlight", "TestKernelConformance/Close", "TestKernelConformance/Faults",
		"TestKernelTakesWhatTheHostOffers", "TestKernelMemoryFollowsSlots", "TestKernelCDOutsideMemory",
		"TestKernelCountsLostEvents", "TestKernelOneRequestABatch", "TestKernelTakesCommandsOfAnyGuest",
		"TestKernelWholeDevice", "TestKernelRefusals", "TestKernelSharedGroup", "TestKernelNoPermission", "TestUnnestedKernel",
		"TestStage1Kernel", "TestStage2Kernel", "TestIncoherentKernel",
		"TestKernelTranslationsOfNobody", "TestKernelGivesEverythingBack", "TestKernelDeviceVanishes", "TestKernelGuestMoves",
		"TestMachineEndsAsTheGuestAsks", "TestMachineEndsWithItsContext", "TestMachineBootsAgainAfterAReset",
		"TestMachineInterrupts", "TestAccessThatCannotBeEmulatedEndsTheMachine",
	} {
		r.Tests = append(r.Tests, Test{Name: name, Outcome: Pass})
	}
	r.Tests = append(r.Tests, Test{Name: "TestKernelConformance/Tables/two-level", Outcome: Skip, Reason: "the host has no IDR0.CD2L"})
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
		Stray: guest.LabStray{Address: 0x5000, Kernel: []string{"arm-smmu-v3 9050000.iommu: event 0x10 received:"}},
		Moved: guest.LabMove{From: 0x100, To: 0x200},
		Lost: guest.LabLost{
			Bytes: 1 << 20, Error: "input/output error", Virtio: guest.Disk{Verified: guest.LabSize(guest.StepTakenOver)},
		},
		Removed:    &machine.Removed{Seconds: 0.1},
		Interrupts: guest.LabInterrupts{Line: 20},
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

func TestJudge(t *testing.T) {
	r := good()
	r.Judge()
	for _, c := range r.Checks {
		assert.True(t, c.OK, "%s: %s", c.Name, c.Detail)
	}
	require.True(t, r.OK)
	assert.Equal(t, Speed{1 << 19, 1 << 20, 0.5}, r.Speed, "of the quickest turns")

	for _, tt := range []struct {
		name string
		edit func(*Report)
		want string
	}{
		{"no host", func(r *Report) { r.SMMU = SMMU{} }, "the host's kernel lets a guest have its SMMU"},
		{"a test is missing", func(r *Report) { r.Tests[1].Name = "TestOther" }, "every state of the thread, from each to each"},
		{"a test was skipped", func(r *Report) { r.Tests[10].Outcome, r.Tests[10].Reason = Skip, "QEMU: cannot" }, "what is withdrawn is out of reach after SYNC"},
		{"a test failed", func(r *Report) { r.Tests = append(r.Tests, Test{Name: "TestX", Outcome: Fail}) }, "no test failed"},
		{"nobody knows why", func(r *Report) {
			r.Tests = append(r.Tests, Test{Name: "TestX", Outcome: Skip, Reason: "this is not the machine"})
		}, "what was not run is beyond the emulated hardware"},
		{"an object is left", func(r *Report) { r.Figures.Objects = 1 }, "every iommufd object is gone"},
		{"nobody counted", func(r *Report) { r.Figures = Figures{} }, "every iommufd object is gone"},
		{"a warning", func(r *Report) { r.Warnings = []string{"BUG: x"} }, "neither kernel has anything to complain of"},
		{"an early end", func(r *Report) { r.Guest.Boots = r.Guest.Boots[:2] }, "the guest was rebooted, and once crashed, and powered off"},
		{"one host", func(r *Report) { r.Guest.Streams = r.Guest.Streams[:2] }, "both disks are behind one SMMU, each with its own host"},
		{"a stream that was not translated", func(r *Report) { r.Guest.Streams[2].Binds = []string{"bypass"} }, "both disks are behind one SMMU, each with its own host"},
		{"no new number", func(r *Report) { r.Guest.Moved.To = 0x100 }, "the NVMe disk's StreamID followed the number of its bus"},
		{"another number", func(r *Report) { r.Guest.Moved.To = 0x300 }, "the NVMe disk's StreamID followed the number of its bus"},
		{"the old one was not detached", func(r *Report) { r.Guest.Places[1].Error = "no" }, "the NVMe disk's StreamID followed the number of its bus"},
		{"the new one was not attached", func(r *Report) { r.Guest.Places = r.Guest.Places[:2] }, "the NVMe disk's StreamID followed the number of its bus"},
		{"no interrupts", func(r *Report) { r.Guest.Interrupts.Line = 0 }, "the NVMe disk interrupted by INTx where it was not let send messages"},
		{"messages", func(r *Report) { r.Guest.Interrupts.Messages = 1 }, "the NVMe disk interrupted by INTx where it was not let send messages"},
		{"a step is missing", func(r *Report) { r.Guest.Steps = r.Guest.Steps[1:] }, "both were written, read back and verified at every step"},
		{"a disk failed", func(r *Report) { r.Guest.Steps[3].Disks[1].Error = "EIO" }, "both were written, read back and verified at every step"},
		{"a disk is missing", func(r *Report) { r.Guest.Steps[3].Disks = r.Guest.Steps[3].Disks[:1] }, "both were written, read back and verified at every step"},
		{"less was verified", func(r *Report) { r.Guest.Steps[3].Disks[1].Verified-- }, "both were written, read back and verified at every step"},
		{"the disk went past the SMMU", func(r *Report) { r.Guest.Steps[3].Disks[1].IOMMU = guest.DomainIdentity }, "both were written, read back and verified at every step"},
		{"another disk got the bytes", func(r *Report) { r.Guest.NVMe = 0 }, "what the guest wrote is where the disks have their bytes from"},
		{"no event", func(r *Report) { r.Guest.Events = nil }, "a DMA that the guest never mapped was recorded, and its kernel reported it"},
		{"another event", func(r *Report) { r.Guest.Events[0].Address = 0x7000 }, "a DMA that the guest never mapped was recorded, and its kernel reported it"},
		{"nothing of the kernel", func(r *Report) { r.Guest.Stray.Kernel = nil }, "a DMA that the guest never mapped was recorded, and its kernel reported it"},
		{"the SMMU was reset", func(r *Report) { r.Guest.TakenOver = nil }, "a kernel that found the SMMU enabled took it over"},
		{"the host did not get the disk", func(r *Report) { r.Guest.Removed = nil }, "the host took the NVMe disk back in mid-DMA, and nothing else was lost"},
		{"the host got it with an error", func(r *Report) { r.Guest.Removed.Error = "no" }, "the host took the NVMe disk back in mid-DMA, and nothing else was lost"},
		{"its stream is still attached", func(r *Report) { r.Guest.Places = r.Guest.Places[:3] }, "the host took the NVMe disk back in mid-DMA, and nothing else was lost"},
		{"it was not being read", func(r *Report) { r.Guest.Lost.Bytes = 0 }, "the host took the NVMe disk back in mid-DMA, and nothing else was lost"},
		{"it was read after", func(r *Report) { r.Guest.Lost.Error = "" }, "the host took the NVMe disk back in mid-DMA, and nothing else was lost"},
		{"the other disk was lost, too", func(r *Report) { r.Guest.Lost.Virtio.Verified = 0 }, "the host took the NVMe disk back in mid-DMA, and nothing else was lost"},
		{"too many requests", func(r *Report) { r.Guest.Reads[0].Ioctls = 13 }, "at most 1.1 invalidation ioctls for each CMD_SYNC of the NVMe disk"},
		{"no more than one command for any SYNC", func(r *Report) { r.Guest.Reads[0].Commands, r.Guest.Reads[2].Commands = 10, 10 }, "none has a single command where the guest gave more"},
		{"a turn went another way", func(r *Report) { r.Guest.Reads[3].IOMMU = guest.DomainStrict }, "the NVMe disk was read through stage 1 and past it, by turns"},
		{"no turn past stage 1", func(r *Report) { r.Guest.Reads = slices.Delete(slices.Delete(r.Guest.Reads, 3, 4), 1, 2) }, "the NVMe disk was read through stage 1 and past it, by turns"},
		{"a clock that stood", func(r *Report) { r.Guest.Reads[1].Seconds, r.Guest.Reads[3].Seconds = 0, 0 }, "the NVMe disk was read through stage 1 and past it, by turns"},
		{"requests of a later turn", func(r *Report) { r.Guest.Reads[2].Ioctls = 13 }, "at most 1.1 invalidation ioctls for each CMD_SYNC of the NVMe disk"},
		{"lone commands", func(r *Report) { r.Guest.Reads[0].Alone = 1 }, "none has a single command where the guest gave more"},
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

	r = good()
	r.Error = "the machine went down"
	r.Judge()
	assert.False(t, r.OK)
}

// What was not run is named, with the reason, and does not count as passed.
func TestSummaryNamesWhatWasNotRun(t *testing.T) {
	r := good()
	r.Judge()
	var out bytes.Buffer
	require.NoError(t, r.Summary(&out))
	assert.Regexp(t, `Tests that were not run\n  TestKernelConformance/Tables/two-level  the host has no IDR0.CD2L`, out.String())
	assert.Contains(t, out.String(), "\nOK: 29 of 29 checks held; 37 tests passed, 0 failed, 1 not run\n")
}

func TestComplains(t *testing.T) {
	for line, want := range map[string]bool{
		"WARNING: CPU: 0 PID: 1 at drivers/iommu/iommufd/main.c:1": true,
		"Unable to handle kernel NULL pointer dereference":         true,
		"arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:":     false,
		"Mount-cache hash table entries: 2048":                     false,
	} {
		assert.Equal(t, want, complains(line), line)
	}
}
