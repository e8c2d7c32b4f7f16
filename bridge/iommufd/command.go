//go:build linux && (amd64 || arm64)

package iommufd

import "github.com/go-vsmmu/vsmmuv3/smmuv3"

// Fields of commands that the kernel takes (§4.3 to §4.5).
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
	maxATCSize = 52 // everything (§4.5.1)
	cmdTTL     = 0b11 << 8
	cmdTG      = 0b11 << 10
	cmdTG16K   = 0b10 << 10
	cmdAddr    = 0xffff_ffff_ffff_f000
)

// commandSet is what the kernel takes of a guest's commands on an SMMU with certain ID registers. It answers reserved fields that
// are not zero with EIO, and so does it combinations of fields that the architecture reserves.
type commandSet struct {
	keep [256]smmuv3.Command // by opcode: the fields that are not reserved; zero for what is no command for a host
	span smmuv3.Command      // fields of a range or level, which TLBI_NH_VA and TLBI_NH_VAA may have besides
	wide bool                // IDR5.DS
}

func newCommandSet(ids *smmuv3.IDRegs) *commandSet {
	// Parts of a field, or whole ones, are RES0 on smaller SMMUs (§4.3, §4.4, §4.5).
	asid := uint64(cmdASID8)
	if ids.Has(smmuv3.ASID16) {
		asid = cmdASID
	}
	var ssid, atcSSID uint64
	if ids.Has(smmuv3.SSIDSIZE) {
		ssid, atcSSID = cmdSSID, cmdSSV|cmdSSID|cmdGlobal
	}
	s := &commandSet{wide: ids.Has(smmuv3.DS)}
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
	case !ids.Has(smmuv3.RIL):
	case s.wide:
		s.span = smmuv3.Command{cmdNum | cmdScale6, cmdTG | cmdTTL}
	default:
		s.span = smmuv3.Command{cmdNum | cmdScale, cmdTG | cmdTTL}
	}
	return s
}

// physical is a guest's command as the kernel takes it. ok is false for what is no command for a host.
func (s *commandSet) physical(c smmuv3.Command) (_ smmuv3.Command, ok bool) {
	keep := s.keep[c.Opcode()]
	if keep[0] == 0 {
		return c, false
	}
	switch c.Opcode() {
	case smmuv3.OpTLBINHVA, smmuv3.OpTLBINHVAA:
		span := s.spanOf(c)
		keep[0] |= span[0]
		keep[1] |= span[1]
	case smmuv3.OpATCInv:
		if c.ATCSize() > maxATCSize {
			return c, false
		}
	}
	return smmuv3.Command{c[0] & keep[0], c[1] & keep[1]}, true
}

// spanOf is the fields of the range or level that a command has (§4.4.1.1), if it has one: without IDR3.RIL, or with TG zero,
// they are RES0.
func (s *commandSet) spanOf(c smmuv3.Command) smmuv3.Command {
	span := s.span
	if c[1]&span[1]&cmdTG == 0 {
		return smmuv3.Command{}
	}
	// There are no such blocks but with IDR5.DS, and TTL is taken as 0.
	if !s.wide && c[1]&cmdTG == cmdTG16K && c.TTL() == 1 {
		span[1] &^= cmdTTL
	}
	if c[0]&span[0] == 0 && c[1]&span[1]&cmdTTL == 0 {
		// A granule and nothing of it is reserved. Without, the page is invalidated whatever its size.
		return smmuv3.Command{}
	}
	return span
}
