//go:build linux && (amd64 || arm64)

package passthrough

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

// msix is the guest's MSI-X table, with the places of the table and the pending bits.
type msix struct {
	table      *pci.MSIX // nil if the device has none
	bar        int
	at         span
	pendingBAR int
	pending    span
	isPending  func(vector int) bool
}

// The size of the capability (§7.7.2), and its registers for the places of the table and of the
// pending bits (§7.7.2.3, §7.7.2.4).
const (
	msixSize    = 12
	msixTable   = 0x04
	msixPending = 0x08
	msixBIR     = 7
)

func (m *msix) place(capability uint32, config *[256]byte) {
	table := binary.LittleEndian.Uint32(config[capability+msixTable:])
	pending := binary.LittleEndian.Uint32(config[capability+msixPending:])
	m.bar, m.at = int(table&msixBIR), span{uint64(table &^ msixBIR), m.table.Size()}
	m.pendingBAR, m.pending = int(
		pending&msixBIR,
	), span{
		uint64(pending &^ msixBIR),
		uint64(m.table.Vectors()+63) / 64 * 8,
	}
}

// in returns the parts of a BAR that the guest must not access directly, in ascending order.
func (m *msix) in(bar int) (spans []span) {
	if m.table == nil {
		return nil
	}
	if m.bar == bar {
		spans = append(spans, m.at)
	}
	if m.pendingBAR == bar {
		spans = append(spans, m.pending)
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.off, b.off) })
	return spans
}

func (m *msix) reset() {
	if m.table != nil {
		m.table.Reset()
	}
}

// load reads the table or the pending bits. ok is false if neither is at off.
func (m *msix) load(bar int, off uint64, size int) (value uint64, ok bool) {
	switch {
	case m.table == nil:
		return 0, false
	case bar == m.bar && m.at.meets(off, size):
		return m.table.Load(off-m.at.off, size), true
	case bar == m.pendingBAR && m.pending.meets(off, size):
		if !m.pending.contains(off, size) {
			return 0, true
		}
		first := int(off-m.pending.off) * 8
		for i := range min(8*size, m.table.Vectors()-first) {
			if m.isPending(first + i) {
				value |= 1 << i
			}
		}
		return value, true
	}
	return 0, false
}

// store writes the table, and returns the vector that it changed, or -1. ok is false if neither the
// table nor the pending bits, which are read-only, are at off.
func (m *msix) store(bar int, off uint64, size int, value uint64) (vector int, ok bool) {
	switch {
	case m.table == nil:
		return -1, false
	case bar == m.bar && m.at.meets(off, size):
		return m.table.Store(off-m.at.off, size, value), true
	case bar == m.pendingBAR && m.pending.meets(off, size):
		return -1, true
	}
	return -1, false
}
