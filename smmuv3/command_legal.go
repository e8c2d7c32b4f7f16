package smmuv3

// cmdRule says when a command of the Non-secure queue is CERROR_ILL. The zero
// rule always is.
type cmdRule struct {
	known bool
	// needs is a field of the ID registers that must be other than zero.
	needs    IDField
	hasNeeds bool
	stalls   bool // needs a STALL_MODEL with stalls
	secure   bool // SSec must be 0 on the Non-secure queue
	ranged   bool // has the fields for range invalidation
	limit    fieldLimit
}

// fieldLimit is the greatest value that a field of a command may have. The zero
// limit is none.
type fieldLimit struct {
	word, lo uint
	mask     uint64
	most     uint64 // with the field's highest bit
}

// cmdRules holds the Non-secure command set (§4.1.1); an opcode without a row
// is reserved and so illegal (§4.1.3). IMPLEMENTATION DEFINED opcodes and
// non-zero reserved fields are a choice (§4.1.5): the former are illegal here,
// the latter ignored.
var cmdRules = func() (t [256]cmdRule) {
	always := cmdRule{known: true}
	needs := func(f IDField) cmdRule { return cmdRule{known: true, needs: f, hasNeeds: true} }
	secure := func(r cmdRule) cmdRule { r.secure = true; return r }
	stalls := func(r cmdRule) cmdRule { r.stalls = true; return r }
	ranged := func(r cmdRule) cmdRule { r.ranged = true; return r }
	limit := func(r cmdRule, l fieldLimit) cmdRule { r.limit = l; return r }

	t[OpPrefetchConfig] = secure(always)
	t[OpPrefetchAddr] = secure(always)
	t[OpCfgiSTE] = secure(always)
	t[OpCfgiSTERange] = secure(always)
	t[OpCfgiCD] = secure(needs(S1P))
	t[OpCfgiCDAll] = secure(needs(S1P))
	t[OpCfgiVMSPIDM] = secure(needs(MPAM))
	t[OpTLBINHAll] = needs(S1P)
	t[OpTLBINHASID] = needs(S1P)
	t[OpTLBINHVA] = ranged(needs(S1P))
	t[OpTLBINHVAA] = ranged(needs(S1P))
	t[OpTLBIEL2All] = needs(Hyp)
	t[OpTLBIEL2ASID] = needs(Hyp)
	t[OpTLBIEL2VA] = ranged(needs(Hyp))
	t[OpTLBIEL2VAA] = ranged(needs(Hyp))
	t[OpTLBIS12VMAll] = needs(S2P)
	t[OpTLBIS2IPA] = ranged(needs(S2P))
	t[OpTLBINSNHAll] = always
	t[OpATCInv] = limit(needs(ATS), fieldLimit{word: 1, lo: 0, mask: 0x3f, most: 52})           // Size (§4.5.1)
	t[OpPRIResp] = limit(needs(PRI), fieldLimit{word: 1, lo: 12, mask: 0b11, most: 0b10})       // Resp (§4.5.2)
	t[OpResume] = secure(stalls(always))                                                        // §4.7.1
	t[OpStallTerm] = secure(stalls(always))                                                     // §4.7.2
	t[OpSync] = limit(always, fieldLimit{word: 0, lo: 12, mask: 0b11, most: uint64(SignalSEV)}) // CS (§4.7.3)
	return t
}()

// cmdCheck is a rule as it is for one SMMU.
type cmdCheck struct {
	illegal bool
	zero    uint64 // bits of dw0 that must be 0
	limit   fieldLimit
	// extent is NUM and SCALE in dw0, where there are range fields; noLevel1 says
	// that TTL = 1 means nothing with a granule of 16 KiB.
	extent   uint64
	noLevel1 bool
}

// on is the rule for an SMMU with these ID registers.
func (r *cmdRule) on(ids *IDRegs) cmdCheck {
	k := cmdCheck{
		illegal: !r.known || r.hasNeeds && !ids.Has(r.needs) || r.stalls && ids.Get(StallModel) == StallTerminate,
		limit:   r.limit,
	}
	if r.secure {
		k.zero = 1 << 10 // SSec
	}
	if r.ranged && ids.Has(RIL) {
		// The sixth bit of SCALE, and level-1 blocks of 16 KiB pages, come with
		// 52-bit addresses (§4.4.1.1).
		k.extent, k.noLevel1 = 0x1f<<12|0x1f<<20, true
		if ids.Has(DS) {
			k.extent, k.noLevel1 = 0x1f<<12|0x3f<<20, false
		}
	}
	return k
}

// quick tells most legal commands from the rest, at little cost: those are legal with
// dw0&look[0] == want, and dw1&look[1] == 0 or dw0&extent != 0.
type quick struct {
	look         Command
	want, extent uint64
}

func (k *cmdCheck) quick() (q quick) {
	if k.illegal {
		return quick{want: 1} // which no command is
	}
	q.look[0] = k.zero
	q.look[k.limit.word] |= (k.limit.mask + 1) >> 1 << k.limit.lo // the highest bit of the field
	if k.extent != 0 {
		q.look[1] |= 0b11 << 10 // TG, which a range makes legal
		q.extent = k.extent
	}
	return q
}

func (k *cmdCheck) fails(c *Command) bool {
	l := &k.limit
	return k.illegal || c[0]&k.zero != 0 || c[l.word&1]>>(l.lo&63)&l.mask > l.most ||
		k.extent != 0 && c.TG() != 0 && c[0]&k.extent == 0 && k.noLevel(c)
}

// noLevel completes the one illegal combination of the range fields: a granule, but
// neither a range nor a level (§4.4.1.1).
func (k *cmdCheck) noLevel(c *Command) bool {
	return c.TTL() == 0 || k.noLevel1 && c.TG() == 0b10 && c.TTL() == 1
}

// Illegal reports whether the command raises CERROR_ILL on the Non-secure
// command queue of an SMMU with these ID registers (§4.1.3). That takes
// precedence over a command's being ignored.
func (c Command) Illegal(ids *IDRegs) bool {
	k := cmdRules[c.Opcode()].on(ids)
	return k.fails(&c)
}
