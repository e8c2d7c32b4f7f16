package pci

import "encoding/binary"

// MSIXEntrySize is the size of an entry of the MSI-X table (§7.7.2.5 to §7.7.2.8).
const MSIXEntrySize = 16

// Bits of the capability's message control (§7.7.2.2).
const (
	MSIXEnable       = 1 << 15
	MSIXFunctionMask = 1 << 14
	MSIXTableSize    = 0x7ff // less one

	msixEntryMask = 1 << 0 // of an entry's vector control
)

// MSIX is the model of an MSI-X capability and its table. Its methods are not to be called concurrently.
type MSIX struct {
	table   [][MSIXEntrySize]byte
	control uint16 // the bits that software writes
}

// NewMSIX makes the model of a table, in its reset state.
func NewMSIX(vectors int) *MSIX {
	m := &MSIX{table: make([][MSIXEntrySize]byte, vectors)}
	m.Reset()
	return m
}

// Reset masks each vector, and disables all.
func (m *MSIX) Reset() {
	m.control = 0
	clear(m.table)
	for i := range m.table {
		m.table[i][12] = msixEntryMask
	}
}

// Vectors is the number of vectors.
func (m *MSIX) Vectors() int { return len(m.table) }

// Size is the size of the table in bytes.
func (m *MSIX) Size() uint64 { return uint64(len(m.table)) * MSIXEntrySize }

// Control is the message control register.
func (m *MSIX) Control() uint16 { return m.control | uint16(len(m.table)-1)&MSIXTableSize }

// SetControl stores to the message control register.
func (m *MSIX) SetControl(v uint16) { m.control = v & (MSIXEnable | MSIXFunctionMask) }

// Enabled says whether the function sends messages, and no INTx.
func (m *MSIX) Enabled() bool { return m.control&MSIXEnable != 0 }

// Live says whether vector i may send, and Data and Addr what and where to.
func (m *MSIX) Live(i int) bool {
	return m.control&(MSIXEnable|MSIXFunctionMask) == MSIXEnable && m.table[i][12]&msixEntryMask == 0
}

// Addr is where vector i writes to: like all of a function's DMA, to what an IOMMU makes of it.
func (m *MSIX) Addr(i int) uint64 { return binary.LittleEndian.Uint64(m.table[i][0:]) &^ 3 }

// Data is what vector i writes.
func (m *MSIX) Data(i int) uint32 { return binary.LittleEndian.Uint32(m.table[i][8:]) }

// Load reads the table. Only accesses of 4 and 8 bytes at their natural alignment mean anything (§7.7.2).
func (m *MSIX) Load(off uint64, size int) uint64 {
	entry, ok := m.entry(off, size)
	if !ok {
		return 0
	}
	if size == 4 {
		return uint64(binary.LittleEndian.Uint32(entry))
	}
	return binary.LittleEndian.Uint64(entry)
}

// Store writes the table, and says which vector is concerned, -1 for none.
func (m *MSIX) Store(off uint64, size int, value uint64) (vector int) {
	entry, ok := m.entry(off, size)
	if !ok {
		return -1
	}
	if size == 4 {
		binary.LittleEndian.PutUint32(entry, uint32(value))
	} else {
		binary.LittleEndian.PutUint64(entry, value)
	}
	return int(off / MSIXEntrySize)
}

func (m *MSIX) entry(off uint64, size int) ([]byte, bool) {
	if size != 4 && size != 8 || off%uint64(size) != 0 || off >= m.Size() {
		return nil, false
	}
	return m.table[off/MSIXEntrySize][off%MSIXEntrySize:], true
}
