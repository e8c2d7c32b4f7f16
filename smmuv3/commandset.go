package smmuv3

// CommandSet is the command set of one SMMU: Command.Illegal, with what depends
// on nothing but the opcode and the ID registers worked out beforehand. It does
// not change, and may be used by any goroutine.
type CommandSet struct {
	ids   IDRegs
	rules [256]setRule
}

type setRule struct {
	illegal bool
	secure  bool
	param   func(Command, *IDRegs) bool
}

// NewCommandSet returns the command set of an SMMU with these ID registers.
func NewCommandSet(ids IDRegs) *CommandSet {
	s := &CommandSet{ids: ids}
	for op := range s.rules {
		r := &cmdRules[op]
		s.rules[op] = setRule{
			illegal: !r.known || r.hasNeeds && !ids.Has(r.needs),
			secure:  r.secure,
			param:   r.param,
		}
	}
	return s
}

// Illegal is the command's Illegal.
func (s *CommandSet) Illegal(c *Command) bool {
	r := &s.rules[uint8(c[0])]
	return r.illegal || r.secure && c.SSec() || r.param != nil && r.param(*c, &s.ids)
}
