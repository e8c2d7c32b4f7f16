//go:build linux && (amd64 || arm64)

package iommufd

import (
	"fmt"
	"unsafe"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd/internal/uapi"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// maxBatch is how many commands are sent in one request. The kernel takes more, but copies them to memory that it wants in one
// piece, and up to 32 KiB it is sure to find that.
const maxBatch = 2048

// batch is a request under way. It is kept, so that none has to be allocated.
type batch struct {
	arg  uapi.HWPTInvalidate
	n    int
	cmds [maxBatch]smmuv3.Command
}

// Invalidate is bridge.Host's. All commands go to the kernel in one request, unless there are more than 2048 or a hardware
// erratum has them repeated. What a command has in reserved fields is left out, and commands for streams that are not attached
// have nothing to do.
//
// An error is one of all commands: how many the kernel says to have handled means nothing then, as it has converted them in
// blocks and issued fewer.
func (h *Host) Invalidate(cmds []smmuv3.Command) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("iommufd: invalidate: %w", bridge.ErrClosed)
	}
	if h.nest == nil {
		return nil // nothing has been translated yet
	}
	if err := h.send(cmds...); err != nil {
		return fmt.Errorf("iommufd: invalidate: %w", err)
	}
	return nil
}

func (h *Host) send(cmds ...smmuv3.Command) error {
	h.batch.n = 0
	for _, c := range cmds {
		c, ok := physical(c, &h.nest.ids)
		if !ok {
			return fmt.Errorf("%v is none of a host's commands", c.Opcode())
		}
		if !h.concerns(c) {
			continue
		}
		h.batch.cmds[h.batch.n] = c
		h.batch.n++
		if h.batch.n == maxBatch {
			if err := h.flush(); err != nil {
				return err
			}
		}
	}
	return h.flush()
}

// concerns reports whether a command has anything to do here. The kernel answers one for a StreamID that it does not know with
// an error, where the architecture has it do nothing (§4.1.7).
func (h *Host) concerns(c smmuv3.Command) bool {
	switch c.Opcode() {
	case smmuv3.OpCfgiCD, smmuv3.OpCfgiCDAll:
		return h.streams[c.StreamID()] != nil
	case smmuv3.OpATCInv:
		// An SMMU without ATS takes the command for an error, and a device without it caches nothing.
		s := h.streams[c.StreamID()]
		return s != nil && h.nest.ids.Has(smmuv3.ATS) && !s.dev.noATS
	}
	return true
}

func (h *Host) flush() error {
	n := h.batch.n
	h.batch.n = 0
	if n == 0 {
		return nil
	}
	times := 1
	if h.nest.repeats {
		// Each time with the SYNC that the kernel adds. ATC_INV goes along: it must come after a TLBI that has worked.
		times = 2
	}
	for range times {
		h.batch.arg = uapi.HWPTInvalidate{
			Size:     uapi.SizeOf[uapi.HWPTInvalidate](),
			HWPTID:   uint32(h.nest.viommu),
			Data:     unsafe.Pointer(&h.batch.cmds),
			DataType: uapi.InvalidateDataARMSMMUv3,
			EntryLen: smmuv3.CommandSize,
			EntryNum: uint32(n),
		}
		h.counts.requests.Add(1)
		h.counts.commands.Add(uint64(n))
		if err := h.k.invalidate(&h.batch.arg); err != nil {
			return fmt.Errorf("%d commands: %w", n, err)
		}
		if done := h.batch.arg.EntryNum; done != uint32(n) {
			return fmt.Errorf("%s: %d commands handled of %d", opInvalidate, done, n)
		}
	}
	return nil
}

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

// physical is a guest's command as the kernel takes it for an SMMU with these ID registers: it answers reserved fields that
// are not zero with EIO, and so does it combinations of them that the architecture reserves. ok is false for what is no
// command for a host.
func physical(c smmuv3.Command, ids *smmuv3.IDRegs) (_ smmuv3.Command, ok bool) {
	var keep smmuv3.Command
	switch c.Opcode() {
	case smmuv3.OpTLBINSNHAll:
	case smmuv3.OpTLBINHAll:
		keep[0] = cmdVMID
	case smmuv3.OpTLBINHASID:
		keep[0] = cmdVMID | asidMask(ids)
	case smmuv3.OpTLBINHVA:
		keep[0] = cmdVMID | asidMask(ids)
		keep[1] = cmdLeaf | cmdAddr
		keep = withRange(keep, c, ids)
	case smmuv3.OpTLBINHVAA:
		keep = withRange(smmuv3.Command{cmdVMID, cmdLeaf | cmdAddr}, c, ids)
	case smmuv3.OpCfgiCD:
		keep = smmuv3.Command{cmdSID | substreams(ids, cmdSSID), cmdLeaf}
	case smmuv3.OpCfgiCDAll:
		keep[0] = cmdSID
	case smmuv3.OpATCInv:
		if c.ATCSize() > maxATCSize {
			return c, false
		}
		keep = smmuv3.Command{cmdSID | substreams(ids, cmdSSV|cmdSSID|cmdGlobal), cmdATCSize | cmdAddr}
	default:
		return c, false
	}
	return smmuv3.Command{c[0] & (keep[0] | cmdOpcode), c[1] & keep[1]}, true
}

// asidMask is what an ASID has: the upper bits of one are RES0 without IDR0.ASID16 (§4.4).
func asidMask(ids *smmuv3.IDRegs) uint64 {
	if ids.Has(smmuv3.ASID16) {
		return cmdASID
	}
	return cmdASID8
}

// substreams are fields that are RES0 without SubstreamIDs.
func substreams(ids *smmuv3.IDRegs, fields uint64) uint64 {
	if ids.Has(smmuv3.SSIDSIZE) {
		return fields
	}
	return 0
}

// withRange adds the fields of a range, if the command has one (§4.4.1.1): without IDR3.RIL, or with TG zero, they are RES0.
func withRange(keep, c smmuv3.Command, ids *smmuv3.IDRegs) smmuv3.Command {
	if !ids.Has(smmuv3.RIL) || c.TG() == 0 {
		return keep
	}
	ranged := keep
	ranged[0] |= cmdNum | cmdScale
	ranged[1] |= cmdTG | cmdTTL
	if ids.Has(smmuv3.DS) {
		ranged[0] |= cmdScale6
	} else if c[1]&cmdTG == cmdTG16K && c.TTL() == 1 {
		ranged[1] &^= cmdTTL // there are no such blocks, and TTL is taken as 0
	}
	if c[0]&ranged[0]&cmdScale6 == 0 && c[0]&cmdNum == 0 && c[1]&ranged[1]&cmdTTL == 0 {
		return keep // reserved; without TG the page is invalidated, whatever its size
	}
	return ranged
}
