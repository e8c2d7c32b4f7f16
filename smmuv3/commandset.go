package smmuv3

// CommandSet is the command set of one SMMU. Its Illegal returns the same result as
// Command.Illegal, but faster: CommandSet precomputes all that depends on the ID registers alone.
// It is immutable and safe for concurrent use.
type CommandSet struct {
	quick   [256]quick
	checks  [256]commandCheck
	defined [256]Command // by opcode: the bits of fields that are not RES0
	ranged  Command      // all bits but those of range fields that are RES0
}

// NewCommandSet returns the command set of an SMMU with these ID registers.
func NewCommandSet(ids IDRegs) *CommandSet {
	s := &CommandSet{ranged: Command{^uint64(0), ^uint64(0)}}
	for op := range s.checks {
		s.checks[op] = Opcode(op).check(&ids)
		s.quick[op] = s.checks[op].quick()
		s.defined[op][0] = place(cmdOpcode).mask()
		for _, rows := range commands[op].fields {
			for i := range rows {
				s.defined[op][rows[i].dw()] |= rows[i].definedMask(&ids)
			}
		}
	}
	for i := range cmdRowsTLBIRange {
		r := &cmdRowsTLBIRange[i]
		s.ranged[r.dw()] &^= r.mask() &^ r.definedMask(&ids)
	}
	return s
}

// Plain reports whether the command is certainly legal. Most commands are; for the others, call
// Illegal. Plain is small enough to be inlined.
func (s *CommandSet) Plain(c *Command) bool {
	q := &s.quick[uint8(c[0])]
	return c[0]&q.look[0] == q.want && (c[1]&q.look[1] == 0 || c[0]&q.extent != 0)
}

// Illegal returns the result of Command.Illegal.
func (s *CommandSet) Illegal(c *Command) *Rule {
	if s.Plain(c) {
		return nil
	}
	return s.checks[uint8(c[0])].broken(c)
}

// Defined returns the command with its reserved bits cleared: bits in no field of the opcode, and
// bits of fields that are RES0 on this SMMU. Of a command with a reserved opcode, only the opcode
// remains.
func (s *CommandSet) Defined(c *Command) Command {
	d := &s.defined[uint8(c[0])]
	return Command{c[0] & d[0], c[1] & d[1]}
}

// Ranged returns the words of a TLB invalidation by address. Range fields that are RES0 on this
// SMMU are clear (§4.4.1.1), so that an SMMU with these fields executes the command the same way.
func (s *CommandSet) Ranged(c *Command) (dw0, dw1 uint64) {
	return c[0] & s.ranged[0], c[1] & s.ranged[1]
}
