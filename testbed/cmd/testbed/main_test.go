package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/internal/cli/clitest"
)

// line is the command line under test.
var line = clitest.Program{Program: program, Run: run}

func TestBadCommandLineIsStatus2WithOneLine(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"bot"}, `unknown command "bot": see testbed help`},
		{[]string{"help", "bot"}, `unknown command "bot": see testbed help`},
		{[]string{"boot", "-nosuch"}, "-nosuch: see testbed boot -h"},
		{[]string{"bench-boot", "-nosuch"}, "-nosuch: see testbed bench-boot -h"},
		{[]string{"bench-boot", "-rounds", "0"}, "measure at least once"},
		{[]string{"tables", "-nosuch"}, "-nosuch: see testbed tables -h"},
		{[]string{"tables", "-only", "wired,none"}, "-only none: not one of [wired "},
		{[]string{"boot", "-firmware", "bios"}, "-firmware bios: not one of [dt acpi uefi]"},
		{[]string{"boot", "-transport", "mixed"}, "only with -firmware acpi or uefi"},
		{[]string{"lab", "-nosuch"}, "-nosuch: see testbed lab -h"},
		{[]string{"lab", "-timeout", "0s"}, "not a time to wait"},
		{[]string{"lab", "-kernel", ""}, "make lab-kernel builds one"},
		{[]string{"lab", "-check"}, "make lab-kernel builds one"},
		{[]string{"lab", "-check", "-kernel", "main_test.go"}, "not an arm64 Linux kernel image"},
		{[]string{"lab", "-check", "-kernel", "nonsense"}, "no such file"},
		{[]string{"boot", "extra"}, `unexpected argument "extra"`},
		{[]string{"boot", "-timeout", "soon"}, "-timeout"},
		{[]string{"boot", "-timeout", "-1s"}, "not a time to wait"},
		{[]string{"boot", "-mem", "512"}, "suffix M or G"},
		{[]string{"boot", "-mem", ""}, "suffix M or G"},
		{[]string{"boot", "-mem", "-1G"}, "suffix M or G"},
		{[]string{"boot", "-mem", "99999999999999999999G"}, "suffix M or G"},
		{[]string{"boot", "-mem", "17179869184G"}, "suffix M or G"}, // 2^64 bytes
		{[]string{"boot", "-mem", "1M"}, "1 MiB of memory"},
		{[]string{"boot", "-pasid-bits", "-1"}, "-pasid-bits"},
		{[]string{"boot", "-pasid-bits", "276"}, "PASIDs of 276 bits"}, // 20 in eight bits
		{[]string{"boot", "-cmdline", "a\nb"}, "more than one line"},
		{[]string{"boot", "-save-restore", "501"}, "give up to 500"},
		{[]string{"boot", "-save-restore", "1", "-record", "t"}, "with vsmmu replay -restored"},
		{[]string{"boot", "-accel", "fast"}, "[auto kvm tcg]"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			args := tt.args
			if _, ok := program.Commands[args[0]]; ok {
				// A bad command line must not create this.
				args = append([]string{args[0], "-report", filepath.Join(t.TempDir(), "report.json")}, args[1:]...)
			}
			line.Refuses(t, tt.want, args...)
		})
	}
}

func TestOutputThatCannotBeWrittenIsStatus2(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"boot", "-h"}, {"help", "lab"}} {
		line.ReportsFailedOutput(t, args...)
	}
}

func TestHelpGoesToStandardOutput(t *testing.T) { line.HelpGoesToStandardOutput(t) }

func TestBenchBootFlags(t *testing.T) {
	o, err := parseBenchBoot(nil, nil)
	require.NoError(t, err)
	assert.Equal(t, "build/bench-boot/report.json", filepath.ToSlash(o.Report))
	assert.Equal(t, uint(2), o.Rounds)
	assert.Equal(t, "pci", o.Transport)
	assert.Equal(t, 20*time.Minute, o.Timeout)

	o, err = parseBenchBoot([]string{"-peer", "p", "-rounds", "3", "-kernel", "k"}, nil)
	require.NoError(t, err)
	assert.Equal(t, []string{"p", "k"}, []string{o.Peer, o.Kernel})
	assert.Equal(t, uint(3), o.Rounds)
}

func TestTablesFlags(t *testing.T) {
	o, err := parseTables(nil, nil)
	require.NoError(t, err)
	assert.Equal(t, "build/tables/report.json", filepath.ToSlash(o.Report))
	assert.Equal(t, "acpi", o.Firmware)
	assert.Empty(t, o.Tables, "all")

	o, err = parseTables([]string{"-only", "rmr,msi"}, nil)
	require.NoError(t, err)
	assert.Equal(t, "rmr,msi", o.Tables)
}

func TestBootFlags(t *testing.T) {
	o, err := parseBoot(nil, nil)
	require.NoError(t, err)
	assert.Equal(t, uint64(512<<20), o.Mem)
	assert.Equal(t, "build/boot/report.json", filepath.ToSlash(o.Report))
	assert.Equal(t, "auto", o.Accel)
	assert.Equal(t, "mmio", o.Transport)
	assert.Equal(t, uint(6), o.PASIDBits)
	assert.False(t, o.Stalls)
	assert.Equal(t, uint(1), o.Stage)
	assert.Equal(t, "dt", o.Firmware)

	o, err = parseBoot([]string{
		"-kernel", "k", "-modules", "m", "-host-kernel", "hk", "-host-modules", "hm", "-cmdline", "iommu.strict=0",
		"-report", "r", "-timeout", "90s", "-accel", "tcg", "-mem", "1g", "-pasid-bits", "11", "-save-restore", "12", "-agent", "a", "-qemu", "q", "-stall", "-rebind", "-stage", "2", "-transport", "pci", "-firmware", "uefi", "-efi", "e",
	}, nil)
	require.NoError(t, err)
	assert.Equal(t, []string{"k", "m", "hk", "hm", "iommu.strict=0", "r", "tcg", "a", "q"},
		[]string{o.Kernel, o.Modules, o.HostKernel, o.HostModules, o.Cmdline, o.Report, o.Accel, o.Agent, o.QEMU})
	assert.Equal(t, 90*time.Second, o.Timeout)
	assert.Equal(t, uint64(1<<30), o.Mem)
	assert.Equal(t, uint(11), o.PASIDBits)
	assert.Equal(t, uint(2), o.Stage)
	assert.True(t, o.Stalls)
	assert.Equal(t, uint(12), o.Moves)
	assert.True(t, o.Rebind)
	assert.Equal(t, "pci", o.Transport)
	assert.Equal(t, []string{"uefi", "e"}, []string{o.Firmware, o.EFI})
}
