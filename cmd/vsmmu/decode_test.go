package main

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		args   string
		status int
		want   string // with one space for any number of them
	}{
		{"ste 0x5000000000400_02b 0xb6", 0, "S1ContextPtr [55:6] 0x400000"},
		{"ste 0x5000000000400_02b 0xb6", 0, "S1Fmt [5:4] 0x2 two-level/64KiB"},
		{"ste 0", 1, "ILLEGAL: V is 0 (§5.2.2), reported as C_BAD_STE"},
		{"ste f", 1, "ILLEGAL: Config needs a stage 2 that the SMMU does not have (§5.2.2)"},
		{"cd 0007_6205_c080_3510 43210000", 0, "ASID [63:48] 0x7"},
		{"cd 0", 1, "C_BAD_CD"},
		{"cmd 0x1000000003 1", 0, "StreamID [63:32] 0x10"},
		{"cmd 0x3046", 1, "ILLEGAL: CS is reserved (§4.7.3), reported as CERROR_ILL"},
		{"-ids 400 cmd 40 34", 0, "Size [69:64] 0x34 everything"},
		{"event 3200000010 20800000000 5bad00000000", 0, "F_TRANSLATION: the address is not mapped"},
		{"idr 081810df", 0, "ST_LEVEL IDR0 [28:27] 0x1 linear and two-level"},
		{"", 2, "no line of an SMMU in 0 lines"},
		{"foo 1", 2, `"foo" is not a kind (want ste, cd, l1std, l1cd, desc, cmd, event, pri, idr, cr0, `},
		{"ste", 2, "ste: no words given"},
		{"ste xyz", 2, `"xyz" is not a hexadecimal word of 64 bits`},
		{"idr 123456789", 2, "not a hexadecimal word of 32 bits"},
		{"cmd 1 2 3", 2, "3 words given, at most 2 expected"},
		{"-ids z cmd 1", 2, "-ids"},
	} {
		status, out, errs := command(append([]string{"decode"}, strings.Fields(c.args)...)...)
		assert.Equal(t, c.status, status, c.args)
		assert.Contains(t, regexp.MustCompile(" +").ReplaceAllString(out+errs, " "), c.want, c.args)
		if status == 2 {
			assert.Empty(t, out)
		}
	}
	_, out, _ := command("decode", "idr", "081810df")
	assert.NotRegexp(t, `(?m)^\w+ +IDR1`, out, "only the registers that were given")
}

// realSMMUs has IDR0 to IDR5, IIDR and AIDR of real SMMUs, and of variants of them.
var realSMMUs = map[string]string{
	"QEMU":                                    "0d44101b 02730010 00000000 00001414 00000000 00000074 00000000 00000001",
	"Arm MMU-600 in an Agilex 5":              "080f7e3f 0e739d18 00000000 0000003c 00000000 00400075 4832243b 00000001",
	"like an MMU-600, coherent, HTTU":         "080fe6ff 0e739d18 00000000 0000003c 00000000 00400075 4832043b 00000001",
	"like an MMU-700, 32-bit StreamIDs":       "080feeff 8e739d20 00000000 000097fc 00000000 00800476 4872043b 00000002",
	"Arm fixed virtual platform":              "080fe6bf 0e739d10 00000000 00000014 00000000 0001005d 00000000 00000001",
	"Arm base platform, as kernels run on it": "0046123b 00600002 00000000 00001714 00000000 ffff0472 00000000 00000002",
	"like QEMU, without stage 2":              "0904100a 02730010 00000000 00001404 00000000 00000074 00000000 00000001",
	"like QEMU, without stage 1":              "09441009 02730010 00000000 00001510 00000000 00000074 00000000 00000002",
}

func TestDecodeOfRealRegistersIsLegal(t *testing.T) {
	for name, regs := range realSMMUs {
		t.Run(name, func(t *testing.T) {
			words := strings.Fields(regs)
			for n := 1; n <= len(words); n++ {
				status, out, errs := command(append([]string{"decode", "idr"}, words[:n]...)...)
				assert.Equal(t, 0, status, "%d registers: %s%s", n, out, errs)
				assert.NotContains(t, out, "ILLEGAL")
			}
		})
	}
}

// The second table has the value that the guest reads, and the reason.
func TestDecodeListsFieldsThatDifferForAGuest(t *testing.T) {
	_, out, _ := command(append([]string{"decode", "idr"}, strings.Fields(realSMMUs["Arm fixed virtual platform"])...)...)
	host, guest, ok := strings.Cut(out, "\nA guest of this project reads by default:\n")
	require.True(t, ok, out)
	for _, field := range []string{"BTM", "SEV", "ATOS", "VMW", "Hyp"} {
		assert.Regexp(t, `(?m)^`+field+` +IDR0 \[\d+\] +0x1 +yes$`, host)
		assert.Regexp(t, `(?m)^`+field+` +IDR0 \[\d+\] +0x0 +\S`, guest)
	}
	assert.NotRegexp(t, `(?m)^CD2L `, guest, "a field that is the same for the guest")
}

// Package smmuv3 tests the rules. Rules between fields apply once IDR0 to IDR5 are given, and rules
// of a version once AIDR is given.
func TestDecodeOfImpossibleRegistersIsIllegal(t *testing.T) {
	for regs, want := range map[string]string{
		"0d441013":                           "TTF is a reserved value (§6.3.1)",
		"0f44101b":                           "STALL_MODEL is a reserved value (§6.3.1)",
		"0d44101b 02730021":                  "SIDSIZE is a reserved value (§6.3.2)",
		"0d44101b 02730010 0 1c14":           "BBML is a reserved value (§6.3.4)",
		"0d44101b 02730010 0 1414 0 74 0 11": "ArchMajor is a reserved value (§6.3.8)",
		"0d45101b 02730010 0 1414 0 74":      "PRI needs ATS (§6.3.1)",
		"0d44101f 02730010 0 1414 0 64":      "TTF with AArch32 needs GRAN4K (§6.3.6)",
		"0d44101b 02730010 0 1414 0 74 0 2":  "SMMUv3.2 and later have Hyp with S1P and S2P (§6.3.1)",
		"081810df 0 0 0 0 0":                 "VATOS needs ATOS and S1P and S2P (§6.3.1)",
	} {
		status, out, errs := command(append([]string{"decode", "idr"}, strings.Fields(regs)...)...)
		assert.Equal(t, 1, status, "%s: %s", regs, errs)
		assert.Contains(t, out, "\nILLEGAL: "+want+"\n", regs)
		assert.NotContains(t, out, "guest of this project")
	}
	for _, regs := range []string{"0d45101b", "081810df", "0d44101b 02730010 0 1414 0 74"} {
		status, out, _ := command(append([]string{"decode", "idr"}, strings.Fields(regs)...)...)
		assert.Equal(t, 0, status, "%s: %s", regs, out)
	}
}

// A command that some SMMU accepts is legal. A note says that the guest's SMMU does not accept it.
func TestDecodeJudgesCommandsByTheArchitecture(t *testing.T) {
	for _, c := range []struct {
		cmd    string
		status int
		note   string
	}{
		{"46", 0, ""}, {"30", 0, ""}, {"1000000003 1", 0, ""}, {"11 0", 0, ""}, {"12 1000", 0, ""},
		{"20", 0, "Not for a guest"}, {"21", 0, "Not for a guest"}, {"22 1000", 0, "Not for a guest"}, {"23 1000", 0, "Not for a guest"},
		{"28", 0, "Not for a guest"}, {"2a 1000", 0, "Not for a guest"},
		{"100000044 1", 0, "Not for a guest"}, {"100000045", 0, "Not for a guest"}, {"07", 0, "Not for a guest"},
		{"70", 0, "Not for a guest"}, {"73", 0, "Not for a guest"},
		{"80", 0, "The architecture leaves it to the SMMU"}, {"8f", 0, "The architecture leaves it to the SMMU"},
		{"99", 1, ""}, {"0", 1, ""}, {"ff", 1, ""}, {"3046", 1, ""}, {"18", 1, ""}, {"50", 1, ""}, {"403", 1, ""},
	} {
		status, out, errs := command(append([]string{"decode", "cmd"}, strings.Fields(c.cmd)...)...)
		assert.Equal(t, c.status, status, "%s: %s%s", c.cmd, out, errs)
		assert.Equal(t, c.status == 1, strings.Contains(out, "ILLEGAL: "), "%s: %s", c.cmd, out)
		assert.Contains(t, out, c.note, c.cmd)
		if c.note == "" {
			assert.NotContains(t, out, "guest of this project", c.cmd)
		}
	}
}

// With -ids, a command is legal if the SMMU with these registers accepts it.
func TestDecodeJudgesCommandsByTheGivenRegisters(t *testing.T) {
	ids := func(name string) string { return strings.ReplaceAll(realSMMUs[name], " ", ",") }
	for _, c := range []struct {
		ids, cmd string
		status   int
	}{
		{"Arm MMU-600 in an Agilex 5", "20", 0}, {"Arm MMU-600 in an Agilex 5", "2a 1000", 0},
		{"Arm MMU-600 in an Agilex 5", "1000000040 34", 0}, {"Arm MMU-600 in an Agilex 5", "100000044 1", 0},
		{"QEMU", "20", 1}, {"QEMU", "1000000040 34", 1}, {"QEMU", "2a 1000", 0},
	} {
		status, out, _ := command(append([]string{"decode", "-ids", ids(c.ids), "cmd"}, strings.Fields(c.cmd)...)...)
		assert.Equal(t, c.status, status, "%s: %s: %s", c.ids, c.cmd, out)
		assert.NotContains(t, out, "Not for a guest", "the given registers decide")
	}
}

func TestDecodeRefusesInvalidWords(t *testing.T) {
	words := func(kind string, n int) []string {
		return append([]string{"decode", kind}, slices.Repeat([]string{"0"}, n)...)
	}
	for _, tt := range []struct {
		args []string
		says string
	}{
		{words("ste", 9), "9 words given, at most 8 expected"},
		{words("cd", 9), "9 words given, at most 8 expected"},
		{words("cmd", 3), "3 words given, at most 2 expected"},
		{words("event", 5), "5 words given, at most 4 expected"},
		{words("idr", 9), "9 words given, at most 8 expected"},
		{[]string{"decode", "ste", "1_0000_0000_0000_0000"}, "not a hexadecimal word of 64 bits"},
		{[]string{"decode", "idr", "1_0000_0000"}, "not a hexadecimal word of 32 bits"},
		{[]string{"decode", "cmd", "-1"}, "not a hexadecimal word of 64 bits"},
		{[]string{"decode", "cmd", "0x"}, "not a hexadecimal word of 64 bits"},
		{[]string{"decode", "cmd", "\x1b[2J"}, "not a hexadecimal word of 64 bits"},
		{[]string{"decode", "-ids", "0,0,0,0,0,0,0,0,0", "cmd", "46"}, "-ids: 9 words"},
		{[]string{"decode", "-ids", "1_0000_0000", "cmd", "46"}, "-ids: \"1_0000_0000\" is not a hexadecimal word of 32 bits"},
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
