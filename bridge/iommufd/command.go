//go:build linux && (amd64 || arm64)

package iommufd

import (
	"math"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// commandSet converts the guest's commands to commands for the kernel, depending on the ID
// registers that the guest reads. The kernel issues commands unchanged, and the physical SMMU may
// have features that these registers do not show. Reserved fields must be zero: newer kernels
// answer any other value with EIO.
type commandSet struct {
	keep [256]smmuv3.Command // by opcode: the fields in use; zero if a host does not execute the opcode
	span smmuv3.Command      // the range and level fields of TLBI_NH_VA and TLBI_NH_VAA
	ds   bool                // IDR5.DS
}

// hostCommands are the commands that a host executes, with every field set to ones.
var hostCommands = [...]smmuv3.Command{
	smmuv3.NewTLBINSNHAll(),
	smmuv3.NewTLBINHAll(math.MaxUint16),
	smmuv3.NewTLBINHASID(math.MaxUint16, math.MaxUint16),
	smmuv3.NewTLBINHVA(math.MaxUint16, math.MaxUint16, math.MaxUint64, true),
	smmuv3.NewTLBINHVAA(math.MaxUint16, math.MaxUint64, true),
	smmuv3.NewCfgiCD(math.MaxUint32, math.MaxUint32, true),
	smmuv3.NewCfgiCDAll(math.MaxUint32),
	smmuv3.NewATCInv(math.MaxUint32, math.MaxUint64, math.MaxUint).WithSubstream(math.MaxUint32).WithGlobal(),
}

// The fields of a range or level (§4.4.1.1): NUM, SCALE, TG and TTL.
var (
	byAddress  = smmuv3.NewTLBINHVA(0, 0, 0, false)
	spanFields = without(byAddress.WithRange(smmuv3.Granule64K, 31, 63, 3), byAddress)
	tg         = without(byAddress.WithRange(smmuv3.Granule64K, 0, 0, 0), byAddress)[1]
	tg16K      = without(byAddress.WithRange(smmuv3.Granule16K, 0, 0, 0), byAddress)[1]
	ttl        = spanFields[1] &^ tg
)

// without returns the bits of a that b does not have.
func without(a, b smmuv3.Command) smmuv3.Command { return smmuv3.Command{a[0] &^ b[0], a[1] &^ b[1]} }

// newCommandSet returns the command set of a guest that reads these ID registers. The registers
// must not exceed the physical SMMU.
func newCommandSet(guest *smmuv3.IDRegs) *commandSet {
	s := &commandSet{ds: guest.Has(smmuv3.DS)}
	set := smmuv3.NewCommandSet(*guest)
	for _, c := range hostCommands {
		s.keep[c.Opcode()] = set.Defined(&c)
	}
	span := byAddress.WithRange(smmuv3.Granule64K, 31, 63, 3)
	s.span = without(set.Defined(&span), byAddress)
	return s
}

// executes reports whether a host executes the command.
func (s *commandSet) executes(c *smmuv3.Command) bool {
	return s.keep[c.Opcode()][0] != 0 && (c.Opcode() != smmuv3.OpATCInv || c.ATCSize() <= smmuv3.ATCSizeAll)
}

// physical stores the command for the kernel in p. The command in p invalidates at least the
// entries that the guest's command c invalidates. ok is false if a host does not execute c.
func (s *commandSet) physical(p, c *smmuv3.Command) (ok bool) {
	keep := &s.keep[c.Opcode()]
	p[0], p[1] = c[0]&keep[0], c[1]&keep[1]
	switch c.Opcode() {
	case smmuv3.OpTLBINHVA, smmuv3.OpTLBINHVAA:
		if c[1]&s.span[1]&tg != 0 {
			s.addSpan(p, c)
		}
		return true
	}
	return s.executes(c)
}

// addSpan adds the range and level of c to p (§4.4.1.1). c.TG() must not be 0, since range and
// level are RES0 then. Without IDR3.RIL, TG is RES0 as well.
func (s *commandSet) addSpan(p, c *smmuv3.Command) {
	span := s.span
	// Level 1 of a 16 KiB granule has blocks only with IDR5.DS. Otherwise TTL = 1 is reserved and
	// means any level. Linux 5.8 to 6.4 sends Leaf = 0, TTL = 3 for tables that hold blocks, so the
	// level is used only with Leaf = 1.
	if !c.Leaf() || !s.ds && c[1]&tg == tg16K && c.TTL() == 1 {
		span[1] &^= ttl
	}
	if c[0]&span[0] == 0 && c[1]&span[1]&ttl == 0 {
		return // a granule alone is reserved; TG = 0 invalidates the page of any granule
	}
	p[0] |= c[0] & span[0]
	p[1] |= c[1] & span[1]
}
