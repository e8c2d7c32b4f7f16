package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// kind is a structure or a group of registers that decode explains.
type kind struct {
	name, title string
	words, bits int      // the number of words and their width
	registers   []string // the names of the words, if they are registers
	decode      func(*request) decoded
}

var kinds = []kind{
	{"ste", "Stream Table Entry (§5.2)", 8, 64, nil, decodeSTE},
	{"cd", "Context Descriptor (§5.4)", 8, 64, nil, decodeCD},
	{"l1std", "Level 1 Stream Table Descriptor (§5.1)", 1, 64, nil, decodeL1STD},
	{"l1cd", "Level 1 Context Descriptor (§5.3)", 1, 64, nil, decodeL1CD},
	{"desc", "translation table descriptor (DDI 0487, D8.3.1)", 1, 64, nil, decodeDesc},
	{"cmd", "command (§4)", 2, 64, nil, decodeCmd},
	{"event", "event record (§7.3)", 4, 64, nil, decodeEvent},
	{"pri", "PRI queue record (§8)", 2, 64, nil, decodePRI},
	{"idr", "ID registers (§6.3.1 to §6.3.8)", 8, 32, idRegisters, decodeIDR},
	registerKind("cr0", "CR0 (§6.3.9)", 32, smmuv3.RegCR0),
	registerKind("cr1", "CR1 (§6.3.11)", 32, smmuv3.RegCR1),
	registerKind("cr2", "CR2 (§6.3.12)", 32, smmuv3.RegCR2),
	registerKind("gbpa", "GBPA (§6.3.14)", 32, smmuv3.RegGBPA),
	registerKind("irq_ctrl", "IRQ_CTRL (§6.3.16)", 32, smmuv3.RegIRQ_CTRL),
	gerrorKind,
	registerKind("strtab", "Stream table registers (§6.3.24, §6.3.25)", 64,
		smmuv3.RegSTRTAB_BASE, smmuv3.RegSTRTAB_BASE_CFG),
	registerKind("cmdq", "command queue indices (§6.3.27, §6.3.28)", 32, smmuv3.RegCMDQ_PROD, smmuv3.RegCMDQ_CONS),
}

var gerrorKind = func() kind {
	k := registerKind("gerror", "global errors (§6.3.19, §6.3.20)", 32, smmuv3.RegGERROR, smmuv3.RegGERRORN)
	fields := k.decode
	k.decode = func(r *request) decoded {
		d := fields(r)
		if r.whole() {
			d.Notes = append(d.Notes, "Active errors (GERROR and GERRORN differ): "+
				activeErrors(r.words[0]^r.words[1])+".")
		} else {
			d.Notes = append(d.Notes, "An error is active while its bits in GERROR and GERRORN differ.")
		}
		return d
	}
	return k
}()

// activeErrors returns the names of the errors, GERROR XOR GERRORN.
func activeErrors(active uint64) string {
	var names []string
	for _, f := range smmuv3.RegisterFields(smmuv3.RegGERROR, active) {
		if f.Value != 0 && f.Name != "reserved" {
			names = append(names, f.Name)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ", ")
}

// tagged are the kinds whose word 0 decides which fields the others have.
var tagged = map[string]string{"ste": "Config", "cmd": "the opcode", "event": "the type"}

// kindNames lists the kinds' names for an error message.
func kindNames() string {
	var names []string
	for i := range kinds {
		names = append(names, kinds[i].name)
	}
	return strings.Join(names, ", ") + " or log"
}

func kindNamed(name string) (kind, bool) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{}, false
	}
	return kinds[i], true
}

// registerKind returns the kind of a group of registers, which are the words in this order.
func registerKind(name, title string, bits int, offsets ...uint64) kind {
	k := kind{name: name, title: title, words: len(offsets), bits: bits}
	for _, off := range offsets {
		k.registers = append(k.registers, smmuv3.RegisterName(off))
	}
	k.decode = func(r *request) (d decoded) {
		for i, off := range offsets {
			if !r.given[i] {
				continue
			}
			for _, f := range smmuv3.RegisterFields(off, r.words[i]) {
				d.Fields = append(d.Fields, rowOf(f, k.registers[i]))
			}
		}
		return d
	}
	return k
}

func decodeSTE(r *request) decoded {
	s := smmuv3.STE(r.words)
	return r.judged(decoded{Fields: r.rows(s.Fields())}, s.Illegal(r.judge()), "C_BAD_STE")
}

func decodeCD(r *request) decoded {
	c := smmuv3.CD(r.words)
	return r.judged(decoded{Fields: r.rows(c.Fields())}, c.Illegal(r.judge(), false), "C_BAD_CD")
}

// judged adds the verdict of a rule and its premises. There is no verdict without word 0, which has
// V.
func (r *request) judged(d decoded, rule *smmuv3.Rule, reported string) decoded {
	if !r.given[0] {
		d.Notes = append(d.Notes, "Not judged, since word 0 is missing.")
		return d
	}
	judge := "Judged by the ID registers that a guest of this project reads by default (-ids gives others)."
	if r.ids != nil {
		judge = "Judged by the ID registers of -ids."
	}
	if !r.whole() {
		judge += " Rules take missing words as 0."
	}
	d.Notes = append(d.Notes, judge)
	d.Illegal = illegal(rule, reported)
	return d
}

func decodeL1STD(r *request) decoded {
	return decoded{Fields: r.rows(smmuv3.L1STD(r.words[0]).Fields())}
}

func decodeL1CD(r *request) decoded { return decoded{Fields: r.rows(smmuv3.L1CD(r.words[0]).Fields())} }

func decodeDesc(r *request) decoded {
	d := decoded{Fields: r.rows(smmuv3.Desc(r.words[0]).Fields(r.format, r.level, r.stage))}
	d.Notes = []string{fmt.Sprintf(
		"Taken for a descriptor of stage %d, level %d, %d KiB granule (-stage, -level, -granule).",
		r.stage, r.level, 1<<r.format.Granule>>10)}
	return d
}

func decodePRI(r *request) decoded {
	p := smmuv3.PageRequest(r.words)
	d := decoded{Fields: r.rows(p.Fields())}
	if p.StopMarker() {
		d.Notes = append(d.Notes, "This is a Stop PASID marker, which gets no answer.")
	}
	return d
}

func decodeCmd(r *request) decoded {
	c := smmuv3.Command(r.words)
	d := decoded{Fields: r.rows(c.Fields())}
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
		d.Notes = []string{fmt.Sprintf("Not for a guest of this project: its SMMU reports CERROR_ILL: %v.", rule)}
	case anywhere.Choice:
		d.Notes = []string{fmt.Sprintf("The architecture leaves it to the SMMU whether this is legal; "+
			"this project reports CERROR_ILL: %v.", anywhere)}
	default:
		d.Illegal = illegal(anywhere, "CERROR_ILL")
	}
	return d
}

func decodeEvent(r *request) decoded {
	e := smmuv3.Event(r.words)
	fields := e.Fields()
	fields[0].Meaning += ": " + e.Type().Words()
	return decoded{Fields: r.rows(fields)}
}

func illegal(rule *smmuv3.Rule, reported string) string {
	if rule == nil {
		return ""
	}
	return fmt.Sprintf("%v, reported as %s", rule, reported)
}
