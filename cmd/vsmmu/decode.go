package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/internal/cli"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

const decodeUsage = `Usage: vsmmu decode [flags] ste|cd|cmd|event|idr HEX...

Explains words of the SMMU's structures field by field, and names the rule of the specification that makes them
illegal. Give 64-bit words, the lowest first; omitted words are 0. For idr, give 32-bit registers in the order IDR0 to
IDR5, IIDR, AIDR.

Whether words are legal depends on the ID registers of an SMMU. With -ids, decode uses these registers. Without -ids:
  ste, cd  decode uses the registers that a guest of this project reads by default
  cmd      a command is ILLEGAL if every SMMU refuses it; a note says if only the guest's SMMU refuses it
  idr      registers are ILLEGAL if no SMMU can have them; a second table lists the fields that differ for a guest.
           Unless all of IDR0 to IDR5 are given, decode checks each field by itself

Exit status:
  0  the words are legal
  1  the words are illegal
  2  nothing was decoded

Flags:
`

// request is the user's input to decode.
type request struct {
	words []uint64
	given int            // the number of words that the user gave
	ids   *smmuv3.IDRegs // the argument of -ids; nil if not given
	guest *smmuv3.IDRegs // the registers that a guest reads by default
}

// judge returns the registers that decide what is legal.
func (r *request) judge() *smmuv3.IDRegs {
	if r.ids != nil {
		return r.ids
	}
	return r.guest
}

// decoded is the result.
type decoded struct {
	fields  []row
	illegal string // why the words are illegal, or ""
	note    string // text below the fields, or ""
}

// row is a printed field.
type row struct{ place, name, value, meaning string }

// structures are the kinds that decode accepts: the largest number of words, their width, and the
// decoder.
var structures = map[string]struct {
	words, bits int
	decode      func(*request) decoded
}{
	"ste":   {8, 64, decodeSTE},
	"cd":    {8, 64, decodeCD},
	"cmd":   {2, 64, decodeCmd},
	"event": {4, 64, decodeEvent},
	"idr":   {8, 32, decodeIDR},
}

func decodeSTE(r *request) decoded {
	s := smmuv3.STE(r.words)
	return decoded{fields: rows(s.Fields()), illegal: illegal(s.Illegal(r.judge()), "C_BAD_STE")}
}

func decodeCD(r *request) decoded {
	c := smmuv3.CD(r.words)
	return decoded{fields: rows(c.Fields()), illegal: illegal(c.Illegal(r.judge(), false), "C_BAD_CD")}
}

func decodeCmd(r *request) decoded {
	c := smmuv3.Command(r.words)
	d := decoded{fields: rows(c.Fields())}
	rule := c.Illegal(r.judge())
	if rule == nil {
		return d
	}
	anywhere := rule
	if all := smmuv3.AllFeatures(); r.ids == nil {
		anywhere = c.Illegal(&all)
	}
	switch {
	case anywhere == nil:
		d.note = fmt.Sprintf("Not for a guest of this project: its SMMU reports CERROR_ILL: %v.\n", rule)
	case anywhere.Choice:
		d.note = fmt.Sprintf("The architecture leaves it to the SMMU whether this is legal; "+
			"this project reports CERROR_ILL: %v.\n", anywhere)
	default:
		d.illegal = illegal(anywhere, "CERROR_ILL")
	}
	return d
}

func decodeEvent(r *request) decoded {
	e := smmuv3.Event(r.words)
	fields := rows(e.Fields())
	fields[0].meaning += ": " + e.Type().Words()
	return decoded{fields: fields}
}

func rows(fields []smmuv3.Field) []row {
	all := make([]row, len(fields))
	for i, f := range fields {
		all[i] = row{f.Bits(), f.Name, fmt.Sprintf("%#x", f.Value), f.Meaning}
	}
	return all
}

func illegal(rule *smmuv3.Rule, reported string) string {
	if rule == nil {
		return ""
	}
	return fmt.Sprintf("%v, reported as %s", rule, reported)
}

func decodeCommand(args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("decode", flag.ContinueOnError)
	list := f.String("ids", "", "use the ID registers `HEX,HEX,...` of an SMMU, IDR0 first")
	if code, done := program.Parsed(cli.Parse(f, args, decodeUsage, stdout), "decode", stderr); done {
		return code
	}
	s, ok := structures[f.Arg(0)]
	switch {
	case f.NArg() == 0:
		return complain(stderr, errors.New("nothing to decode: see vsmmu decode -h"))
	case !ok:
		return complain(stderr, fmt.Errorf("%q is not a kind (want ste, cd, cmd, event or idr): see vsmmu decode -h",
			f.Arg(0)))
	case f.NArg() == 1:
		return complain(stderr, fmt.Errorf("%s: no words given: see vsmmu decode -h", f.Arg(0)))
	}
	r := &request{given: f.NArg() - 1}
	var err error
	if r.words, err = parseWords(f.Args()[1:], s.words, s.bits); err != nil {
		return complain(stderr, err)
	}
	if set(f, "ids") {
		words, err := parseWords(strings.Split(*list, ","), 8, 32)
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
	d := s.decode(r)
	text := aligned(d.fields) + d.note
	if d.illegal != "" {
		text += "ILLEGAL: " + d.illegal + "\n"
	}
	if _, err := io.WriteString(stdout, text); err != nil {
		return complain(stderr, err)
	}
	if d.illegal != "" {
		return cli.Failed
	}
	return cli.OK
}

// aligned returns the fields as a table.
func aligned(fields []row) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range fields {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.name, r.place, r.value, r.meaning)
	}
	_ = t.Flush() // to memory
	// tabwriter pads a field without a meaning.
	return regexp.MustCompile(` +\n`).ReplaceAllString(b.String(), "\n")
}

// parseWords reads hexadecimal words and appends zeros up to most.
func parseWords(args []string, most, bits int) ([]uint64, error) {
	if len(args) > most {
		return nil, fmt.Errorf("%d words given, at most %d expected", len(args), most)
	}
	words := make([]uint64, most)
	for i, arg := range args {
		digits := strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(arg), "0x"), "_", "")
		w, err := strconv.ParseUint(digits, 16, bits)
		if err != nil {
			return nil, fmt.Errorf("%q is not a hexadecimal word of %d bits", arg, bits)
		}
		words[i] = w
	}
	return words, nil
}
