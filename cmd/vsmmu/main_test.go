package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBadCommandLinesGetOneLineAndStatus2(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"bot"}, `unknown command "bot": see vsmmu help`},
		{[]string{"help", "bot"}, `unknown command "bot": see vsmmu help`},
		{[]string{"boot", "-nosuch"}, "-nosuch: see vsmmu boot -h"},
		{[]string{"bench-boot", "-nosuch"}, "-nosuch: see vsmmu bench-boot -h"},
		{[]string{"bench-boot", "-rounds", "0"}, "measure at least once"},
		{[]string{"lab", "-nosuch"}, "-nosuch: see vsmmu lab -h"},
		{[]string{"lab", "-timeout", "0s"}, "not a time to wait"},
		{[]string{"lab", "-kernel", ""}, "make lab-kernel builds one"},
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
		{[]string{"boot", "-pasid-bits", "276"}, "PASIDs of 276 bits"}, // 20, were it cut to eight bits
		{[]string{"boot", "-cmdline", "a\nb"}, "more than one line"},
		{[]string{"boot", "-save-restore", "501"}, "give up to 500"},
		{[]string{"boot", "-save-restore", "1", "-record", "t"}, "with vsmmu replay -restored"},
		{[]string{"boot", "-accel", "fast"}, "[auto kvm tcg]"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			args := tt.args
			if _, ok := commands[args[0]]; ok {
				// A bad command line must not get as far as to make this.
				args = append([]string{args[0], "-report", filepath.Join(t.TempDir(), "report.json")}, args[1:]...)
			}
			var stdout, stderr bytes.Buffer
			assert.Equal(t, 2, run(args, &stdout, &stderr))
			assert.Contains(t, stderr.String(), tt.want)
			assert.Equal(t, 1, strings.Count(stderr.String(), "\n"), "one line, not %q", stderr.String())
			assert.Empty(t, stdout.String())
		})
	}
}

// fullDisk takes no output.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestOutputThatCannotBeWrittenIsStatus2(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"boot", "-h"}, {"help", "decode"}, {"decode", "cmd", "46"}, {"replay"}} {
		var stderr bytes.Buffer
		assert.Equal(t, 2, run(args, fullDisk{}, &stderr), args)
		assert.Equal(t, "vsmmu: no space left on device\n", stderr.String(), args)
	}
}

func TestHelpGoesToStandardOutput(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"-h"}, {"--help"}, {"boot", "-h"}, {"boot", "--help"}} {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, 0, run(args, &stdout, &stderr), args)
		assert.Contains(t, stdout.String(), "Usage:")
		assert.Empty(t, stderr.String())
	}
	for name := range commands {
		var asked, flagged, stderr bytes.Buffer
		assert.Equal(t, 0, run([]string{"help", name}, &asked, &stderr), name)
		assert.Equal(t, 0, run([]string{name, "-h"}, &flagged, &stderr), name)
		assert.Contains(t, asked.String(), "Usage: vsmmu "+name)
		assert.Equal(t, flagged.String(), asked.String())
		assert.Contains(t, usage, "\n  vsmmu "+name+" ")
		assert.Empty(t, stderr.String())
	}
	var stdout, stderr bytes.Buffer
	assert.Equal(t, 2, run(nil, &stdout, &stderr), "no command is a mistake")
	assert.Contains(t, stderr.String(), "Usage:")
}

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

	o, err = parseBoot([]string{
		"-kernel", "k", "-modules", "m", "-host-kernel", "hk", "-host-modules", "hm", "-cmdline", "iommu.strict=0",
		"-report", "r", "-timeout", "90s", "-accel", "tcg", "-mem", "1g", "-pasid-bits", "11", "-save-restore", "12", "-agent", "a", "-qemu", "q", "-stall", "-rebind", "-stage", "2", "-transport", "pci",
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
}

// No word too many is taken, and none that is too wide or no number.
func TestDecodeOfWordsThatCannotBe(t *testing.T) {
	words := func(kind string, n int) []string {
		return append([]string{"decode", kind}, slices.Repeat([]string{"0"}, n)...)
	}
	for _, tt := range []struct {
		args []string
		says string
	}{
		{words("ste", 9), "9 words, where there are 8 at most"},
		{words("cd", 9), "9 words, where there are 8 at most"},
		{words("cmd", 3), "3 words, where there are 2 at most"},
		{words("event", 5), "5 words, where there are 4 at most"},
		{words("idr", 9), "9 words, where there are 8 at most"},
		{[]string{"decode", "ste", "1_0000_0000_0000_0000"}, "no word of 64 bits"},
		{[]string{"decode", "idr", "1_0000_0000"}, "no word of 32 bits"},
		{[]string{"decode", "cmd", "-1"}, "no word of 64 bits"},
		{[]string{"decode", "cmd", "0x"}, "no word of 64 bits"},
		{[]string{"decode", "cmd", "\x1b[2J"}, "no word of 64 bits"},
		{[]string{"decode", "-ids", "0,0,0,0,0,0,0,0,0", "cmd", "46"}, "-ids: 9 words"},
		{[]string{"decode", "-ids", "1_0000_0000", "cmd", "46"}, "-ids: \"1_0000_0000\" is no word of 32 bits"},
	} {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, 2, run(tt.args, &stdout, &stderr), tt.args)
		assert.Contains(t, stderr.String(), tt.says, tt.args)
		assert.NotContains(t, stderr.String(), "\x1b", tt.args)
		assert.Empty(t, stdout.String(), tt.args)
	}
}

func TestDecodeOfAllIDRegisters(t *testing.T) {
	var stdout, stderr bytes.Buffer
	run([]string{"decode", "idr", "0", "0", "0", "0", "0", "0", "1234543b", "3"}, &stdout, &stderr)
	for _, line := range []string{
		`(?m)^Implementer +IIDR \[11:0\] +0x43b$`, `(?m)^Revision +IIDR \[15:12\] +0x5$`,
		`(?m)^Variant +IIDR \[19:16\] +0x4$`, `(?m)^ProductID +IIDR \[31:20\] +0x123$`, `(?m)^ArchMinor +AIDR \[3:0\] +0x3 +SMMUv3\.3$`,
	} {
		assert.Regexp(t, line, stdout.String())
	}
}
