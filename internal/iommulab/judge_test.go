package iommulab

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// good is a report of a run in which all is as it should be.
func good() *Report {
	r := &Report{Kernel: "7.3.4", SMMU: SMMU{IDR: [6]string{"0d44101b"}}, Figures: Figures{Hosts: 3}}
	for _, name := range []string{
		"TestKernelConformance/Capabilities", "TestKernelConformance/States", "TestKernelConformance/Identity",
		"TestKernelConformance/Tables", "TestKernelConformance/Rejected", "TestKernelConformance/Granules",
		"TestKernelConformance/Permissions", "TestKernelConformance/TwoStreams", "TestKernelConformance/Invalidate",
		"TestKernelConformance/UnderWay", "TestKernelConformance/Close", "TestKernelConformance/Faults",
		"TestKernelTakesWhatTheHostOffers", "TestKernelMemoryFollowsSlots", "TestKernelCDOutsideMemory",
		"TestKernelCountsLostEvents", "TestKernelOneRequestABatch", "TestKernelTakesCommandsOfAnyGuest",
		"TestKernelWholeDevice", "TestKernelRefusals", "TestKernelSharedGroup",
	} {
		r.Tests = append(r.Tests, Test{Name: name, Outcome: Pass})
	}
	r.Tests = append(r.Tests, Test{Name: "TestKernelConformance/Tables/two-level", Outcome: Skip, Reason: "the host has no IDR0.CD2L"})
	return r
}

func TestJudge(t *testing.T) {
	r := good()
	r.Judge()
	for _, c := range r.Checks {
		assert.True(t, c.OK, "%s: %s", c.Name, c.Detail)
	}
	require.True(t, r.OK)

	for _, tt := range []struct {
		name string
		edit func(*Report)
		want string
	}{
		{"no host", func(r *Report) { r.SMMU = SMMU{} }, "the host's kernel lets a guest have its SMMU"},
		{"a test is missing", func(r *Report) { r.Tests[1].Name = "TestOther" }, "every state of the thread, from each to each"},
		{"a test was skipped", func(r *Report) { r.Tests[8].Outcome, r.Tests[8].Reason = Skip, "QEMU: cannot" }, "what is withdrawn is out of reach after SYNC"},
		{"a test failed", func(r *Report) { r.Tests = append(r.Tests, Test{Name: "TestX", Outcome: Fail}) }, "no test failed"},
		{"nobody knows why", func(r *Report) {
			r.Tests = append(r.Tests, Test{Name: "TestX", Outcome: Skip, Reason: "this is not the machine"})
		}, "what was not run is beyond the emulated hardware"},
		{"an object is left", func(r *Report) { r.Figures.Objects = 1 }, "every iommufd object is gone"},
		{"nobody counted", func(r *Report) { r.Figures = Figures{} }, "every iommufd object is gone"},
		{"a warning", func(r *Report) { r.Warnings = []string{"BUG: x"} }, "the host's kernel has nothing to complain of"},
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
	assert.Contains(t, out.String(), "\nOK: 13 of 13 checks held; 21 tests passed, 0 failed, 1 not run\n")
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
