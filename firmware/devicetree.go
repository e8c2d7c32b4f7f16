package firmware

import (
	"fmt"

	"github.com/u-root/u-root/pkg/dt"

	"github.com/go-vsmmu/vsmmuv3/internal/fdt"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// SMMU says where the VM has its SMMUv3. The interrupts are shared peripheral interrupts of a GIC with three interrupt
// cells, counted from 0, and must be the interrupt parent's at the node's place in the tree.
type SMMU struct {
	Base    uint64     // guest-physical address of the register file, a multiple of 64 KiB
	PHandle dt.PHandle // unique in the tree; masters refer to it

	EventQ, PRIQ, CmdSync, GError uint32
	// NoCmdSync is for an SMMU without the wired interrupt of CMD_SYNC: one that has IDR0.MSI needs none (IHI 0070 §3.18). A
	// driver that polls memory for the end of a SYNC, as Linux does, would otherwise have it signalled in vain each time.
	NoCmdSync bool

	// MSI is the ITS that the SMMU's own messages go to, if IDR0.MSI says that it sends any, and DeviceID how the ITS knows
	// them. 0 for no ITS.
	MSI      dt.PHandle
	DeviceID uint32
}

// From the GIC binding: the kind of an interrupt, and its trigger.
const (
	gicSPI      = 0
	edgeRising  = 1
	smmuCells   = 1
	streamCells = 1 + smmuCells // of one entry of "iommus": the phandle, then what smmuCells says
)

// SMMUNode is the node of an SMMUv3, to stand where #address-cells and #size-cells are 2. Its table walks are coherent with
// the CPUs' caches, for the guest's tables are read from the guest's memory.
func SMMUNode(s SMMU) *dt.Node {
	// All of them are edges (IHI 0070 §3.18), in the order of the names.
	names := []string{"eventq", "gerror", "priq"}
	interrupts := []uint32{
		gicSPI, s.EventQ, edgeRising,
		gicSPI, s.GError, edgeRising,
		gicSPI, s.PRIQ, edgeRising,
	}
	if !s.NoCmdSync {
		names = append(names, "cmdq-sync")
		interrupts = append(interrupts, gicSPI, s.CmdSync, edgeRising)
	}
	n := dt.NewNode(fmt.Sprintf("iommu@%x", s.Base), dt.WithProperty(
		dt.PropertyString("compatible", "arm,smmu-v3"),
		dt.PropertyRegion("reg", s.Base, smmuv3.RegisterSpace),
		dt.PropertyU32Array("interrupts", interrupts),
		fdt.StringList("interrupt-names", names...),
		fdt.Flag("dma-coherent"),
		dt.PropertyU32("#iommu-cells", smmuCells),
		dt.PropertyU32("phandle", uint32(s.PHandle)),
	))
	if s.MSI != 0 {
		n.Properties = append(n.Properties, dt.PropertyU32Array("msi-parent", []uint32{uint32(s.MSI), s.DeviceID}))
	}
	return n
}

// Master says how a platform device stands behind an SMMU.
type Master struct {
	SMMU      dt.PHandle
	StreamIDs []smmuv3.StreamID
	PASIDBits uint32 // width of the SubstreamIDs that the device can use, up to 20; 0 for none
	CanStall  bool   // the device waits for faults to be resolved, where the SMMU lets it
}

// MasterProperties are what a device's node says of the SMMU before it.
func MasterProperties(m Master) []dt.Property {
	iommus := make([]uint32, 0, streamCells*len(m.StreamIDs))
	for _, sid := range m.StreamIDs {
		iommus = append(iommus, uint32(m.SMMU), uint32(sid))
	}
	properties := []dt.Property{dt.PropertyU32Array("iommus", iommus)}
	if m.PASIDBits > 0 {
		properties = append(properties, dt.PropertyU32("pasid-num-bits", m.PASIDBits))
	}
	if m.CanStall {
		properties = append(properties, fdt.Flag("dma-can-stall"))
	}
	return properties
}
