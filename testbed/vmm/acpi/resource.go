package acpi

// Resource is a resource descriptor (§6.4).
type Resource []byte

// Resources returns the value of _CRS.
func Resources(list ...Resource) Term {
	const endTag = 0x79 // its checksum may be 0: it is not used
	return Buffer(append(join(list), endTag, 0))
}

// Memory32 is a range of addresses below 4 GiB that a device decodes (§6.4.3.4).
func Memory32(base, size uint32) Resource {
	const fixed, readWrite = 0x86, 1
	w := writer{fixed, 9, 0, readWrite}
	w.u32(base)
	w.u32(size)
	return Resource(w)
}

// Interrupt is an active-high, level-triggered interrupt (§6.4.3.6).
func Interrupt(intid uint32) Resource {
	const extended, consumer = 0x89, 1 << 0
	w := writer{extended, 6, 0, consumer, 1}
	w.u32(intid)
	return Resource(w)
}

// Kinds and flags of address space descriptors (§6.4.3.5).
const (
	spaceMemory = 0
	spaceBus    = 2

	minAndMaxFixed = 1<<2 | 1<<3

	memoryWritable     = 1 << 0
	memoryPrefetchable = 3 << 1
)

// Window is a range of memory that a host bridge forwards, with the same addresses on both sides
// (§6.4.3.5.1).
func Window(base, size uint64, prefetchable bool) Resource {
	flags := uint8(memoryWritable)
	if prefetchable {
		flags |= memoryPrefetchable
	}
	const qword = 0x8a
	w := writer{qword, 0x2b, 0, spaceMemory, minAndMaxFixed, flags}
	for _, v := range []uint64{0, base, base + size - 1, 0, size} { // granularity, first, last, translation, length
		w.u64(v)
	}
	return Resource(w)
}

// Buses are the bus numbers behind a host bridge, from 0 on (§6.4.3.5.3).
func Buses(count uint16) Resource {
	const word = 0x88
	w := writer{word, 0x0d, 0, spaceBus, minAndMaxFixed, 0}
	for _, v := range []uint16{0, 0, count - 1, 0, count} {
		w.u16(v)
	}
	return Resource(w)
}
