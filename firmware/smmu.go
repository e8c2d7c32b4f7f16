package firmware

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// SMMU describes an SMMUv3, for SMMUNode and for IORT.
type SMMU struct {
	// Base is the guest-physical address of the register file, a multiple of 64 KiB.
	Base uint64
	// IDs are the ID registers that the guest reads (idr.Result.IDs). They determine whether the
	// SMMU's own accesses are coherent (IDR0.COHACC), the IORT's HTTU override (IDR0.HTTU), and
	// whether the PRI queue has an interrupt (IDR0.PRI). Zero means coherent accesses, hardware
	// updates of the access flag and the dirty state, and an interrupt of the PRI queue.
	IDs smmuv3.IDRegs

	// EventQ, PRIQ, CmdSync and GError are the wired interrupts: SPIs of the GIC, counted from 0.
	// All are edges (IHI 0070 §3.18).
	EventQ, PRIQ, CmdSync, GError uint32
	// NoCmdSync omits the wired interrupt of CMD_SYNC. Linux polls for the completion of a CMD_SYNC
	// and does not use this interrupt. FreeBSD does not attach to an SMMU without it.
	NoCmdSync bool
	// NoPRIQ omits the wired interrupt of the PRI queue, as IDs without IDR0.PRI do.
	NoPRIQ bool
	// NoWired omits all four, for an SMMU that only sends messages.
	NoWired bool

	// DeviceID identifies the SMMU's own messages to the ITS. It is used only if IDR0.MSI is 1. No
	// other device may then have it.
	DeviceID uint32

	// The following fields are for SMMUNode alone.

	PHandle PHandle // of this node; the nodes of masters contain it
	// InterruptParent is the GIC, whose node has 3 #interrupt-cells. 0 omits the property: the node
	// inherits it.
	InterruptParent PHandle
	// MSI is the ITS that receives the SMMU's own messages. 0 means none. An IORT only needs a
	// value other than 0, or IDR0.MSI.
	MSI PHandle

	// The following field is for IORT alone.

	// DeviceBase is added to a stream's StreamID to form its DeviceID at the ITS. It separates the
	// DeviceIDs of SMMUs whose StreamIDs overlap: an IORT with an ITS has no DeviceID twice.
	DeviceBase uint32
}

// WithSPIs returns the SMMU with four consecutive wired interrupts from base on. Use the same base
// for vsmmu.SPIs, or fds of these SPIs for vsmmu.EventFDs.
func (s SMMU) WithSPIs(base uint32) SMMU {
	s.EventQ, s.PRIQ, s.CmdSync, s.GError = base, base+1, base+2, base+3
	return s
}

// Alignment of the register file, and the size of its granule (IHI 0070 §6.1).
const granule64K = 64 << 10

// maxSPI is the last SPI of a GIC: INTIDs 32 to 1019 (IHI 0069 §2.2.1). Extended SPIs have another
// kind of specifier.
const maxSPI = 1019 - firstSPI

// coherent reports whether the SMMU's own accesses snoop the CPUs' caches.
func (s *SMMU) coherent() bool { return s.IDs == smmuv3.IDRegs{} || s.IDs.Has(smmuv3.COHACC) }

// httu returns the value of IDR0.HTTU that firmware reports, at most 2: the IORT has no larger
// value.
func (s *SMMU) httu() uint32 {
	const accessAndDirty = 2
	if s.IDs == (smmuv3.IDRegs{}) {
		return accessAndDirty
	}
	return min(s.IDs.Get(smmuv3.HTTU), accessAndDirty)
}

// messages reports whether the SMMU sends messages.
func (s *SMMU) messages() bool { return s.MSI != 0 || s.IDs.Has(smmuv3.MSI) }

// wire is a wired interrupt of an SMMU.
type wire struct {
	name, field string
	spi         uint32
	present     bool
}

// wires returns the wired interrupts in the order of the device tree binding.
func (s *SMMU) wires() [4]wire {
	return [4]wire{
		{"eventq", "EventQ", s.EventQ, !s.NoWired},
		{"gerror", "GError", s.GError, !s.NoWired},
		{"priq", "PRIQ", s.PRIQ, !s.NoWired && !s.NoPRIQ && (s.IDs == smmuv3.IDRegs{} || s.IDs.Has(smmuv3.PRI))},
		{"cmdq-sync", "CmdSync", s.CmdSync, !s.NoWired && !s.NoCmdSync},
	}
}

// check returns an error for the first field that is invalid for both a device tree and an IORT.
// its reports whether there is an ITS to send messages to.
func (s *SMMU) check(its bool) error {
	switch {
	case s.Base%granule64K != 0:
		return invalid("Base %#x: not a multiple of 64 KiB (IHI 0070 §6.1)", s.Base)
	case s.Base+smmuv3.RegisterSpace < s.Base:
		return invalid("Base %#x: the register file ends beyond 64 bits", s.Base)
	case s.NoWired && !its:
		return invalid("NoWired: the SMMU has no ITS to send messages to")
	case s.NoWired && s.IDs != (smmuv3.IDRegs{}) && !s.IDs.Has(smmuv3.MSI):
		return invalid("NoWired: the SMMU sends no messages (IDR0.MSI is 0)")
	}
	for _, w := range s.wires() {
		if w.present && w.spi > maxSPI {
			return fmt.Errorf("%s %d: SPIs are 0 to %d", w.field, w.spi, maxSPI)
		}
	}
	return nil
}

// From the GIC binding: the kind of an interrupt, and its trigger.
const (
	gicSPI     = 0
	edgeRising = 1
	levelHigh  = 4
)

// smmuCells is the #iommu-cells of an SMMUv3: a StreamID.
const smmuCells = 1

// SMMUNode returns the node of an SMMUv3, for a parent with 2 #address-cells and 2 #size-cells.
func SMMUNode(s SMMU) (Node, error) {
	if err := s.check(s.MSI != 0); err != nil {
		return Node{}, fmt.Errorf("firmware: SMMUNode: %w", err)
	}
	if s.PHandle == 0 {
		return Node{}, errors.New(
			"firmware: SMMUNode: PHandle 0: the node needs a phandle, since its masters refer to it")
	}
	n := Node{
		Name:  fmt.Sprintf("iommu@%x", s.Base),
		Props: []Prop{Strings("compatible", "arm,smmu-v3"), Reg(s.Base, smmuv3.RegisterSpace)},
	}
	var names []string
	var interrupts []uint32
	for _, w := range s.wires() {
		if w.present {
			names = append(names, w.name)
			interrupts = append(interrupts, gicSPI, w.spi, edgeRising)
		}
	}
	if len(names) > 0 {
		if s.InterruptParent != 0 {
			n.Props = append(n.Props, Cells("interrupt-parent", uint32(s.InterruptParent)))
		}
		n.Props = append(n.Props, Cells("interrupts", interrupts...), Strings("interrupt-names", names...))
	}
	if s.coherent() {
		n.Props = append(n.Props, Flag("dma-coherent"))
	}
	n.Props = append(n.Props, Cells("#iommu-cells", smmuCells), phandle(s.PHandle))
	if s.MSI != 0 {
		n.Props = append(n.Props, Cells("msi-parent", uint32(s.MSI), s.DeviceID))
	}
	return n, nil
}
