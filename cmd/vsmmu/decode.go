package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

const decodeUsage = `Usage: vsmmu decode [flags] ste|cd|cmd|event|idr HEX...

Explains words of the SMMU's structures field by field, and says what is illegal about them by which rule of the
specification. The words are of 64 bits, the first one first, and those left out are 0; for idr they are the registers
IDR0 to IDR5, IIDR and AIDR.

Flags:
`

// structures are what can be decoded: the most words that each has, their width, and how they are explained, when so many
// of them were given. What is wrong with them, judged by the ID registers, is empty where nothing is.
var structures = map[string]struct {
	words, bits int
	explain     func(w []uint64, given int, ids *smmuv3.IDRegs) (fields []row, wrong string)
}{
	"ste": {8, 64, func(w []uint64, _ int, ids *smmuv3.IDRegs) ([]row, string) {
		s := smmuv3.STE(w)
		return rows(s.Fields()), broken(s.Illegal(ids), "C_BAD_STE")
	}},
	"cd": {8, 64, func(w []uint64, _ int, ids *smmuv3.IDRegs) ([]row, string) {
		c := smmuv3.CD(w)
		return rows(c.Fields()), broken(c.Illegal(ids, false), "C_BAD_CD")
	}},
	"cmd": {2, 64, func(w []uint64, _ int, ids *smmuv3.IDRegs) ([]row, string) {
		c := smmuv3.Command(w)
		return rows(c.Fields()), broken(c.Illegal(ids), "CERROR_ILL")
	}},
	"event": {4, 64, func(w []uint64, _ int, _ *smmuv3.IDRegs) ([]row, string) {
		e := smmuv3.Event(w)
		fields := rows(e.Fields())
		fields[0].meaning += ": " + e.Type().Words()
		return fields, ""
	}},
	"idr": {8, 32, explainIDs},
}

// row is a field as it is printed.
type row struct{ place, name, value, meaning string }

func rows(fields []smmuv3.Field) []row {
	all := make([]row, len(fields))
	for i, f := range fields {
		all[i] = row{f.Bits(), f.Name, fmt.Sprintf("%#x", f.Value), f.Meaning}
	}
	return all
}

func broken(rule *smmuv3.Rule, reported string) string {
	if rule == nil {
		return ""
	}
	return fmt.Sprintf("%v, reported as %s", rule, reported)
}

// idRegisters is the order in which the words of idr are given.
var idRegisters = []string{"IDR0", "IDR1", "IDR2", "IDR3", "IDR4", "IDR5", "IIDR", "AIDR"}

// explainIDs explains the registers that were given, and judges them if all of IDR0 to IDR5 were.
func explainIDs(w []uint64, given int, _ *smmuv3.IDRegs) (fields []row, wrong string) {
	regs := idRegs(w)
	for _, f := range smmuv3.IDFields() {
		if slices.Index(idRegisters, f.Register()) >= given {
			continue
		}
		hi, lo := f.Bits()
		v := regs.Get(f)
		fields = append(fields, row{
			f.Register() + " " + smmuv3.Field{Hi: hi, Lo: lo}.Bits(), f.String(), fmt.Sprintf("%#x", v), f.Meaning(v),
		})
	}
	if given >= len(regs.IDR) {
		if err := idr.Check(regs); err != nil {
			wrong = "no guest is shown these: " + err.Error()
		}
	}
	return fields, wrong
}

func idRegs(w []uint64) (r smmuv3.IDRegs) {
	for i := range r.IDR {
		r.IDR[i] = uint32(w[i])
	}
	r.IIDR, r.AIDR = uint32(w[6]), uint32(w[7])
	return r
}

func decodeCommand(args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("decode", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	judge := f.String("ids", "", "judge by the ID registers `HEX,HEX,...`, from IDR0 on (default: those of vsmmu boot)")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, decodeUsage)
		f.SetOutput(stdout)
		f.PrintDefaults()
		return cli.OK
	case err != nil:
		return complain(stderr, fmt.Errorf("%w: see vsmmu decode -h", err))
	}
	s, ok := structures[f.Arg(0)]
	switch {
	case f.NArg() == 0:
		return complain(stderr, errors.New("nothing to decode: see vsmmu decode -h"))
	case !ok:
		return complain(stderr, fmt.Errorf("%q is none of ste, cd, cmd, event, idr: see vsmmu decode -h", f.Arg(0)))
	case f.NArg() == 1:
		return complain(stderr, fmt.Errorf("no words of the %s: see vsmmu decode -h", f.Arg(0)))
	}
	ids, err := judgeBy(*judge)
	if err != nil {
		return complain(stderr, fmt.Errorf("-ids: %w", err))
	}
	words, err := parseWords(f.Args()[1:], s.words, s.bits)
	if err != nil {
		return complain(stderr, err)
	}
	fields, wrong := s.explain(words, f.NArg()-1, &ids)
	if _, err := io.WriteString(stdout, aligned(fields)); err != nil {
		return complain(stderr, err)
	}
	if wrong != "" {
		fmt.Fprintln(stdout, "ILLEGAL:", wrong)
		return cli.Failed
	}
	return cli.OK
}

// aligned is the fields as a table.
func aligned(fields []row) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range fields {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.name, r.place, r.value, r.meaning)
	}
	_ = t.Flush() // to memory
	// A field without a meaning is padded as if it had one.
	return regexp.MustCompile(` +\n`).ReplaceAllString(b.String(), "\n")
}

// judgeBy are the ID registers to judge by.
func judgeBy(list string) (smmuv3.IDRegs, error) {
	if list == "" {
		r, err := idr.Derive(nil, bridge.Capabilities{IDs: soft.DefaultIDs()})
		return r.IDs, err
	}
	w, err := parseWords(strings.Split(list, ","), 8, 32)
	if err != nil {
		return smmuv3.IDRegs{}, err
	}
	return idRegs(w), nil
}

// parseWords reads hexadecimal words and fills up with zeros.
func parseWords(args []string, most, bits int) ([]uint64, error) {
	if len(args) > most {
		return nil, fmt.Errorf("%d words, where there are %d at most", len(args), most)
	}
	words := make([]uint64, most)
	for i, arg := range args {
		digits := strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(arg), "0x"), "_", "")
		w, err := strconv.ParseUint(digits, 16, bits)
		if err != nil {
			return nil, fmt.Errorf("%q is no word of %d bits in hexadecimal", arg, bits)
		}
		words[i] = w
	}
	return words, nil
}
