package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

const (
	maxLogLine    = 4096 // decode ignores the rest of a longer line
	maxLogPending = 64   // SMMUs whose records may be incomplete at the same time
)

// logDecoder finds the lines of SMMUs in a log and explains them. Records of several lines, such as
// the words of an event, may mix with lines of other drivers and of other SMMUs.
type logDecoder struct {
	request request // without words
	emit    func(decoded) error
	line    int
	source  string // the current line, safe to print
	found   int

	pending []*logRecord // the oldest first
	err     error        // the first of emit
}

// logRecord is a record whose words follow in later lines.
type logRecord struct {
	device, source string
	line           int
	kind           kind
	given          []uint64
	id             uint64 // of an event, from its first line
}

// logRule explains the lines with a message.
type logRule struct {
	has string // a part of each such line, which is quick to search
	re  *regexp.Regexp
	do  func(l *logDecoder, device string, m []string)
}

// logRules are the messages of Linux's driver since 5.10, which Xen's driver shares, and of
// QEMU's trace events.
var logRules = []logRule{
	{" received:", regexp.MustCompile(`event 0x([0-9a-f]{2}) received:`), (*logDecoder).eventWords},
	{"event: ", regexp.MustCompile(`event: (\w+) client: (.+) sid: (0x[0-9a-f]+|0) ssid: (0x[0-9a-f]+|0)` +
		`(?: iova: (0x[0-9a-f]+|0) ipa: (0x[0-9a-f]+|0))?(?: fetch_addr: (0x[0-9a-f]+|0))?\s*$`),
		(*logDecoder).eventText},
	{" stag: ", regexp.MustCompile(`\b(priv|unpriv) (inst|data) (read|write) s([12]) "([^"]*)"` +
		`( ttd_read| ttd_write)?( stall)? stag: (0x[0-9a-f]+|0)`), (*logDecoder).accessText},
	{"global error", regexp.MustCompile(`unexpected global error reported \(0x([0-9a-f]{1,8})\)`),
		(*logDecoder).globalError},
	{"CMDQ error", regexp.MustCompile(`CMDQ error \(cons 0x([0-9a-f]{1,8})\)`), (*logDecoder).cmdqError},
	{"skipping command", regexp.MustCompile(`skipping command in error state:`), (*logDecoder).skippedCommand},
	{"CMD_SYNC timeout", regexp.MustCompile(`CMD_SYNC timeout at \w+ ` +
		`\[hwprod 0x([0-9a-f]{1,8}), hwcons 0x([0-9a-f]{1,8})\]`), (*logDecoder).syncTimeout},
	{"privileged", regexp.MustCompile(`sid 0x([0-9a-f]{1,8})\.0x([0-9a-f]{1,5}): \[(\d{1,3})(L?)\] (un)?privileged ` +
		`(R?)(W?)(X?) access at iova 0x([0-9a-f]{1,16})`), (*logDecoder).pageRequest},
	{"smmuv3_record_event", regexp.MustCompile(`smmuv3_record_event (?:SMMU_EVT_)?(\w+) sid=(0x[0-9a-fA-F]+|\d+)`),
		(*logDecoder).qemuEvent},
	{"smmuv3_write_gerror", regexp.MustCompile(`smmuv3_write_gerror toggled=0x([0-9a-fA-F]{1,8}),`),
		(*logDecoder).globalError},
	{"_mmio addr", regexp.MustCompile(`smmuv3_(?:read|write)_mmio addr: ` +
		`0x([0-9a-fA-F]{1,16}) val:0x([0-9a-fA-F]{1,16}) size:`), (*logDecoder).qemuRegister},
}

// logMessages are messages without values.
var logMessages = []struct{ text, meaning string }{
	{"device has entered Service Failure Mode!", "SFM_ERR: the SMMU stopped translating; the driver disables it"},
	{"GERROR MSI write aborted", "MSI_GERROR_ABT_ERR: the MSI of a global error got lost"},
	{"PRIQ MSI write aborted", "MSI_PRIQ_ABT_ERR: an MSI of the PRI queue got lost"},
	{"EVTQ MSI write aborted", "MSI_EVENTQ_ABT_ERR: an MSI of the event queue got lost"},
	{"CMDQ MSI write aborted", "MSI_CMDQ_ABT_ERR: the MSI of a CMD_SYNC got lost"},
	{"PRIQ write aborted -- events may have been lost", "PRIQ_ABT_ERR: the SMMU could not write a page request"},
	{"EVTQ write aborted -- events may have been lost", "EVENTQ_ABT_ERR: the SMMU could not write an event"},
	{"EVTQ overflow detected -- events lost", "EVENTQ_PROD.OVFLG: the event queue was full"},
	{"PRIQ overflow detected -- requests lost", "PRIQ_PROD.OVFLG: the PRI queue was full"},
	{"retrying command fetch", "CERROR_ABT: the SMMU could not read a command; the driver retries"},
}

// logWord is a line with one word of a record. Tools that escape control characters print the tab as
// \x09.
var logWord = regexp.MustCompile(`^(.*?)(?:\\x09|\s)*0x([0-9a-f]{16})\s*$`)

// read explains a log to its end.
func (l *logDecoder) read(r io.Reader) error {
	in := bufio.NewReaderSize(r, maxLogLine)
	for l.err == nil {
		line, err := in.ReadSlice('\n')
		kept := string(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		if kept != "" {
			l.line++
			l.readLine(strings.TrimRight(kept, "\r\n"))
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
	}
	for len(l.pending) > 0 {
		l.finish(0)
	}
	return l.err
}

func (l *logDecoder) readLine(line string) {
	l.source = cli.Printable(line)
	for i := range logRules {
		rule := &logRules[i]
		if !strings.Contains(line, rule.has) {
			continue
		}
		at := rule.re.FindStringIndex(line)
		if at == nil {
			continue
		}
		// A log that was cut to its messages has no names of devices.
		if device := logDevice(line[:at[0]]); device == "" || namesSMMU(line) {
			rule.do(l, device, rule.re.FindStringSubmatch(line))
		}
		return
	}
	if m := logWord.FindStringSubmatch(line); m != nil {
		l.word(logDevice(m[1]), hexValue(m[2]))
		return
	}
	for _, m := range logMessages {
		if strings.HasSuffix(line, m.text) && namesSMMU(line) {
			l.add(decoded{Kind: "message", Title: "message", Notes: []string{m.meaning + "."}})
			return
		}
	}
}

// namesSMMU reports whether a line has the name of an SMMU. Other drivers have similar messages.
func namesSMMU(line string) bool { return strings.Contains(strings.ToLower(line), "smmu") }

// logDevice returns the name of the device before a message: the last word with a colon.
func logDevice(prefix string) string {
	prefix = strings.TrimRight(strings.TrimSuffix(strings.TrimSpace(prefix), "R_SMMU:"), " \t")
	name, ok := strings.CutSuffix(prefix, ":")
	if !ok {
		return ""
	}
	return name[strings.LastIndexAny(name, " \t")+1:]
}

// hexValue returns the value of digits that a rule's expression has checked.
func hexValue(s string) uint64 {
	v, _ := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 64)
	return v
}

// add emits a result of the current line.
func (l *logDecoder) add(d decoded) { l.addFrom(l.line, l.source, d) }

func (l *logDecoder) addFrom(line int, source string, d decoded) {
	d.Line, d.Source = line, source
	l.found++
	if l.err == nil {
		l.err = l.emit(d)
	}
}

// explain emits the explanation of words of a kind. Words beyond given are missing.
func (l *logDecoder) explain(name string, given ...uint64) {
	k, _ := kindNamed(name)
	l.add(k.explain(l.requestFor(k, given)))
}

func (l *logDecoder) requestFor(k kind, given []uint64) *request {
	r := l.request
	r.words, r.given = make([]uint64, k.words), make([]bool, k.words)
	for i := range given {
		r.words[i], r.given[i] = given[i], true
	}
	return &r
}

// begin starts a record. An earlier record of the device is incomplete.
func (l *logDecoder) begin(device, kindName string, id uint64) {
	for i, p := range l.pending {
		if p.device == device {
			l.finish(i)
			break
		}
	}
	if len(l.pending) == maxLogPending {
		l.finish(0)
	}
	k, _ := kindNamed(kindName)
	l.pending = append(l.pending, &logRecord{device: device, source: l.source, line: l.line, kind: k, id: id})
}

// word adds a word to the device's record. A line without a device belongs to the newest record.
func (l *logDecoder) word(device string, w uint64) {
	for i := len(l.pending) - 1; i >= 0; i-- {
		if p := l.pending[i]; p.device == device || device == "" {
			p.given = append(p.given, w)
			if len(p.given) == p.kind.words {
				l.finish(i)
			}
			return
		}
	}
}

// finish emits a record with the words that it has.
func (l *logDecoder) finish(i int) {
	p := l.pending[i]
	l.pending = append(l.pending[:i], l.pending[i+1:]...)
	if len(p.given) == 0 {
		note := "Its words are not in the log."
		if p.kind.name == "event" {
			t := smmuv3.EventType(p.id)
			note = fmt.Sprintf("%v: %s. %s", t, t.Words(), note)
		}
		l.addFrom(p.line, p.source, decoded{Kind: p.kind.name, Title: p.kind.title, Notes: []string{note}})
		return
	}
	d := p.kind.explain(l.requestFor(p.kind, p.given))
	if p.kind.name == "event" && p.given[0]&0xff != p.id {
		d.Notes = append(d.Notes, fmt.Sprintf("The log announced event %#02x: lines may be lost.", p.id))
	}
	l.addFrom(p.line, p.source, d)
}

func (l *logDecoder) eventWords(device string, m []string) { l.begin(device, "event", hexValue(m[1])) }

func (l *logDecoder) skippedCommand(device string, _ []string) { l.begin(device, "cmd", 0) }

// eventText explains the line in which newer kernels decode an event, after its words.
func (l *logDecoder) eventText(_ string, m []string) {
	d := decoded{Kind: "event", Title: "event that Linux decoded (§7.3)", Fields: []row{
		{Name: "type", Value: cli.Printable(m[1]), Meaning: eventWordsOf(m[1])},
		{Name: "client", Value: cli.Printable(m[2])},
		{Name: "StreamID", Value: m[3]}, {Name: "SubstreamID", Value: m[4]},
	}}
	for i, name := range []string{"InputAddr", "IPA", "FetchAddr"} {
		if v := m[5+i]; v != "" {
			d.Fields = append(d.Fields, row{Name: name, Value: v})
		}
	}
	l.add(d)
}

// eventWordsOf describes the event with a name, or returns "".
func eventWordsOf(name string) string {
	for t := range 256 {
		if t := smmuv3.EventType(t); t.String() == name {
			return t.Words()
		}
	}
	return ""
}

// accessText explains the line after that of eventText, which describes the access.
func (l *logDecoder) accessText(_ string, m []string) {
	flag := func(v bool) string {
		if v {
			return "0x1"
		}
		return "0x0"
	}
	d := decoded{Kind: "event", Title: "access that Linux decoded (§7.3)", Fields: []row{
		{Name: "PnU", Value: flag(m[1] == "priv"), Meaning: m[1]},
		{Name: "InD", Value: flag(m[2] == "inst"), Meaning: m[2]},
		{Name: "RnW", Value: flag(m[3] == "read"), Meaning: m[3]},
		{Name: "S2", Value: flag(m[4] == "2"), Meaning: "stage " + m[4]},
		{Name: "CLASS", Meaning: cli.Printable(m[5])},
		{Name: "Stall", Value: flag(m[7] != "")},
		{Name: "STAG", Value: m[8]},
	}}
	if m[6] != "" {
		ttd := strings.TrimSpace(m[6])
		d.Fields = append(d.Fields, row{Name: "TTRnW", Value: flag(ttd == "ttd_read"), Meaning: ttd})
	}
	l.add(d)
}

// globalError explains GERROR XOR GERRORN.
func (l *logDecoder) globalError(_ string, m []string) {
	active := hexValue(m[1])
	d := decoded{
		Kind: "gerror", Title: "active global errors (§6.3.19)", Words: []string{fmt.Sprintf("0x%08x", active)},
	}
	for _, f := range smmuv3.RegisterFields(smmuv3.RegGERROR, active) {
		if f.Value != 0 {
			d.Fields = append(d.Fields, rowOf(f, "GERROR"))
		}
	}
	l.add(d)
}

func (l *logDecoder) cmdqError(_ string, m []string) {
	k, _ := kindNamed("cmdq")
	r := l.requestFor(k, nil)
	r.words[1], r.given[1] = hexValue(m[1]), true
	l.add(k.explain(r))
}

func (l *logDecoder) syncTimeout(_ string, m []string) {
	l.explain("cmdq", hexValue(m[1]), hexValue(m[2]))
}

func (l *logDecoder) pageRequest(_ string, m []string) {
	group, _ := strconv.ParseUint(m[3], 10, 16)
	p := smmuv3.NewPageRequest(smmuv3.StreamID(hexValue(m[1])), uint16(group), hexValue(m[9]), smmuv3.PageAccess{
		Read: m[6] != "", Write: m[7] != "", Exec: m[8] != "", Privileged: m[5] == "",
	}, m[4] != "")
	if sub := hexValue(m[2]); sub != 0 {
		p = p.WithSubstream(smmuv3.SubstreamID(sub))
	}
	l.explain("pri", p[0], p[1])
}

func (l *logDecoder) qemuEvent(_ string, m []string) {
	l.add(decoded{Kind: "event", Title: "event of QEMU's trace (§7.3)", Fields: []row{
		{Name: "type", Value: m[1], Meaning: eventWordsOf(m[1])},
		{Name: "StreamID", Value: m[2]},
	}})
}

func (l *logDecoder) qemuRegister(_ string, m []string) {
	off, v := hexValue(m[1]), hexValue(m[2])
	name := smmuv3.RegisterName(off)
	if name == "" {
		return
	}
	d := decoded{Kind: "register", Title: name, Words: []string{fmt.Sprintf("%#x", v)}}
	for _, f := range smmuv3.RegisterFields(off, v) {
		d.Fields = append(d.Fields, rowOf(f, name))
	}
	l.add(d)
}

// decodeLog explains a log and writes the results to w, each as soon as it is complete.
func decodeLog(base *request, log io.Reader, w io.Writer, asJSON bool) error {
	l := &logDecoder{request: *base}
	l.emit = func(d decoded) error {
		if asJSON {
			return printDecoded(w, d, true)
		}
		var b bytes.Buffer
		if l.found > 1 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "Line %d: %s\n%s\n%s", d.Line, d.Title, d.Source, d.text())
		_, err := w.Write(b.Bytes())
		return err
	}
	if err := l.read(log); err != nil {
		return err
	}
	if l.found == 0 {
		return fmt.Errorf("no line of an SMMU in %d lines (give a KIND to decode words): see vsmmu decode -h", l.line)
	}
	return nil
}
