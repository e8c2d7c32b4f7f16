package smmuv3

import "fmt"

// command is an opcode's row in the command set.
type command struct {
	name   string  // the specification's, without CMD_
	fields [][]row // besides the opcode
	// other is set if the command belongs to a queue other than the Non-secure queue.
	other bool
	// needs is a field of the ID registers that must not be 0.
	needs    IDField
	hasNeeds bool
	// stalls is set if the command needs a STALL_MODEL with stalls.
	stalls bool
	// secure is set if the command has SSec, ranged if it has a range and a level.
	secure, ranged bool
	limit          fieldLimit
}

// fieldLimit is the greatest legal value of a field. The zero fieldLimit allows every value.
type fieldLimit struct {
	place
	most uint64 // with the field's highest bit set
	rule *Rule
}

// commands is the command set (§4.1.1). An opcode without a row is reserved.
var commands = func() (t [256]command) {
	add := func(op Opcode, name string, fields ...[]row) *command {
		t[op] = command{name: name, fields: fields}
		for _, rows := range fields {
			t[op].secure = t[op].secure || rows[0].place == cmdSSec
			t[op].ranged = t[op].ranged || rows[0].place == cmdNUM
		}
		return &t[op]
	}
	need := func(c *command, f IDField) *command { c.needs, c.hasNeeds = f, true; return c }

	add(OpPrefetchConfig, "PREFETCH_CONFIG", cmdRowSSec, cmdRowStream, cmdRowsSub)
	add(OpPrefetchAddr, "PREFETCH_ADDR", cmdRowSSec, cmdRowStream, cmdRowsSub, cmdRowAddr, cmdRowsPrefetch)
	add(OpCfgiSTE, "CFGI_STE", cmdRowSSec, cmdRowStream, cmdRowLeaf)
	add(OpCfgiSTERange, "CFGI_STE_RANGE", cmdRowSSec, cmdRowStream, cmdRowRange)
	need(add(OpCfgiCD, "CFGI_CD", cmdRowSSec, cmdRowStream, cmdRowSub, cmdRowLeaf), S1P)
	need(add(OpCfgiCDAll, "CFGI_CD_ALL", cmdRowSSec, cmdRowStream), S1P)
	need(add(OpCfgiVMSPIDM, "CFGI_VMS_PIDM", cmdRowSSec, cmdRowVMID), MPAM)

	need(add(OpTLBINHAll, "TLBI_NH_ALL", cmdRowVMID), S1P)
	need(add(OpTLBINHASID, "TLBI_NH_ASID", cmdRowVMID, cmdRowASID), S1P)
	need(add(OpTLBINHVA, "TLBI_NH_VA", cmdRowVMID, cmdRowASID, cmdRowAddr, cmdRowLeaf, cmdRowsTLBIRange), S1P)
	need(add(OpTLBINHVAA, "TLBI_NH_VAA", cmdRowVMID, cmdRowAddr, cmdRowLeaf, cmdRowsTLBIRange), S1P)
	need(add(OpTLBIEL2All, "TLBI_EL2_ALL"), Hyp)
	need(add(OpTLBIEL2ASID, "TLBI_EL2_ASID", cmdRowASID), Hyp)
	need(add(OpTLBIEL2VA, "TLBI_EL2_VA", cmdRowASID, cmdRowAddr, cmdRowLeaf, cmdRowsTLBIRange), Hyp)
	need(add(OpTLBIEL2VAA, "TLBI_EL2_VAA", cmdRowAddr, cmdRowLeaf, cmdRowsTLBIRange), Hyp)
	need(add(OpTLBIS12VMAll, "TLBI_S12_VMALL", cmdRowVMID), S2P)
	need(add(OpTLBIS2IPA, "TLBI_S2_IPA", cmdRowVMID, cmdRowAddr, cmdRowLeaf, cmdRowsTLBIRange), S2P)
	add(OpTLBINSNHAll, "TLBI_NSNH_ALL")

	need(add(OpATCInv, "ATC_INV", cmdRowStream, cmdRowsSub, cmdRowAddr, cmdRowsATC), ATS).
		limit = fieldLimit{cmdATCSize, ATCSizeAll, &atcSizeRule}
	need(add(OpPRIResp, "PRI_RESP", cmdRowStream, cmdRowsSub, cmdRowsPRI), PRI).
		limit = fieldLimit{cmdResp, uint64(PRGSuccess), &respRule}
	add(OpResume, "RESUME", cmdRowSSec, cmdRowStream, cmdRowsResume).stalls = true
	add(OpStallTerm, "STALL_TERM", cmdRowSSec, cmdRowStream).stalls = true
	add(OpSync, "SYNC", cmdRowsSync).limit = fieldLimit{cmdCS, uint64(SignalSEV), &signalRule}
	need(add(OpDPTIAll, "DPTI_ALL"), DPT)
	need(add(OpDPTIPA, "DPTI_PA"), DPT)

	for op, name := range map[Opcode]string{
		OpTLBIEL3All: "TLBI_EL3_ALL", OpTLBIEL3VA: "TLBI_EL3_VA",
		OpTLBISEL2All: "TLBI_S_EL2_ALL", OpTLBISEL2ASID: "TLBI_S_EL2_ASID", OpTLBISEL2VA: "TLBI_S_EL2_VA",
		OpTLBISEL2VAA: "TLBI_S_EL2_VAA", OpTLBISS12VMAll: "TLBI_S_S12_VMALL", OpTLBISS2IPA: "TLBI_S_S2_IPA",
		OpTLBISNHAll: "TLBI_SNH_ALL",
	} {
		add(op, name).other = true
	}
	return t
}()

// The rules of commands.
var (
	reservedRule   = Rule{Section: "4.1.1", Text: "the opcode is reserved"}
	otherQueueRule = Rule{Section: "4.1.1", Text: "the command is not one of the Non-secure queue"}
	impdefRule     = Rule{Section: "4.1.1", Text: "the opcode is IMPLEMENTATION DEFINED", Choice: true}
	ssecRule       = Rule{Section: "4.1.6", Text: "SSec is 1 on the Non-secure queue"}
	rangeRule      = Rule{
		Section: "4.4.1.1",
		Text:    "TG is a granule, but NUM and SCALE give no range and TTL gives no level",
	}
	atcSizeRule = Rule{Section: "4.5.1", Text: "Size is greater than 52", Choice: true}
	respRule    = Rule{Section: "4.5.2", Text: "Resp is reserved"}
	stallRule   = Rule{Section: "4.7.1", Text: "the SMMU has no stalled transactions"}
	signalRule  = Rule{Section: "4.7.3", Text: "CS is reserved"}

	// needRules has, by ID field, the rule of the commands that need the field.
	needRules = func() (r [numIDFields]Rule) {
		for f := range numIDFields {
			r[f] = Rule{Section: "4.1.3", Text: fmt.Sprintf("the SMMU does not have %s.%v", f.Register(), f)}
		}
		return r
	}()
)

// commandCheck tests whether commands with one opcode are legal on one SMMU.
type commandCheck struct {
	never *Rule  // the rule that makes all of them illegal, or nil
	zero  uint64 // bits of dw0 that must be 0
	limit fieldLimit
	// extent is NUM and SCALE in dw0 for commands with a range, otherwise 0. noLevel1 says that
	// TTL = 1 is reserved with a granule of 16 KiB.
	extent   uint64
	noLevel1 bool
}

// check returns the test for commands with the opcode on an SMMU with these ID registers.
func (o Opcode) check(ids *IDRegs) commandCheck {
	c := &commands[o]
	k := commandCheck{limit: c.limit}
	switch {
	case c.name == "" && o >= 0x80 && o <= 0x8f:
		k.never = &impdefRule
	case c.name == "":
		k.never = &reservedRule
	case c.other:
		k.never = &otherQueueRule
	case c.hasNeeds && !ids.Has(c.needs):
		k.never = &needRules[c.needs]
	case c.stalls && ids.Get(StallModel) == StallTerminate:
		k.never = &stallRule
	}
	if c.secure {
		k.zero = place(cmdSSec).mask()
	}
	if c.ranged {
		k.extent = cmdRowsTLBIRange[0].definedMask(ids) | cmdRowsTLBIRange[1].definedMask(ids)
		k.noLevel1 = !ids.Has(DS)
	}
	return k
}

// broken returns the rule that makes the command illegal, or nil.
func (k *commandCheck) broken(c *Command) *Rule {
	switch l := &k.limit; {
	case k.never != nil:
		return k.never
	case c[0]&k.zero != 0:
		return &ssecRule
	case l.rule != nil && c.get(l.place) > l.most:
		return l.rule
	case k.extent != 0 && c.TG() != 0 && c[0]&k.extent == 0 && k.noLevel(c):
		return &rangeRule
	}
	return nil
}

// noLevel reports whether a command has a granule, but neither a range nor a level. No other
// combination of these fields is reserved (§4.4.1.1).
func (k *commandCheck) noLevel(c *Command) bool {
	return c.TTL() == 0 || k.noLevel1 && c.TG() == 0b10 && c.TTL() == 1
}

// quick recognises most legal commands at little cost: a command is legal if
// dw0&look[0] == want, and dw1&look[1] == 0 or dw0&extent != 0.
type quick struct {
	look         Command
	want, extent uint64
}

func (k *commandCheck) quick() (q quick) {
	if k.never != nil {
		return quick{want: 1} // no command matches
	}
	q.look[0] = k.zero
	if l := &k.limit; l.rule != nil {
		q.look[l.dw()] |= 1 << (l.hi() % 64) // the field's highest bit
	}
	if k.extent != 0 {
		q.look[1] |= place(cmdTG).mask() // with a granule, a range makes the command legal
		q.extent = k.extent
	}
	return q
}

// Illegal returns the rule that makes the command illegal on the Non-secure command queue of an
// SMMU with these ID registers, or nil. The SMMU raises CERROR_ILL (§4.1.3). An SMMU may ignore a
// legal command.
//
// The rule's Choice is set where the architecture leaves the case to the implementation. §4.1.5
// also leaves the case of reserved fields that are not 0. In this package they never make a command
// illegal.
func (c Command) Illegal(ids *IDRegs) *Rule {
	k := c.Opcode().check(ids)
	return k.broken(&c)
}
