package vmm

import (
	"fmt"
	"slices"

	"github.com/u-root/u-root/pkg/dt"

	"github.com/go-vsmmu/vsmmuv3/firmware"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/acpi"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/efi"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/fdt"
)

// firstSPI is the INTID of SPI 0, and firstPPI is the INTID of PPI 0.
const (
	firstSPI = 32
	firstPPI = 16
)

// addressBits is the width of the addresses that the machine's devices send.
const addressBits = 48

// acpiTables returns the tables that describe the machine.
func acpiTables(hw *hardware) ([]acpi.Table, error) {
	gic := acpi.GIC{
		CPUs: hw.cpus, Dist: gicDistBase, Redist: gicRedistBase, RedistSize: gicRedistSize * uint64(hw.cpus),
	}
	if !hw.wiring.NoITS {
		gic.ITS = []uint64{itsBase}
	}
	tables := []acpi.Table{
		acpi.FADT(),
		dsdt(hw),
		acpi.MADT(gic),
		acpi.GTDT(acpi.Timers{
			Secure: firstPPI + ppiSecure, NonSecure: firstPPI + ppiNonSecure,
			Virtual: firstPPI + ppiVirtual, Hypervisor: firstPPI + ppiHypervisor,
		}),
		acpi.SPCR(consoleBase, firstSPI+consoleSPI),
	}
	if len(hw.pci) > 0 {
		tables = append(tables, acpi.MCFG(pciECAMBase, pciBuses))
	}
	table, err := hw.iort().Table()
	return append(tables, table), err
}

func (hw *hardware) iort() *firmware.IORT {
	t := IORT(hw.smmus, hw.wiring, hw.disks, len(hw.pci))
	if len(hw.smmus) > 0 && slices.ContainsFunc(hw.pci, func(s pciSlot) bool { return s.passed }) {
		t.RMRs = append(t.RMRs, hw.wiring.rmr(doorbells))
	}
	return t
}

// IORT returns the description of SMMUs with given ID registers, and of the devices behind them:
// disks on the MMIO transport, and PCI functions. It also maps the functions of a machine without an
// SMMU to the ITS.
func IORT(smmus []smmuv3.IDRegs, wiring Wiring, disks []Master, functions int) *firmware.IORT {
	t := &firmware.IORT{OEMTableID: "TESTVMM", OEMRevision: 1}
	if !wiring.NoITS {
		t.ITS = []uint32{0}
	}
	for n, ids := range smmus {
		t.SMMUs = append(t.SMMUs, wiring.describe(n, ids))
	}
	if functions > 0 {
		root := firmware.PCIRoot{
			Requesters: requesters, SMMU: firmware.NoSMMU, AddressBits: addressBits,
			StreamBase: wiring.StreamBase, CanWBS: wiring.CanWBS,
		}
		if len(smmus) > 0 {
			root.SMMU, root.ATS = 0, smmus[0].Has(smmuv3.ATS)
			if wiring.RMR {
				t.RMRs = []firmware.RMR{wiring.rmr(ReservedRange)}
			}
		}
		t.Roots = []firmware.PCIRoot{root}
	}
	for slot, m := range disks {
		if len(smmus) == 0 {
			break
		}
		t.Components = append(t.Components, firmware.Component{
			Path: `\_SB_.` + virtioName(slot), SMMU: m.SMMU, StreamIDs: []smmuv3.StreamID{m.StreamID},
			PASIDBits: m.PASIDBits, CanStall: m.CanStall, AddressBits: addressBits,
		})
	}
	return t
}

// requesters is the number of requester IDs of all buses.
const requesters = pciBuses << 8

// rmr returns a range that the guest identity-maps for all functions.
func (w Wiring) rmr(r firmware.Identity) firmware.RMR {
	return firmware.RMR{First: w.StreamBase, Streams: requesters, Base: r.Base, Size: r.Size}
}

func virtioName(slot int) string { return fmt.Sprintf("VR%02d", slot) }

// dsdt returns the table of the machine's devices.
func dsdt(hw *hardware) acpi.Table {
	var devices []acpi.Term
	hid := func(id string, uid int) []acpi.Term {
		return []acpi.Term{acpi.Name("_HID", acpi.String(id)), acpi.Name("_UID", acpi.Int(uint64(uid)))}
	}
	add := func(name string, terms []acpi.Term, more ...acpi.Term) {
		devices = append(devices, acpi.Device(name, append(terms, more...)...))
	}
	// resources returns the resources of a device with a range of registers and an interrupt.
	resources := func(base, size uint64, spi uint32) acpi.Term {
		return acpi.Name("_CRS", acpi.Resources(
			acpi.Memory32(uint32(base), uint32(size)), acpi.Interrupt(firstSPI+spi)))
	}
	coherent := acpi.Name("_CCA", acpi.Int(1))
	for i := range hw.cpus {
		add(fmt.Sprintf("C%03d", i), hid("ACPI0007", i))
	}
	add("COM0", hid("ARMH0011", 0), resources(consoleBase, uartSize, consoleSPI))
	add("COM1", hid("ARMH0011", 1), resources(controlBase, uartSize, controlSPI))
	for slot := range hw.disks {
		add(virtioName(slot), hid("LNRO0005", slot), coherent,
			resources(virtioSlot(slot), virtioSize, virtioSPI+uint32(slot)))
	}
	if len(hw.pci) > 0 {
		devices = append(devices, pciTerms(len(hw.iort().RMRs) > 0)...)
	}
	return acpi.DSDT(acpi.Scope("_SB_", devices...))
}

// pciTerms returns the PCI host bridge, and the device that reserves its configuration space. keep
// makes the guest keep the bus numbers and addresses that firmware assigned, since RMRs contain
// StreamIDs.
func pciTerms(keep bool) []acpi.Term {
	const (
		anyFunction   = 0xffff
		preserve      = 5 // function of _DSM (PCI Firmware 3.3, §4.6.5)
		functionIndex = 0 // the function that lists the functions
	)
	var routes []acpi.Term
	for device := range uint64(32) {
		for pin := range uint64(4) {
			routes = append(routes, acpi.Package(acpi.Int(device<<16|anyFunction), acpi.Int(pin), acpi.Int(0),
				acpi.Int(firstSPI+pciSPI+(device+pin)%pciLines)))
		}
	}
	bridge := []acpi.Term{
		acpi.Name("_HID", acpi.EISAID("PNP0A08")),
		acpi.Name("_CID", acpi.EISAID("PNP0A03")),
		acpi.Name("_SEG", acpi.Int(0)),
		acpi.Name("_BBN", acpi.Int(0)),
		acpi.Name("_UID", acpi.Int(0)),
		acpi.Name("_CCA", acpi.Int(1)),
		acpi.Name("_PRT", acpi.Package(routes...)),
		acpi.Name("_CRS", acpi.Resources(
			acpi.Buses(pciBuses),
			acpi.Window(pciMemBase, pciMemSize, false),
			acpi.Window(pciMem64Base, pciMem64Size, true),
		)),
		// The guest gets control of all features that it requests.
		acpi.Method("_OSC", 4, acpi.Return(acpi.Arg3)),
	}
	if keep {
		bridge = append(bridge, acpi.Method("_DSM", 4,
			acpi.IfEqual(acpi.Arg2, acpi.Int(functionIndex), acpi.Return(acpi.Buffer([]byte{1 | 1<<preserve}))),
			acpi.IfEqual(acpi.Arg2, acpi.Int(preserve), acpi.Return(acpi.Int(0))),
			acpi.Return(acpi.Buffer([]byte{0})),
		))
	}
	return []acpi.Term{
		acpi.Device("PCI0", bridge...),
		acpi.Device("RES0",
			acpi.Name("_HID", acpi.EISAID("PNP0C02")),
			acpi.Name("_UID", acpi.Int(0)),
			acpi.Name("_CRS", acpi.Resources(acpi.Memory32(pciECAMBase, pciBuses<<20))),
		),
	}
}

// acpiOffset is the offset of the EFI handover in the range that plan reserves for the tree.
const acpiOffset = maxTree / 2

// describeByACPI fills the range that plan reserves for the tree. The tree has only the properties
// that an EFI stub leaves for Linux. They point to the tables.
func describeByACPI(hw *hardware, at span, ram span) ([]byte, error) {
	tables, err := acpiTables(hw)
	if err != nil {
		return nil, err
	}
	start := at.start + acpiOffset
	set, err := acpi.Place(start+efi.Size, tables...)
	if err != nil {
		return nil, err
	}
	handover, err := efi.New(start, at.end(), set.RSDP, efi.Range{Base: ram.start, Size: ram.size})
	if err != nil {
		return nil, err
	}
	// There are no runtime services to call.
	stub := *hw
	stub.cmdline = "efi=noruntime " + hw.cmdline
	chosen := chosenNode(&stub)
	chosen.Properties = slices.DeleteFunc(chosen.Properties, func(p dt.Property) bool {
		return p.Name == "stdout-path" // the SPCR has it
	})
	chosen.Properties = append(chosen.Properties, handover.Chosen()...)
	tree, err := fdt.Blob(dt.NewNode("", dt.WithProperty(
		dt.PropertyU32("#address-cells", 2),
		dt.PropertyU32("#size-cells", 2),
	), dt.WithChildren(chosen)))
	if err != nil {
		return nil, err
	}
	data := make([]byte, at.size)
	if len(tree) > acpiOffset || acpiOffset+efi.Size+len(set.Data) > len(data) {
		return nil, fmt.Errorf("a tree of %d bytes and tables of %d do not fit (shorten Cmdline)",
			len(tree), len(set.Data))
	}
	copy(data, tree)
	copy(data[acpiOffset:], handover.Data)
	copy(data[acpiOffset+efi.Size:], set.Data)
	return data, nil
}
