package main

import (
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// decodeInput runs decode with a text as its standard input.
func decodeInput(t *testing.T, input string, args ...string) (status int, out, errs string) {
	t.Helper()
	old := stdin
	defer func() { stdin = old }()
	stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	status = run(append([]string{"decode"}, args...), &stdout, &stderr)
	return status, stdout.String(), stderr.String()
}

func TestDecodeReadsWordsAsPeopleHaveThem(t *testing.T) {
	_, want, _ := command("decode", "ste", "0005000000400_02b", "b6")
	require.Contains(t, want, "S1ContextPtr")
	for name, input := range map[string]string{
		"blanks":                   "500000040002b b6",
		"commas":                   "0x500000040002b,0xb6",
		"an initializer in C":      "0x0005_0000_0040_002bULL, 0xb6UL,\n",
		"lines":                    "0x500000040002b\r\n\t0xb6\n",
		"indices":                  "0: 0x500000040002b\n1: 0xb6",
		"offsets":                  "0x0: 0x500000040002b 0x8: 0xb6",
		"offsets in any order":     "0x8:0xb6 0x0:0x500000040002b",
		"addresses":                "ffff000012340040: 000500000040002b 00000000000000b6",
		"gdb's examine":            "0xffff000012340040:\t0x000500000040002b\t0x00000000000000b6\n",
		"gdb's examine, a symbol":  "0xffff000012340040 <table+64>:\t0x000500000040002b\t0xb6\n",
		"gdb's examine, halves":    "0xffff000012340040:\t0x0040002b\t0x00050000\t0x000000b6\t0x00000000\n",
		"crash's rd":               "ffff000012340040:  000500000040002b 00000000000000b6   +.@.............\n",
		"hexdump -C":               "00000040  2b 00 40 00 00 00 05 00  b6 00 00 00 00 00 00 00  |+.@.............|\n00000050\n",
		"xxd -e -g8":               "00000040: 000500000040002b 00000000000000b6  +.@.............\n",
		"capitals and upper 0X":    "0X500000040002B 0XB6",
		"a label before its words": "0x0:\n500000040002b b6",
	} {
		t.Run(name, func(t *testing.T) {
			_, out, errs := decodeInput(t, input, "ste")
			assert.Equal(t, want, out, errs)
			_, out, errs = decodeInput(t, input, "ste", "-")
			assert.Equal(t, want, out, errs)
			_, out, errs = command("decode", "ste", input)
			assert.Equal(t, want, out, errs)
		})
	}
}

func TestDecodeSaysWhichWordsAreMissing(t *testing.T) {
	for _, c := range []struct {
		args  string
		want  string
		shown string // a regexp of a field that is shown
		not   string // one of a field that is not
	}{
		{"ste 1", "Missing: words 1 to 7.", `^V `, `^S1DSS `},
		{"cd 0x8: 1", "Not judged, since word 0 is missing.", `^TTB0 `, `^V |ILLEGAL`},
		{"ste b", "Rules take missing words as 0.", `^V `, `ILLEGAL`},
		{"event 10 0 5bad0000", "Missing: word 3.", `^InputAddr `, `^IPA `},
		{"cmdq 0x9c: 0x01000022", "Missing: CMDQ_PROD.", `^ERR +CMDQ_CONS \[30:24\] +0x1 +CERROR_ILL$`, `CMDQ_PROD \[`},
		{"idr 0x14: 0x74", "Missing: IDR0 to IDR4, IIDR to AIDR.", `^OAS +IDR5`, `^S2P `},
		{"strtab 1:10210", "Missing: STRTAB_BASE.", `^SPLIT `, `^ADDR`},
	} {
		_, out, errs := command(append([]string{"decode"}, strings.Fields(c.args)...)...)
		assert.Contains(t, out, c.want, "%s: %s", c.args, errs)
		assert.Regexp(t, "(?m)"+c.shown, out, c.args)
		assert.NotRegexp(t, "(?m)"+c.not, out, c.args)
	}
	_, out, _ := command("decode", "pri", "1", "2")
	assert.NotContains(t, out, "Missing")
}

func TestDecodeRefusesWordsWithoutAPlace(t *testing.T) {
	for input, says := range map[string]string{
		"0: 1 0: 2":                         "word 0 is given twice",
		"7: 1 2":                            "word 8 is given, but the last one is word 7",
		"0xb: 1":                            `"0xb:" is neither an index below 8 nor a multiple of 8`,
		"z: 1":                              `"z:" is not an index or an offset`,
		"":                                  "ste: no words given",
		" ,\n":                              "ste: no words given",
		"0:":                                "ste: no words given",
		"8: 1":                              "ste: word 0 is missing (it has Config, which decides the other fields)",
		"\x1b[2J":                           "is not a hexadecimal word of 64 bits",
		strings.Repeat("z", 99):             `z"... is not a hexadecimal word`,
		strings.Repeat(" ", maxWordInput+1): "too much for one structure",
	} {
		status, out, errs := decodeInput(t, input, "ste")
		assert.Equal(t, 2, status, input)
		assert.Empty(t, out, input)
		if strings.HasPrefix(input, "zz") {
			says = "is not a hexadecimal word of 64 bits"
		}
		assert.Contains(t, errs, says, input)
		assert.NotContains(t, errs, "\x1b")
		assert.Less(t, len(errs), 200)
	}
}

func TestDecodeReportsAFailedStandardInput(t *testing.T) {
	old := stdin
	defer func() { stdin = old }()
	r, w := io.Pipe()
	require.NoError(t, w.CloseWithError(io.ErrUnexpectedEOF))
	stdin = r
	status, _, errs := command("decode", "ste", "-")
	assert.Equal(t, 2, status)
	assert.Contains(t, errs, "read standard input: unexpected EOF")
}

func TestDecodeOfRegistersAndLevel1Descriptors(t *testing.T) {
	for args, want := range map[string]string{
		"cr0 0x0000000d":                 "SMMUEN CR0 [0] 0x1 transactions are translated",
		"cr1 0x0d75":                     "TABLE_SH CR1 [11:10] 0x3 inner shareable",
		"cr2 0x7":                        "PTM CR2 [2] 0x1 broadcast TLB maintenance may be ignored",
		"gbpa 0x00101000":                "ABORT GBPA [20] 0x1 transactions abort",
		"irq_ctrl 5":                     "EVENTQ_IRQEN IRQ_CTRL [2] 0x1 enabled",
		"gerror 0x00000001 0":            "Active errors (GERROR and GERRORN differ): CMDQ_ERR.",
		"gerror 0x64: 0x101 0x60: 0x100": "Active errors (GERROR and GERRORN differ): CMDQ_ERR.",
		"gerror 4 4":                     "Active errors (GERROR and GERRORN differ): none.",
		"gerror 4":                       "An error is active while its bits in GERROR and GERRORN differ.",
		"cmdq 0x23 0x01000022":           "WR CMDQ_PROD [19:0] 0x23",
		"strtab 0x80: 0x4000000045000000 0x10210": "ADDR STRTAB_BASE [55:6] 0x45000000",
		"l1std 0x45010009":                        "Span [4:0] 0x9 STEs: 256",
		"l1cd 0x45020001":                         "L2Ptr [55:12] 0x45020000",
		"pri 0xd000000000000010 0x5000001":        "StreamID [31:0] 0x10",
		"pri 0xc000000000000010 0":                "Stop PASID marker",
	} {
		status, out, errs := command(append([]string{"decode"}, strings.Fields(args)...)...)
		assert.Equal(t, 0, status, "%s: %s", args, errs)
		assert.Contains(t, regexp.MustCompile(" +").ReplaceAllString(out, " "), want, args)
	}
	_, out, _ := command("decode", "cr0", "0x80000001")
	assert.Regexp(t, `reserved +CR0 \[31\]`, out)
}

// The schema is that of docs/decode.md.
func TestDecodeAsJSON(t *testing.T) {
	status, out, errs := command("decode", "-json", "cmdq", "0x9c:", "0x01000022")
	require.Equal(t, 0, status, errs)
	assert.JSONEq(t, `{
		"kind": "cmdq", "title": "command queue indices (§6.3.27, §6.3.28)",
		"words": ["", "0x01000022"],
		"fields": [
			{"name": "RD", "register": "CMDQ_CONS", "bits": "[19:0]", "value": "0x22"},
			{"name": "ERR", "register": "CMDQ_CONS", "bits": "[30:24]", "value": "0x1", "meaning": "CERROR_ILL"}
		],
		"notes": ["Missing: CMDQ_PROD. Their fields are not shown."]
	}`, out)

	status, out, _ = command("decode", "-json", "ste", "0")
	var d decoded
	require.NoError(t, json.Unmarshal([]byte(out), &d))
	assert.Equal(t, 1, status)
	assert.Equal(t, "V is 0 (§5.2.2), reported as C_BAD_STE", d.Illegal)
	assert.Equal(t, 1, strings.Count(out, "\n"), "one line an object")
}

func TestDecodeOfDescriptors(t *testing.T) {
	for args, want := range map[string]string{
		"desc 0x60000040000f47":                     "OutputAddress [47:12] 0x40000000",
		"-level 1 desc 0x60000040000f45":            "OutputAddress [47:30] 0x40000000",
		"-level 2 -granule 16k desc 0x42000701":     "OutputAddress [47:25] 0x42000000",
		"-stage 2 desc 0x400000400007ff":            "S2AP [7:6] 0x3 read and write",
		"-granule 64K -level 2 desc 0x40000003":     "level 2, 64 KiB granule",
		"-stage 2 -level 0 desc 0x1800000040000003": "NextTable [47:12] 0x40000000",
	} {
		status, out, errs := command(append([]string{"decode"}, strings.Fields(args)...)...)
		assert.Equal(t, 0, status, "%s: %s", args, errs)
		assert.Contains(t, narrow(out), want, args)
	}
	for args, want := range map[string]string{
		"-granule 8K desc 3": `-granule "8K": want 4K, 16K or 64K`, "-level 4 desc 3": "-level 4: want -1 to 3",
		"-stage 3 desc 3": "-stage 3: want 1 or 2", "-stage 2 ste 3": "-stage is for desc, not for ste", "desc 1 2": "2 words given",
	} {
		line.Refuses(t, want, append([]string{"decode"}, strings.Fields(args)...)...)
	}
}

// A dump in which a word is cut has no words that were not there.
func TestDecodeOfABrokenDump(t *testing.T) {
	for _, input := range []string{
		"ffff000012340040:  000500000040002b 00000000000000b6   +.@...|..\x1b......................\n",
		"00000040  2b 00 40 00 00 00 05 00  b6 00 00 |+.@.............|\n",
		"00000040  2b 00 40 00 00 00 05 00  b6 00 00 00 00 00 00 00\n",
	} {
		status, out, _ := decodeInput(t, input, "ste")
		assert.Equal(t, 2, status, "%s: %s", input, out)
	}
}
