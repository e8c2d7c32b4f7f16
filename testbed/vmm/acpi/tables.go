package acpi

// FADT returns the Fixed ACPI Description Table of a hardware-reduced machine, whose vCPUs and power
// PSCI controls by HVC (§5.2.9). Place fills in the address of the DSDT.
func FADT() Table {
	const (
		size            = 276 // of revision 6
		flags           = 112
		armBootFlags    = 129
		minorRevision   = 131
		hypervisor      = 268
		hardwareReduced = 1 << 20
		psciCompliant   = 1 << 0
		psciUsesHVC     = 1 << 1
	)
	body := make([]byte, size-headerSize)
	put := func(at int, v uint32) {
		w := writer{}
		w.u32(v)
		copy(body[at-headerSize:], w)
	}
	put(flags, hardwareReduced)
	body[armBootFlags-headerSize] = psciCompliant | psciUsesHVC
	body[minorRevision-headerSize] = 3 // ACPI 6.3
	copy(body[hypervisor-headerSize:], "VSMMUVMM")
	return newTable("FACP", 6, body)
}

// GIC describes a GICv3 and the CPUs that it interrupts.
type GIC struct {
	CPUs         int // with affinities 0, 1, …, up to 16
	Dist         uint64
	Redist       uint64
	RedistSize   uint64   // of all CPUs
	ITS          []uint64 // the addresses; the ID of each is its index
	Maintenance  uint32   // INTID of the maintenance interrupt; 0 for none
	PerfOverflow uint32   // INTID of the PMU's interrupt; 0 for none
}

// MADT returns the Multiple APIC Description Table (§5.2.12.14 to §5.2.12.18).
func MADT(g GIC) Table {
	const (
		gicc, giccSize = 0x0b, 80
		gicd, gicdSize = 0x0c, 24
		gicr, gicrSize = 0x0e, 16
		its, itsSize   = 0x0f, 20
		enabled        = 1 << 0
		version3       = 3
	)
	var w writer
	w.u32(0) // no local interrupt controllers
	w.u32(0)
	structure := func(kind, size uint8) {
		w.u8(kind)
		w.u8(size)
		w.u16(0)
	}
	structure(gicd, gicdSize)
	w.u32(0)
	w.u64(g.Dist)
	w.u32(0)
	w.u8(version3)
	w.zeros(3)
	for cpu := range uint32(g.CPUs) {
		structure(gicc, giccSize)
		w.u32(cpu) // interface number
		w.u32(cpu) // processor UID
		w.u32(enabled)
		w.u32(0) // parking protocol
		w.u32(g.PerfOverflow)
		w.zeros(4 * 8) // parked address, GICC, GICV, GICH
		w.u32(g.Maintenance)
		w.u64(0)           // GICR, below
		w.u64(uint64(cpu)) // MPIDR
		w.zeros(4)
	}
	structure(gicr, gicrSize)
	w.u64(g.Redist)
	w.u32(uint32(g.RedistSize))
	for id, base := range g.ITS {
		structure(its, itsSize)
		w.u32(uint32(id))
		w.u64(base)
		w.u32(0)
	}
	return newTable("APIC", 4, w)
}

// Timers are the INTIDs of the architected timers, which are level-triggered and never stop.
type Timers struct{ Secure, NonSecure, Virtual, Hypervisor uint32 }

// GTDT returns the Generic Timer Description Table, without memory-mapped timers (§5.2.25).
func GTDT(t Timers) Table {
	const (
		none     = ^uint64(0) // no counter in memory
		alwaysOn = 1 << 2
	)
	var w writer
	w.u64(none)
	w.u32(0)
	for _, intid := range []uint32{t.Secure, t.NonSecure, t.Virtual, t.Hypervisor} {
		w.u32(intid)
		w.u32(alwaysOn)
	}
	w.u64(none)
	w.u32(0) // no platform timers
	w.u32(0)
	return newTable("GTDT", 2, w)
}

// SPCR returns the Serial Port Console Redirection Table, revision 2, of a PL011.
func SPCR(base uint64, intid uint32) Table {
	const (
		pl011      = 3
		system     = 0 // address space: memory
		bits       = 32
		dword      = 3
		gicIRQ     = 1 << 3
		asIs       = 0
		oneStopBit = 1
		ansi       = 3
		noPCI      = 0xffff
	)
	var w writer
	w.u8(pl011)
	w.zeros(3)
	for _, v := range []uint8{system, bits, 0, dword} {
		w.u8(v)
	}
	w.u64(base)
	w.u8(gicIRQ)
	w.u8(0)
	w.u32(intid)
	for _, v := range []uint8{asIs, 0, oneStopBit, 0, ansi, 0} { // baud, parity, stop, flow, terminal
		w.u8(v)
	}
	w.u16(noPCI)
	w.u16(noPCI)
	w.zeros(3) // bus, device, function
	w.u32(0)
	w.u8(0)
	w.u32(0)
	return newTable("SPCR", 2, w)
}

// MCFG returns the table of the configuration space of a PCI segment 0 (PCI Firmware 3.3, §4.1.2).
func MCFG(ecam uint64, buses int) Table {
	var w writer
	w.zeros(8)
	w.u64(ecam)
	w.u16(0) // segment
	w.u8(0)
	w.u8(uint8(buses - 1))
	w.u32(0)
	return newTable("MCFG", 1, w)
}

// DSDT returns the Differentiated System Description Table of AML, whose integers have 64 bits.
func DSDT(terms ...Term) Table { return newTable("DSDT", 2, join(terms)) }
