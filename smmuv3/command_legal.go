package smmuv3

// cmdRule says when a command of the Non-secure queue is CERROR_ILL. The zero
// rule never is.
type cmdRule struct {
	known bool
	// needs is a field of the ID registers that must be other than zero.
	needs    IDField
	hasNeeds bool
	// secure marks commands whose SSec must be 0 on the Non-secure queue.
	secure bool
	// param is a further check of the parameters, nil for none.
	param func(c Command, ids *IDRegs) bool
}

// cmdRules holds the Non-secure command set (§4.1.1); an opcode without a row
// is reserved and so illegal (§4.1.3). IMPLEMENTATION DEFINED opcodes and
// non-zero reserved fields are a choice (§4.1.5): the former are illegal here,
// the latter ignored.
var cmdRules = func() (t [256]cmdRule) {
	always := cmdRule{known: true}
	ssec := cmdRule{known: true, secure: true}
	needs := func(f IDField) cmdRule { return cmdRule{known: true, needs: f, hasNeeds: true} }
	and := func(r cmdRule, param func(Command, *IDRegs) bool) cmdRule { r.param = param; return r }
	withSSec := func(r cmdRule) cmdRule { r.secure = true; return r }

	t[OpPrefetchConfig] = ssec
	t[OpPrefetchAddr] = ssec
	t[OpCfgiSTE] = ssec
	t[OpCfgiSTERange] = ssec
	t[OpCfgiCD] = withSSec(needs(S1P))
	t[OpCfgiCDAll] = withSSec(needs(S1P))
	t[OpCfgiVMSPIDM] = withSSec(needs(MPAM))
	t[OpTLBINHAll] = needs(S1P)
	t[OpTLBINHASID] = needs(S1P)
	t[OpTLBINHVA] = and(needs(S1P), badRange)
	t[OpTLBINHVAA] = and(needs(S1P), badRange)
	t[OpTLBIEL2All] = needs(Hyp)
	t[OpTLBIEL2ASID] = needs(Hyp)
	t[OpTLBIEL2VA] = and(needs(Hyp), badRange)
	t[OpTLBIEL2VAA] = and(needs(Hyp), badRange)
	t[OpTLBIS12VMAll] = needs(S2P)
	t[OpTLBIS2IPA] = and(needs(S2P), badRange)
	t[OpTLBINSNHAll] = always
	t[OpATCInv] = and(needs(ATS), func(c Command, _ *IDRegs) bool { return c.ATCSize() > 52 })
	t[OpPRIResp] = and(needs(PRI), func(c Command, _ *IDRegs) bool { return c.Resp() == 0b11 })
	t[OpResume] = withSSec(and(always, noStalls))
	t[OpStallTerm] = withSSec(and(always, noStalls))
	t[OpSync] = and(always, func(c Command, _ *IDRegs) bool { return c.CS() == SignalReserved })
	return t
}()

// badRange is the one illegal combination of the range invalidation fields: a
// granule, but neither a range nor a level (§4.4.1.1). Without IDR3.RIL the
// fields are RES0.
func badRange(c Command, ids *IDRegs) bool {
	if c.TG() == 0 || !ids.Has(RIL) {
		return false
	}
	ttl := c.TTL()
	// Level 1 has no blocks of 16 KiB pages but with 52-bit addresses.
	if c.TG() == 0b10 && ttl == 1 && !ids.Has(DS) {
		ttl = 0
	}
	return c.Num() == 0 && c.rangeScale(ids) == 0 && ttl == 0
}

// rangeScale is Scale as wide as the SMMU has it: a sixth bit comes with
// IDR5.DS (§4.4.1.1).
func (c Command) rangeScale(ids *IDRegs) uint {
	if ids.Has(DS) {
		return c.Scale()
	}
	return c.Scale() & 0x1f
}

func noStalls(_ Command, ids *IDRegs) bool { return ids.Get(StallModel) == StallTerminate }

// Illegal reports whether the command raises CERROR_ILL on the Non-secure
// command queue of an SMMU with these ID registers (§4.1.3). That takes
// precedence over a command's being ignored.
func (c Command) Illegal(ids *IDRegs) bool {
	r := &cmdRules[c.Opcode()]
	return !r.known ||
		r.secure && c.SSec() ||
		r.hasNeeds && !ids.Has(r.needs) ||
		r.param != nil && r.param(c, ids)
}
