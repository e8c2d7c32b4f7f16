package smmuv3

import "slices"

// CommandSet is the command set of one SMMU. Its Illegal returns the same result as
// Command.Illegal, but faster: CommandSet precomputes all that depends on the ID registers alone.
// It is immutable and safe for concurrent use.
type CommandSet struct {
	// quick has the opcodes that a guest sends often. For others, Plain is never true.
	quick [quickOpcodes]quick
	// class has the index in checks and defined of each opcode. Opcodes that no SMMU has on this
	// queue share a class for each rule.
	class   [256]uint8
	checks  []commandCheck
	defined []Command // the bits of fields that are not RES0
	ranged  Command   // all bits except range fields that are RES0
}

const quickOpcodes = uint8(OpSync) + 1

// NewCommandSet returns the command set of an SMMU with these ID registers.
func NewCommandSet(ids IDRegs) *CommandSet {
	s := &CommandSet{
		ranged: Command{^uint64(0), ^uint64(0)},
	}
	shared := map[*Rule]uint8{}
	for op := range commands {
		check := Opcode(op).check(&ids)
		if op < len(s.quick) {
			s.quick[op] = check.quick()
		}
		if class, ok := shared[check.never]; ok {
			s.class[op] = class
			continue
		}
		s.class[op] = uint8(len(s.checks))
		if commands[op].fields == nil && check.never != nil {
			shared[check.never] = s.class[op]
		}
		s.checks = append(s.checks, check)
		s.defined = append(s.defined, Command{place(cmdOpcode).mask()})
		d := &s.defined[s.class[op]]
		for _, rows := range commands[op].fields {
			for i := range rows {
				d[rows[i].dw()] |= rows[i].definedMask(&ids)
			}
		}
	}
	s.checks, s.defined = slices.Clone(slices.Clip(s.checks)), slices.Clone(slices.Clip(s.defined))
	for i := range cmdRowsTLBIRange {
		r := &cmdRowsTLBIRange[i]
		s.ranged[r.dw()] &^= r.mask() &^ r.definedMask(&ids)
	}
	return s
}

// Plain reports whether the command is certainly legal. Most commands are; for the others, call
// Illegal. Plain is small enough to be inlined.
func (s *CommandSet) Plain(c *Command) bool {
	op := uint8(c[0])
	if op >= quickOpcodes {
		return false
	}
	q := &s.quick[op]
	return c[0]&q.look[0] == q.want && (c[1]&q.look[1] == 0 || c[0]&q.extent != 0)
}

// Illegal returns the result of Command.Illegal.
func (s *CommandSet) Illegal(c *Command) *Rule {
	if s.Plain(c) {
		return nil
	}
	return s.checks[s.class[uint8(c[0])]].broken(c)
}

// Defined returns the command with its reserved bits cleared: bits in no field of the opcode, and
// bits of fields that are RES0 on this SMMU. Of a command with a reserved opcode, only the opcode
// remains.
func (s *CommandSet) Defined(c *Command) Command {
	d := &s.defined[s.class[uint8(c[0])]]
	return Command{c[0] & d[0], c[1] & d[1]}
}

// Ranged returns the words of a TLB invalidation by address. Range fields that are RES0 on this
// SMMU are clear (§4.4.1.1), so that an SMMU with these fields executes the command the same way.
func (s *CommandSet) Ranged(c *Command) (dw0, dw1 uint64) {
	return c[0] & s.ranged[0], c[1] & s.ranged[1]
}
