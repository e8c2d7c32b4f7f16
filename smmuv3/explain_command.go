package smmuv3

import (
	"fmt"
	"strings"
)

func (s CompletionSignal) String() string {
	return [4]string{"none", "interrupt", "event to the processors", "reserved"}[s&3]
}

// Rows of Chapter 4.
var (
	cmdRowOpcode = []fieldRow{{name: "opcode", lo: 0, wide: 8, mean: stringOf[Opcode]}}
	cmdRowSSec   = []fieldRow{{name: "SSec", lo: 10, wide: 1, mean: oneOf("", "a Secure stream")}}
	cmdRowStream = []fieldRow{{name: "StreamID", lo: 32, wide: 32}}
	cmdRowsSub   = []fieldRow{{name: "SSV", lo: 11, wide: 1}, {name: "SubstreamID", lo: 12, wide: 20}}
	cmdRowSub    = []fieldRow{{name: "SubstreamID", lo: 12, wide: 20}}
	cmdRowLeaf   = []fieldRow{{name: "Leaf", lo: 64, wide: 1}}
	cmdRowRange  = []fieldRow{{name: "Range", lo: 64, wide: 5, mean: func(v uint64) string {
		if v == RangeAll {
			return "CFGI_ALL"
		}
		return fmt.Sprintf("%d StreamIDs", uint64(2)<<v)
	}}}
	cmdRowVMID   = []fieldRow{{name: "VMID", lo: 32, wide: 16}}
	cmdRowASID   = []fieldRow{{name: "ASID", lo: 48, wide: 16}}
	cmdRowAddr   = []fieldRow{{name: "Addr", lo: 76, wide: 52, shift: 12}}
	cmdRowsRange = []fieldRow{
		{name: "Num", lo: 12, wide: 5},
		{name: "Scale", lo: 20, wide: 6},
		{name: "TTL", lo: 72, wide: 2, mean: oneOf("any level", "level 1", "level 2", "level 3")},
		{name: "TG", lo: 74, wide: 2, mean: oneOf("no range", "4 KiB", "16 KiB", "64 KiB")},
	}
	cmdRowsATC = []fieldRow{
		{name: "Global", lo: 9, wide: 1, mean: oneOf("", "of every SubstreamID")},
		{name: "Size", lo: 64, wide: 6, mean: func(v uint64) string {
			if v >= 52 {
				return "everything"
			}
			return fmt.Sprintf("4 KiB * 2^%d", v)
		}},
	}
	cmdRowsPRI = []fieldRow{
		{name: "PRGIndex", lo: 64, wide: 9},
		{name: "Resp", lo: 76, wide: 2, mean: oneOf("response failure", "invalid request", "success", "reserved")},
	}
	cmdRowsPrefetch = []fieldRow{{name: "Size", lo: 64, wide: 5}, {name: "Stride", lo: 69, wide: 5}}
	cmdRowsResume   = []fieldRow{
		{name: "Action", lo: 12, wide: 1, mean: oneOf("terminate", "retry")},
		{name: "Abort", lo: 13, wide: 1, mean: oneOf("reads zero, writes ignored", "abort")},
		{name: "STAG", lo: 64, wide: 16},
	}
	cmdRowsSync = []fieldRow{
		{name: "CS", lo: 12, wide: 2, mean: func(v uint64) string { return "signals by: " + CompletionSignal(v).String() }},
		{name: "MSH", lo: 22, wide: 2, mean: shareability},
		{name: "MSIAttr", lo: 24, wide: 4},
		{name: "MSIData", lo: 32, wide: 32},
		{name: "MSIAddress", lo: 66, wide: 54, shift: 2},
	}
)

func (c Command) rows() [][]fieldRow {
	switch c.Opcode() {
	case OpPrefetchConfig:
		return [][]fieldRow{cmdRowOpcode, cmdRowSSec, cmdRowStream, cmdRowsSub}
	case OpPrefetchAddr:
		return [][]fieldRow{cmdRowOpcode, cmdRowSSec, cmdRowStream, cmdRowsSub, cmdRowAddr, cmdRowsPrefetch}
	case OpCfgiSTE:
		return [][]fieldRow{cmdRowOpcode, cmdRowSSec, cmdRowStream, cmdRowLeaf}
	case OpCfgiSTERange:
		return [][]fieldRow{cmdRowOpcode, cmdRowSSec, cmdRowStream, cmdRowRange}
	case OpCfgiCD:
		return [][]fieldRow{cmdRowOpcode, cmdRowSSec, cmdRowStream, cmdRowSub, cmdRowLeaf}
	case OpCfgiCDAll, OpStallTerm:
		return [][]fieldRow{cmdRowOpcode, cmdRowSSec, cmdRowStream}
	case OpCfgiVMSPIDM:
		return [][]fieldRow{cmdRowOpcode, cmdRowSSec, cmdRowVMID}
	case OpTLBINHAll, OpTLBIS12VMAll:
		return [][]fieldRow{cmdRowOpcode, cmdRowVMID}
	case OpTLBINHASID:
		return [][]fieldRow{cmdRowOpcode, cmdRowVMID, cmdRowASID}
	case OpTLBIEL2ASID:
		return [][]fieldRow{cmdRowOpcode, cmdRowASID}
	case OpTLBINHVA:
		return [][]fieldRow{cmdRowOpcode, cmdRowVMID, cmdRowASID, cmdRowAddr, cmdRowLeaf, cmdRowsRange}
	case OpTLBIEL2VA:
		return [][]fieldRow{cmdRowOpcode, cmdRowASID, cmdRowAddr, cmdRowLeaf, cmdRowsRange}
	case OpTLBINHVAA, OpTLBIS2IPA:
		return [][]fieldRow{cmdRowOpcode, cmdRowVMID, cmdRowAddr, cmdRowLeaf, cmdRowsRange}
	case OpTLBIEL2VAA:
		return [][]fieldRow{cmdRowOpcode, cmdRowAddr, cmdRowLeaf, cmdRowsRange}
	case OpATCInv:
		return [][]fieldRow{cmdRowOpcode, cmdRowStream, cmdRowsSub, cmdRowAddr, cmdRowsATC}
	case OpPRIResp:
		return [][]fieldRow{cmdRowOpcode, cmdRowStream, cmdRowsSub, cmdRowsPRI}
	case OpResume:
		return [][]fieldRow{cmdRowOpcode, cmdRowSSec, cmdRowStream, cmdRowsResume}
	case OpSync:
		return [][]fieldRow{cmdRowOpcode, cmdRowsSync}
	}
	return [][]fieldRow{cmdRowOpcode}
}

// Fields explains the command field by field, as its opcode has them.
func (c Command) Fields() []Field { return explain(c[:], c.rows()...) }

// String is the command on one line: the opcode's name, the StreamID if it has
// one, and the other fields that are not zero.
func (c Command) String() string {
	var s strings.Builder
	s.WriteString(c.Opcode().String())
	for _, f := range c.Fields()[1:] {
		if f.Value != 0 || f.Name == "StreamID" {
			fmt.Fprintf(&s, " %s=%#x", f.Name, f.Value)
		}
	}
	return s.String()
}

// cmdParamRules say in words which parameter of a command may be invalid, apart
// from SSec.
var cmdParamRules = map[Opcode]*Rule{
	OpTLBINHVA:   &badRangeRule,
	OpTLBINHVAA:  &badRangeRule,
	OpTLBIEL2VA:  &badRangeRule,
	OpTLBIEL2VAA: &badRangeRule,
	OpTLBIS2IPA:  &badRangeRule,
	OpATCInv:     {"4.5.1", "Size is greater than 52"},
	OpPRIResp:    {"4.5.2", "Resp is reserved"},
	OpSync:       {"4.7.3", "CS is reserved"},
}

var (
	badRangeRule = Rule{"4.4.1.1", "TG says a granule, but Num, Scale and TTL neither a range nor a level"}
	ssecRule     = Rule{"4.1.6", "SSec is set on the Non-secure queue"}
	reservedRule = Rule{"4.1.3", "the opcode is reserved, or not one of the Non-secure queue"}
	impdefRule   = Rule{"4.1.1", "the opcode is IMPLEMENTATION DEFINED, and has no meaning here"}
	stallRule    = Rule{"4.7.1", "the SMMU never stalls a transaction"}
)

// IllegalBy is Illegal with the reason: the rule that makes the command
// CERROR_ILL, or nil. It finds out by asking Illegal what would be otherwise.
func (c Command) IllegalBy(ids *IDRegs) *Rule {
	plain, secure := Command{c[0] & 0xff}, c
	secure[0] = setBit(c[0], 10, false)
	switch {
	case !c.Illegal(ids):
		return nil
	case !plain.Illegal(ids) && !secure.Illegal(ids):
		return &ssecRule
	case !plain.Illegal(ids):
		return cmdParamRules[c.Opcode()]
	case c.Opcode() == OpResume || c.Opcode() == OpStallTerm:
		return &stallRule
	case c.Opcode() >= 0x80 && c.Opcode() <= 0x8f:
		return &impdefRule
	}
	for _, f := range IDFields() {
		if more := *ids; !more.Has(f) {
			more.Set(f, 1)
			if !plain.Illegal(&more) {
				return &Rule{"4.1.3", fmt.Sprintf("the SMMU does not have %s.%v", f.Register(), f)}
			}
		}
	}
	return &reservedRule
}
