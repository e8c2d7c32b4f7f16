package pci

import "encoding/binary"

// MSIXEntrySize is the size of an entry of the MSI-X table (§7.7.2.5 to §7.7.2.8).
const MSIXEntrySize = 16

// Bits of the capability's message control (§7.7.2.2).
const (
	MSIXEnable       = 1 << 15
	MSIXFunctionMask = 1 << 14
	MSIXTableSize    = 0x7ff // the number of entries minus 1

	msixEntryMask = 1 << 0 // of an entry's vector control
)

// MSIX is an MSI-X capability with its table. Its methods must not be called concurrently.
type MSIX struct {
	table   [][MSIXEntrySize]byte
	control uint16 // the writable bits
}

// NewMSIX returns a table of 1 to 2048 vectors, in its reset state.
func NewMSIX(vectors int) *MSIX {
	m := &MSIX{table: make([][MSIXEntrySize]byte, vectors)}
	m.Reset()
	return m
}

// Reset disables MSI-X, and masks each vector.
func (m *MSIX) Reset() {
	m.control = 0
	clear(m.table)
	for i := range m.table {
		m.table[i][12] = msixEntryMask
	}
}

// Vectors returns the number of vectors.
func (m *MSIX) Vectors() int { return len(m.table) }

// Size returns the size of the table in bytes.
func (m *MSIX) Size() uint64 { return uint64(len(m.table)) * MSIXEntrySize }

// Control returns the message control register.
func (m *MSIX) Control() uint16 { return m.control | uint16(len(m.table)-1)&MSIXTableSize }

// SetControl writes the message control register.
func (m *MSIX) SetControl(v uint16) { m.control = v & (MSIXEnable | MSIXFunctionMask) }

// Enabled reports whether MSI-X is enabled. The function then uses no INTx.
func (m *MSIX) Enabled() bool { return m.control&MSIXEnable != 0 }

// Live reports whether vector i can send messages: MSI-X is enabled, and nothing masks the vector.
func (m *MSIX) Live(i int) bool {
	return m.control&(MSIXEnable|MSIXFunctionMask) == MSIXEnable && m.table[i][12]&msixEntryMask == 0
}

// Addr returns the address of vector i. An IOMMU translates it like all of a function's DMA.
func (m *MSIX) Addr(i int) uint64 { return binary.LittleEndian.Uint64(m.table[i][0:]) &^ 3 }

// Data returns the data of vector i.
func (m *MSIX) Data(i int) uint32 { return binary.LittleEndian.Uint32(m.table[i][8:]) }

// Load reads the table. It returns 0 unless the access has 4 or 8 bytes and natural alignment
// (§7.7.2).
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

// Store writes the table, and returns the vector that it changed, or -1.
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
