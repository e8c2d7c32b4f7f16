//go:build linux && (amd64 || arm64)

package iommufd

import "github.com/go-vsmmu/vsmmuv3/smmuv3"

// Fields of the commands that the kernel accepts (§4.3 to §4.5).
const (
	cmdOpcode = 0xff
	cmdGlobal = 1 << 9
	cmdSSV    = 1 << 11
	cmdSSID   = 0xf_ffff << 12
	cmdSID    = 0xffff_ffff << 32
	cmdVMID   = 0xffff << 32
	cmdASID   = 0xffff << 48
	cmdASID8  = 0xff << 48
	cmdNum    = 0x1f << 12
	cmdScale  = 0x1f << 20
	cmdScale6 = 0x3f << 20 // with IDR5.DS

	cmdLeaf    = 1 << 0
	cmdATCSize = 0x3f
	maxATCSize = 52 // the whole address space (§4.5.1)
	cmdTTL     = 0b11 << 8
	cmdTG      = 0b11 << 10
	cmdTG16K   = 0b10 << 10
	cmdAddr    = 0xffff_ffff_ffff_f000
)

// commandSet turns the commands of a guest that reads certain ID registers into commands for the
// kernel. The kernel issues commands as they are, and the physical SMMU may have features that the
// guest was not shown. Reserved fields must be zero: newer kernels answer any other value with EIO.
type commandSet struct {
	keep [256]smmuv3.Command // by opcode: the fields in use; zero if a host does not execute the opcode
	span smmuv3.Command      // the range and level fields of TLBI_NH_VA and TLBI_NH_VAA
	ds   bool                // IDR5.DS
}

// newCommandSet returns the command set of a guest that reads the ID registers. They show no more
// than the physical SMMU has.
func newCommandSet(guest *smmuv3.IDRegs) *commandSet {
	// A field or a part of it is RES0 if the SMMU lacks the feature (§4.3, §4.4, §4.5).
	asid := uint64(cmdASID8)
	if guest.Has(smmuv3.ASID16) {
		asid = cmdASID
	}
	var ssid, atcSSID uint64
	if guest.Has(smmuv3.SSIDSIZE) {
		ssid, atcSSID = cmdSSID, cmdSSV|cmdSSID|cmdGlobal
	}
	s := &commandSet{ds: guest.Has(smmuv3.DS)}
	for op, keep := range map[smmuv3.Opcode]smmuv3.Command{
		smmuv3.OpTLBINSNHAll: {},
		smmuv3.OpTLBINHAll:   {cmdVMID},
		smmuv3.OpTLBINHASID:  {cmdVMID | asid},
		smmuv3.OpTLBINHVA:    {cmdVMID | asid, cmdLeaf | cmdAddr},
		smmuv3.OpTLBINHVAA:   {cmdVMID, cmdLeaf | cmdAddr},
		smmuv3.OpCfgiCD:      {cmdSID | ssid, cmdLeaf},
		smmuv3.OpCfgiCDAll:   {cmdSID},
		smmuv3.OpATCInv:      {cmdSID | atcSSID, cmdATCSize | cmdAddr},
	} {
		keep[0] |= cmdOpcode
		s.keep[op] = keep
	}
	switch {
	case !guest.Has(smmuv3.RIL):
	case s.ds:
		s.span = smmuv3.Command{cmdNum | cmdScale6, cmdTG | cmdTTL}
	default:
		s.span = smmuv3.Command{cmdNum | cmdScale, cmdTG | cmdTTL}
	}
	return s
}

// executes reports whether a host executes the command.
func (s *commandSet) executes(c *smmuv3.Command) bool {
	return s.keep[c.Opcode()][0] != 0 && (c.Opcode() != smmuv3.OpATCInv || c.ATCSize() <= maxATCSize)
}

// physical returns the command for the kernel. It invalidates at least what the guest's command
// does. ok is false if a host does not execute the command.
func (s *commandSet) physical(c smmuv3.Command) (_ smmuv3.Command, ok bool) {
	if !s.executes(&c) {
		return c, false
	}
	keep := s.keep[c.Opcode()]
	switch c.Opcode() {
	case smmuv3.OpTLBINHVA, smmuv3.OpTLBINHVAA:
		span := s.spanOf(c)
		keep[0] |= span[0]
		keep[1] |= span[1]
	}
	return smmuv3.Command{c[0] & keep[0], c[1] & keep[1]}, true
}

// spanOf returns the masks of the range and level fields that the command keeps (§4.4.1.1). All of
// them are RES0 without IDR3.RIL or with TG = 0.
func (s *commandSet) spanOf(c smmuv3.Command) smmuv3.Command {
	span := s.span
	if c[1]&span[1]&cmdTG == 0 {
		return smmuv3.Command{}
	}
	// Level 1 of a 16 KiB granule has blocks only with IDR5.DS. Otherwise TTL = 1 is reserved and
	// means any level. Linux 5.8 to 6.4 sends Leaf = 0, TTL = 3 for tables that hold blocks, so the
	// level is used only with Leaf = 1.
	if !c.Leaf() || !s.ds && c[1]&cmdTG == cmdTG16K && c.TTL() == 1 {
		span[1] &^= cmdTTL
	}
	if c[0]&span[0] == 0 && c[1]&span[1]&cmdTTL == 0 {
		// A granule without range and level is reserved. TG = 0 invalidates the page of any granule.
		return smmuv3.Command{}
	}
	return span
}
