package virtio

import "github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"

// Vectors of a function: one for each reason to interrupt, so that no driver has to share them.
const vectors = 2

// noVector is what an event is mapped to that sends nothing (§4.1.5.1.2).
const noVector = 0xffff

// messages are a function's MSI-X interrupts: to be sent, or pending while they are masked (PCI §6.1.4).
type messages struct {
	table   *pci.MSIX
	pending [vectors]bool
	config  uint16 // the vector of configuration changes, and that of the queue
	queue   uint16
}

func newMessages() messages {
	return messages{table: pci.NewMSIX(vectors), config: noVector, queue: noVector}
}

// unmap forgets what the driver has mapped to vectors, and what is to be sent.
func (m *messages) unmap() { m.config, m.queue, m.pending = noVector, noVector, [vectors]bool{} }

// assign maps an event to a vector: to none, if there is no such vector (§4.1.5.1.2.1).
func assign(event *uint16, vector uint32) {
	*event = noVector
	if vector < vectors {
		*event = uint16(vector)
	}
}

// raise has the vector of an event sent.
func (m *messages) raise(cause uint32) {
	vector := m.queue
	if cause == interruptConfig {
		vector = m.config
	}
	if vector != noVector {
		m.pending[vector] = true
	}
}

// take gives a vector that is to be sent now, if that is so.
func (m *messages) take(vector int) (addr uint64, data uint32, ok bool) {
	if !m.pending[vector] || !m.table.Live(vector) {
		return 0, 0, false
	}
	m.pending[vector] = false
	return m.table.Addr(vector), m.table.Data(vector), true
}

// loadPending reads the array of pending bits, of which only accesses of 4 and 8 bytes mean anything (PCI §7.7.2).
func (m *messages) loadPending(off uint64, size int) (bits uint64) {
	if off != 0 || size < 4 {
		return 0
	}
	for i, pending := range m.pending {
		if pending {
			bits |= 1 << i
		}
	}
	return bits
}
