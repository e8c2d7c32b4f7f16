package virtio

import "github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"

// vectors is the number of MSI-X vectors: one for each cause of an interrupt.
const vectors = 2

// noVector is VIRTIO_MSI_NO_VECTOR: the event sends no message (§4.1.5.1.2).
const noVector = 0xffff

// messages is a function's MSI-X state. A pending message is sent as soon as it is not masked
// (PCI §6.1.4).
type messages struct {
	table   *pci.MSIX
	pending [vectors]bool
	config  uint16 // the vector of configuration changes
	queue   uint16 // the vector of the queue
}

func newMessages() messages {
	return messages{table: pci.NewMSIX(vectors), config: noVector, queue: noVector}
}

// unmap clears the mapping of events to vectors, and the pending messages.
func (m *messages) unmap() { m.config, m.queue, m.pending = noVector, noVector, [vectors]bool{} }

// assign maps an event to a vector, or to noVector if there is no such vector (§4.1.5.1.2.1).
func assign(event *uint16, vector uint32) {
	*event = noVector
	if vector < vectors {
		*event = uint16(vector)
	}
}

// raise makes the message of a cause pending.
func (m *messages) raise(cause uint32) {
	vector := m.queue
	if cause == interruptConfig {
		vector = m.config
	}
	if vector != noVector {
		m.pending[vector] = true
	}
}

// take returns the message of a vector and ends its pending state, if it is pending and not masked.
func (m *messages) take(vector int) (addr uint64, data uint32, ok bool) {
	if !m.pending[vector] || !m.table.Live(vector) {
		return 0, 0, false
	}
	m.pending[vector] = false
	return m.table.Addr(vector), m.table.Data(vector), true
}

// loadPending reads the pending bit array, which accesses of 4 and 8 bytes can read (PCI §7.7.2).
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
