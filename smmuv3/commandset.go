package smmuv3

// CommandSet is the command set of one SMMU: Command.Illegal, with what depends
// on nothing but the opcode and the ID registers worked out beforehand. It does
// not change, and may be used by any goroutine.
type CommandSet struct {
	quick  [256]quick
	checks [256]cmdCheck
	keep   Command // of a TLB invalidation by address: what is not RES0
}

// NewCommandSet returns the command set of an SMMU with these ID registers.
func NewCommandSet(ids IDRegs) *CommandSet {
	s := &CommandSet{keep: rangeKeep(&ids)}
	for op := range s.checks {
		s.checks[op] = cmdRules[op].on(&ids)
		s.quick[op] = s.checks[op].quick()
	}
	return s
}

// Plain reports whether the command is legal beyond doubt, as most are. It is small
// enough to be inlined; of the others Illegal tells.
func (s *CommandSet) Plain(c *Command) bool {
	q := &s.quick[uint8(c[0])]
	return c[0]&q.look[0] == q.want && (c[1]&q.look[1] == 0 || c[0]&q.extent != 0)
}

// Illegal is the command's Illegal.
func (s *CommandSet) Illegal(c *Command) bool {
	return !s.Plain(c) && s.checks[uint8(c[0])].fails(c)
}

// rangeKeep masks what an SMMU without a feature has RES0 among the range fields
// (§4.4.1.1): NUM, SCALE, TG, TTL and TTL128 come with IDR3.RIL, the sixth bit of
// SCALE with IDR5.DS, TTL128 with IDR5.D128.
func rangeKeep(ids *IDRegs) Command {
	const num, scale, scale5 = 0x1f << 12, 0x3f << 20, 1 << 25
	const ttl128, ttl, tg = 1 << 7, 3 << 8, 3 << 10
	var res0 Command
	if !ids.Has(RIL) {
		res0 = Command{num | scale, ttl128 | ttl | tg}
	}
	if !ids.Has(DS) {
		res0[0] |= scale5
	}
	if !ids.Has(D128) {
		res0[1] |= ttl128
	}
	return Command{^res0[0], ^res0[1]}
}

// Ranged is the words of a TLB invalidation by address, less the range fields that
// are RES0 for this SMMU: to be carried out by one that may have them.
func (s *CommandSet) Ranged(c *Command) (dw0, dw1 uint64) {
	return c[0] & s.keep[0], c[1] & s.keep[1]
}
