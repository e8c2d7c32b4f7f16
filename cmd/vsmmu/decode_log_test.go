package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// eventLog is a translation fault as Linux prints it.
const eventLog = `[    3.1] arm-smmu-v3 9050000.smmuv3: event 0x10 received:
[    3.1] arm-smmu-v3 9050000.smmuv3: 	0x0000001000000010
[    3.1] arm-smmu-v3 9050000.smmuv3: 	0x0000020800000000
[    3.1] arm-smmu-v3 9050000.smmuv3: 	0x000000005bad0000
[    3.1] arm-smmu-v3 9050000.smmuv3: 	0x0000000000000000
`

// narrow replaces each number of spaces by one.
func narrow(s string) string { return regexp.MustCompile(" +").ReplaceAllString(s, " ") }

func TestDecodeOfALog(t *testing.T) {
	for _, c := range []struct {
		name, log string
		want      []string
	}{
		{"an event", eventLog, []string{"Line 1: event record (§7.3)", "F_TRANSLATION: the address is not mapped",
			"StreamID [63:32] 0x10", "InputAddr [191:128] 0x5bad0000"}},
		{"an event of journalctl", strings.ReplaceAll(eventLog, "[    3.1]", "Dec 01 05:20:00 host kernel:"),
			[]string{"InputAddr [191:128] 0x5bad0000"}},
		{"an event whose tabs are escaped", strings.ReplaceAll(eventLog, "\t", `\x09`), []string{"InputAddr [191:128] 0x5bad0000"}},
		{"an event without names", "event 0x10 received:\n 0x0000001000000010\n\t0x0000020800000000\n\t0x000000005bad0000\n\t0x0000000000000000\n",
			[]string{"InputAddr [191:128] 0x5bad0000"}},
		{"an event of Xen", strings.ReplaceAll(eventLog, "[    3.1] arm-smmu-v3 9050000.smmuv3:", "(XEN) SMMUv3: /smmuv3@9050000:"),
			[]string{"InputAddr [191:128] 0x5bad0000"}},
		{"an event that Linux decodes", "[1] arm-smmu-v3 9050000.smmuv3: event: F_TRANSLATION client: 0000:00:02.0 sid: 0x10 " +
			"ssid: 0x0 iova: 0x5bad0000 ipa: 0x0\n[1] arm-smmu-v3 9050000.smmuv3: unpriv data write s1 \"Input address caused fault\" stag: 0x3\n",
			[]string{"type F_TRANSLATION the address is not mapped", "client 0000:00:02.0", "InputAddr 0x5bad0000",
				"RnW 0x0 write", "CLASS Input address caused fault", "STAG 0x3"}},
		{"an event of a stream without a driver", "arm-smmu-v3 a: event: C_BAD_STE client: (unassigned sid) sid: 0x10 ssid: 0x0",
			[]string{"client (unassigned sid)", "type C_BAD_STE"}},
		{"a fetch that aborted", "arm-smmu-v3 a: event: F_CD_FETCH client: x sid: 0x10 ssid: 0x1 fetch_addr: 0x5bad0000",
			[]string{"FetchAddr 0x5bad0000", "SubstreamID 0x1"}},
		{"a command error", "arm-smmu-v3 a: unexpected global error reported (0x00000001), this could be serious\n" +
			"arm-smmu-v3 a: CMDQ error (cons 0x01000022): Illegal command\narm-smmu-v3 a: skipping command in error state:\n" +
			"arm-smmu-v3 a: \t0x0000001000003046\narm-smmu-v3 a: \t0x0000000000000000\n",
			[]string{"CMDQ_ERR GERROR [0] 0x1", "RD CMDQ_CONS [19:0] 0x22", "CERROR_ILL", "Line 3: command (§4)",
				"ILLEGAL: CS is reserved (§4.7.3), reported as CERROR_ILL"}},
		{"a SYNC that hangs", "arm-smmu-v3 a: CMD_SYNC timeout at 0x00000012 [hwprod 0x00000013, hwcons 0x00000012]",
			[]string{"WR CMDQ_PROD [19:0] 0x13", "RD CMDQ_CONS [19:0] 0x12"}},
		{"lost MSIs", "arm-smmu-v3 a: EVTQ MSI write aborted", []string{"MSI_EVENTQ_ABT_ERR: an MSI of the event queue got lost."}},
		{"an overflow", "arm-smmu-v3 a: EVTQ overflow detected -- events lost", []string{"EVENTQ_PROD.OVFLG: the event queue was full."}},
		{"Service Failure Mode", "arm-smmu-v3 a: device has entered Service Failure Mode!", []string{"SFM_ERR"}},
		{"a page request", "arm-smmu-v3 a: unexpected PRI request received:\narm-smmu-v3 a: \tsid 0x00000010.0x00002: [5L] unprivileged RW access at iova 0x0000000005bad000",
			[]string{"StreamID [31:0] 0x10", "SubstreamID [51:32] 0x2", "PRGIndex [72:64] 0x5", "Last [62] 0x1", "W [61] 0x1", "Address [127:76] 0x5bad000"}},
		{"QEMU's traces", "123@1.5:smmuv3_record_event SMMU_EVT_F_TRANSLATION sid=0x10\nsmmuv3_write_gerror toggled=0x1, new GERROR=0x1\n" +
			"smmuv3_write_mmio addr: 0x20 val:0xd size: 0x4(0)\n",
			[]string{"type F_TRANSLATION the address is not mapped", "CMDQ_ERR", "SMMUEN CR0 [0] 0x1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, out, errs := decodeInput(t, c.log)
			assert.Equal(t, 0, status, errs)
			for _, want := range c.want {
				assert.Contains(t, narrow(out), want)
			}
			_, same, _ := decodeInput(t, c.log, "log")
			assert.Equal(t, out, same)
		})
	}
}

// Words belong to the device that printed them.
func TestDecodeSeparatesTheSMMUsOfALog(t *testing.T) {
	other := strings.NewReplacer("9050000", "9060000", "5bad0000", "6bad0000").Replace(eventLog)
	a, b := strings.SplitAfter(eventLog, "\n"), strings.SplitAfter(other, "\n")
	var mixed string
	for i := range a {
		mixed += a[i] + "[    3.1] nvme 1: 	0x0000000000000bad\n" + b[i]
	}
	_, out, errs := decodeInput(t, mixed)
	assert.Equal(t, 2, strings.Count(out, "event record"), "%s%s", out, errs)
	assert.Contains(t, narrow(out), "InputAddr [191:128] 0x5bad0000")
	assert.Contains(t, narrow(out), "InputAddr [191:128] 0x6bad0000")
	assert.NotContains(t, out, "nvme")
}

func TestDecodeSaysWhichWordsALogMisses(t *testing.T) {
	lines := strings.SplitAfter(eventLog, "\n")
	_, out, _ := decodeInput(t, strings.Join(lines[:3], ""))
	assert.Contains(t, out, "Missing: words 2 to 3.")
	assert.NotContains(t, out, "InputAddr")
	_, out, _ = decodeInput(t, lines[0])
	assert.Contains(t, out, "F_TRANSLATION: the address is not mapped. Its words are not in the log.")
	_, out, _ = decodeInput(t, lines[0]+lines[2]+lines[3]+lines[4])
	assert.Contains(t, out, "The log announced event 0x10: lines may be lost.")
}

func TestDecodeSkipsLinesThatAreNoSMMUs(t *testing.T) {
	for _, log := range []string{
		"", "\n\n", "hello\n", "nvme 1: event 0x10 received:\n", "usb 1-1: PRIQ MSI write aborted\n", "\t0x0000001000000010\n",
		"arm-smmu-v3 a: ias 44-bit, oas 44-bit (features 0x00000305)\n",
	} {
		status, out, errs := decodeInput(t, log)
		assert.Equal(t, 2, status, log)
		assert.Empty(t, out, log)
		assert.Regexp(t, `^vsmmu: no line of an SMMU in \d lines .*\n$`, errs, log)
	}
}

func TestDecodeOfALogAsJSONIsOneObjectALine(t *testing.T) {
	_, out, errs := decodeInput(t, "x\n"+eventLog+"arm-smmu-v3: CMDQ error (cons 0x01000022): Illegal command", "-json")
	var lines []int
	for s := bufio.NewScanner(strings.NewReader(out)); s.Scan(); {
		var d decoded
		require.NoError(t, json.Unmarshal(s.Bytes(), &d), errs)
		lines = append(lines, d.Line)
		assert.NotEmpty(t, d.Source)
		assert.NotEmpty(t, d.Fields)
	}
	assert.Equal(t, []int{2, 7}, lines)
}

// A log cannot make decode grow: it keeps few incomplete records, and little of a long line.
func TestDecodeOfALogIsBounded(t *testing.T) {
	var log strings.Builder
	for i := range 200 {
		fmt.Fprintf(&log, "arm-smmu-v3 %d: event 0x10 received:\n", i)
	}
	l := &logDecoder{emit: func(decoded) error { return nil }}
	for line := range strings.Lines(log.String()) {
		l.readLine(strings.TrimSpace(line))
	}
	assert.Len(t, l.pending, maxLogPending)
	_, out, _ := decodeInput(t, "event 0x10 received:"+strings.Repeat("x", 1<<20)+"\nend")
	assert.Less(t, len(out), 2*maxLogLine)
	assert.Contains(t, out, "Line 1:")
}

// Any bytes give an answer or one line of complaint, without control characters from the input.
func FuzzDecode(f *testing.F) {
	for _, seed := range map[string]string{
		"an event":                   eventLog,
		"words with labels":          "0xffff000012340040 <table+64>:\t0x1, 0x2ULL",
		"a terminal code":            "arm-smmu-v3 \x1b[2J: event: \x1b]0;x\x07F client: \x9b31m sid: 0x1 ssid: 0x0\n",
		"a C1 code in UTF-8":         "arm-smmu-v3 \u009b2J: PRIQ MSI write aborted",
		"bytes that are no UTF-8":    "arm-smmu-v3 \xff\xfe: event 0x10 received:\n",
		"a carriage return":          "x\rarm-smmu-v3 a: CMDQ error (cons 0x01000022): y\r\n",
		"more words than a record":   eventLog + "arm-smmu-v3 9050000.smmuv3: \t0x0000000000000000\n",
		"a group above nine bits":    "sid 0x00000010.0x00000: [999L] privileged RWX access at iova 0xffffffffffffffff",
		"a register beyond the last": "smmuv3_write_mmio addr: 0xffffffffffffffff val:0xffffffffffffffff size: 0x4(0)",
		"an empty label":             ": : 0x:",
		"a NUL":                      "\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, input string) {
		runs := [][]string{nil, {"-json"}, {"-"}}
		for i := range kinds {
			runs = append(runs, []string{kinds[i].name})
		}
		for _, args := range runs {
			status, out, errs := decodeInput(t, input, args...)
			assert.Contains(t, []int{0, 1, 2}, status)
			assert.Equal(t, status == 2, errs != "", "%d %q", status, errs)
			assert.NotRegexp(t, `[\x00-\x08\x0b-\x1f\x7f\x{80}-\x{9f}]`, out+errs)
			if errs != "" {
				assert.Equal(t, 1, strings.Count(errs, "\n"), errs)
			}
		}
	})
}
