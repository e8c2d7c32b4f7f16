package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/internal/cli"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

const decodeUsage = `Usage: vsmmu decode [flags] KIND [WORD...]
       COMMAND | vsmmu decode [flags]

Explains words of an SMMU's structures and registers field by field, and names the rule of the specification that
makes them illegal. KIND is one of:
  ste, cd          Stream Table Entry, Context Descriptor: 8 words
  l1std, l1cd      level-1 descriptor of a Stream table, of a CD table: 1 word
  desc             descriptor of a translation table, by -granule, -level and -stage: 1 word
  cmd, event, pri  record of the command, event or PRI queue: 2, 4 or 2 words
  idr              IDR0 to IDR5, IIDR, AIDR
  cr0, cr1, cr2, gbpa, irq_ctrl
                   the register of this name
  gerror           GERROR, GERRORN
  strtab           STRTAB_BASE, STRTAB_BASE_CFG
  cmdq             CMDQ_PROD, CMDQ_CONS
  log              lines of a log: events, errors and commands that Linux's or Xen's driver printed, and QEMU's
                   traces of SMMU events and registers. Other lines are skipped. log is the default if standard
                   input is no terminal

Words are hexadecimal, the lowest first. Blanks, commas and newlines separate them. 0x, underscores and a suffix such
as ULL are optional. "2:" or "0x10:" before a word is its index, or its offset or address in bytes if it is a multiple
of the word's size. The fields of missing words are not shown, and rules take missing words as 0. Without a WORD, or
with "-", decode reads words from standard input.

Whether words are legal depends on the ID registers of an SMMU. With -ids, decode uses these registers. Without -ids:
  ste, cd  decode uses the registers that a guest of this project reads by default
  cmd      a command is ILLEGAL if every SMMU refuses it; a note says if only the guest's SMMU refuses it
  idr      registers are ILLEGAL if no SMMU can have them; a second table lists the fields that differ for a guest.
           Unless all of IDR0 to IDR5 are given, decode checks each field by itself

With -json, decode prints an object; for a log, an object on each line. docs/decode.md describes it.

Examples:
  vsmmu decode event 0x0000001000000010 0x0000020800000000 0x5bad0000 0
  vsmmu decode strtab 0x80: 0x4000000045000000 0x88: 0x10210
  vsmmu decode -level 2 desc 0x40000000000711
  dmesg | vsmmu decode
  echo '0x5000000000400_02bULL, 0xb6' | vsmmu decode ste

Exit status:
  0  the words are legal, or a log has lines of an SMMU
  1  the words are illegal
  2  nothing was decoded

Flags:
`

// stdin is the standard input, which tests replace.
var stdin io.Reader = os.Stdin

// request is the user's input to decode.
type request struct {
	words []uint64
	given []bool         // whether the user gave the word; it is 0 if not
	ids   *smmuv3.IDRegs // the argument of -ids; nil if not given
	guest *smmuv3.IDRegs // the registers that a guest reads by default

	// The table of a descriptor.
	format       smmuv3.Format
	level, stage int
}

// judge returns the registers that decide what is legal.
func (r *request) judge() *smmuv3.IDRegs {
	if r.ids != nil {
		return r.ids
	}
	return r.guest
}

// whole reports whether all words were given.
func (r *request) whole() bool { return !slices.Contains(r.given, false) }

// rows returns the fields of the words that were given.
func (r *request) rows(fields []smmuv3.Field) (all []row) {
	for _, f := range fields {
		if r.given[f.Lo/64] {
			all = append(all, rowOf(f, ""))
		}
	}
	return all
}

// rowOf returns a field of a register, or of a structure if the register is "".
func rowOf(f smmuv3.Field, register string) row {
	return row{f.Name, register, f.Bits(), fmt.Sprintf("%#x", f.Value), f.Meaning}
}

// decoded is the result. Its JSON is documented in docs/decode.md.
type decoded struct {
	Line    int      `json:"line,omitempty"`   // of a log, from 1
	Source  string   `json:"source,omitempty"` // the line
	Kind    string   `json:"kind"`
	Title   string   `json:"title"`
	Words   []string `json:"words"` // "" for a missing word
	Fields  []row    `json:"fields"`
	Guest   []row    `json:"guest,omitempty"`   // the fields of ID registers that differ for a guest
	Notes   []string `json:"notes,omitempty"`   // sentences below the fields
	Illegal string   `json:"illegal,omitempty"` // why the words are illegal
}

// row is a field.
type row struct {
	Name     string `json:"name"`
	Register string `json:"register,omitempty"` // if the words are registers
	Bits     string `json:"bits"`
	Value    string `json:"value"`
	Meaning  string `json:"meaning,omitempty"`
}

// explain returns the explanation of the words of a request.
func (k kind) explain(r *request) decoded {
	d := k.decode(r)
	d.Kind, d.Title = k.name, k.title
	for i, w := range r.words {
		text := ""
		if r.given[i] {
			text = fmt.Sprintf("0x%0*x", k.bits/4, w)
		}
		d.Words = append(d.Words, text)
	}
	if !r.whole() {
		d.Notes = append([]string{missing(r.given, k.registers)}, d.Notes...)
	}
	return d
}

// text returns the result for people.
func (d decoded) text() string {
	var b strings.Builder
	b.WriteString(aligned(d.Fields))
	for _, n := range d.Notes {
		b.WriteString(n + "\n")
	}
	if len(d.Guest) > 0 {
		b.WriteString("\nA guest of this project reads by default:\n" + aligned(d.Guest))
	}
	if d.Illegal != "" {
		b.WriteString("ILLEGAL: " + d.Illegal + "\n")
	}
	return b.String()
}

func decodeCommand(args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("decode", flag.ContinueOnError)
	list := f.String("ids", "", "use the ID registers `HEX,HEX,...` of an SMMU, IDR0 first")
	asJSON := f.Bool("json", false, "print JSON, for programs")
	granule := f.String("granule", "4K", "desc: the granule of the tables, `SIZE` 4K, 16K or 64K")
	level := f.Int("level", 3, "desc: the `LEVEL` of the table, -1 to 3")
	stage := f.Int("stage", 1, "desc: the `STAGE` of the translation, 1 or 2")
	if code, done := program.Parsed(cli.Parse(f, args, decodeUsage, stdout), "decode", stderr); done {
		return code
	}
	r, err := descriptorFlags(*granule, *level, *stage)
	if err != nil {
		return complain(stderr, err)
	}
	if set(f, "ids") {
		words, _, err := parseWords(*list, 8, 32)
		if err != nil {
			return complain(stderr, fmt.Errorf("-ids: %w", err))
		}
		ids := idRegs(words)
		r.ids = &ids
	}
	guest, err := idr.Derive(nil, bridge.Capabilities{IDs: soft.DefaultIDs()})
	if err != nil {
		return complain(stderr, err)
	}
	r.guest = &guest.IDs

	if log, ok := logInput(f.Args(), stdin); ok {
		if err := decodeLog(r, log, stdout, *asJSON); err != nil {
			return complain(stderr, err)
		}
		return cli.OK
	}
	if f.NArg() == 0 {
		return complain(stderr, errors.New("nothing to decode: see vsmmu decode -h"))
	}
	k, ok := kindNamed(f.Arg(0))
	if !ok {
		return complain(stderr, fmt.Errorf("%.40q is not a kind (want %s): see vsmmu decode -h", f.Arg(0), kindNames()))
	}
	for _, name := range []string{"granule", "level", "stage"} {
		if set(f, name) && k.name != "desc" {
			return complain(stderr, fmt.Errorf("-%s is for desc, not for %s: see vsmmu decode -h", name, k.name))
		}
	}
	text, err := wordsOf(f.Args()[1:], stdin)
	if err == nil {
		r.words, r.given, err = parseWords(text, k.words, k.bits)
	}
	switch {
	case err != nil:
		return complain(stderr, err)
	case !slices.Contains(r.given, true):
		return complain(stderr, fmt.Errorf("%s: no words given: see vsmmu decode -h", k.name))
	}
	if tag := tagged[k.name]; tag != "" && !r.given[0] {
		return complain(stderr, fmt.Errorf("%s: word 0 is missing (it has %s, which decides the other fields)",
			k.name, tag))
	}
	d := k.explain(r)
	if err := printDecoded(stdout, d, *asJSON); err != nil {
		return complain(stderr, err)
	}
	if d.Illegal != "" {
		return cli.Failed
	}
	return cli.OK
}

// descriptorFlags returns a request for a descriptor of a table.
func descriptorFlags(granule string, level, stage int) (*request, error) {
	g, ok := map[string]smmuv3.Granule{
		"4K": smmuv3.Granule4K, "16K": smmuv3.Granule16K, "64K": smmuv3.Granule64K,
	}[strings.ToUpper(granule)]
	switch {
	case !ok:
		return nil, fmt.Errorf("-granule %.20q: want 4K, 16K or 64K", granule)
	case level < -1 || level > 3:
		return nil, fmt.Errorf("-level %d: want -1 to 3", level)
	case stage != 1 && stage != 2:
		return nil, fmt.Errorf("-stage %d: want 1 or 2", stage)
	}
	return &request{format: smmuv3.Format{Granule: g}, level: level, stage: stage}, nil
}

// printDecoded writes a result as text or as a line of JSON.
func printDecoded(w io.Writer, d decoded, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(d)
	}
	_, err := io.WriteString(w, d.text())
	return err
}

// aligned returns the fields as a table.
func aligned(fields []row) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range fields {
		place := strings.TrimPrefix(r.Register+" "+r.Bits, " ")
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.Name, place, r.Value, r.Meaning)
	}
	_ = t.Flush() // to memory
	// tabwriter pads a field without a meaning.
	return regexp.MustCompile(` +\n`).ReplaceAllString(b.String(), "\n")
}
