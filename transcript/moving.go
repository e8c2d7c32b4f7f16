package transcript

import (
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// moving holds the registers that a device changes while the guest polls them, such as CR0ACK and
// CMDQ_CONS, with the value that the guest saw last, by offset. A device may change them earlier
// than the recorded one did. A recorded value therefore fits if the register has this value now, or
// has had it since the guest last read the register. All other registers must be equal.
type moving map[uint64]seen

type seen struct {
	value    uint32
	executed uint64 // commands by then
}

// word returns the offset of the 32-bit register at an offset. For a page-0 alias, it returns the
// offset on page 1.
func word(off uint64) uint64 {
	switch off &^= 3; off {
	case smmuv3.RegEVENTQ_PROD & 0xff, smmuv3.RegEVENTQ_CONS & 0xff,
		smmuv3.RegPRIQ_PROD & 0xff, smmuv3.RegPRIQ_CONS & 0xff:
		return off | 0x10000
	}
	return off
}

func isMoving(off uint64) bool {
	switch off {
	case smmuv3.RegCR0ACK, smmuv3.RegGBPA, smmuv3.RegGERROR,
		smmuv3.RegCMDQ_CONS, smmuv3.RegEVENTQ_PROD, smmuv3.RegPRIQ_PROD:
		return true
	}
	return false
}

// halves returns the words of an access by their offsets.
func halves(off uint64, size uint8, v uint64) map[uint64]uint32 {
	m := map[uint64]uint32{word(off): uint32(v)}
	if size == 8 {
		m[word(off+4)] = uint32(v >> 32)
	}
	return m
}

// has reports whether a load reads a moving register.
func (m moving) has(l *Load) bool {
	for off := range halves(l.Offset, l.Size, 0) {
		if isMoving(off) {
			return true
		}
	}
	return false
}

// fits reports whether the recorded value of a load fits the device. now is the current value of
// the register, and executed is the number of executed commands.
//
// ahead is true if the device already has events that the recorded device had only after the load.
// Otherwise EVENTQ_PROD must be equal.
func (m moving) fits(d *vsmmu.Device, want *Load, now, executed uint64, ahead bool) bool {
	if want.Value == now || want.Racing {
		return true
	}
	is := halves(want.Offset, want.Size, now)
	for off, was := range halves(want.Offset, want.Size, want.Value) {
		switch {
		case was == is[off]:
		case !isMoving(off), off == smmuv3.RegEVENTQ_PROD && !ahead, !m.onTheWay(d, off, was, is[off], executed):
			return false
		}
	}
	return true
}

// onTheWay reports whether a register may have had the value v since the guest last read it.
func (m moving) onTheWay(d *vsmmu.Device, off uint64, v, now uint32, executed uint64) bool {
	last, index := m[off], uint32(0)
	switch off {
	case smmuv3.RegCR0ACK:
		if (now^last.value)&(now^uint32(d.Load(smmuv3.RegCR0, 4))) != 0 {
			return false // it changed without a store to CR0
		}
	case smmuv3.RegCMDQ_CONS:
		q, _ := commandQueue(d)
		index = uint32(q.Mask())
		if executed-last.executed > uint64(index) {
			last.value = last.value&^index | (now+1)&index // the queue has wrapped: any index
		}
	case smmuv3.RegEVENTQ_PROD:
		index = uint32(queueMask(d, smmuv3.RegEVENTQ_BASE, smmuv3.EventSize, smmuv3.EVENTQS))
	case smmuv3.RegPRIQ_PROD:
		index = uint32(queueMask(d, smmuv3.RegPRIQ_BASE, smmuv3.PageReqSize, smmuv3.PRIQS))
	}
	if (v-last.value)&index > (now-last.value)&index {
		return false
	}
	// Each flag by itself.
	return (v^now)&(v^last.value)&^index == 0
}

// queueMask returns the index bits of a queue that the device writes.
func queueMask(d *vsmmu.Device, base uint64, entry uint64, size smmuv3.IDField) smmuv3.Index {
	return smmuv3.QueueBase(d.Load(base, 8)).Queue(entry, d.IDs().Get(size), 0).Mask()
}

// loaded keeps the values that the guest saw.
func (m moving) loaded(l *Load, executed uint64) {
	for off, v := range halves(l.Offset, l.Size, l.Value) {
		if isMoving(off) {
			m[off] = seen{v, executed}
		}
	}
}

// stored keeps the values that the guest stored itself, unless the device ignored them.
func (m moving) stored(d *vsmmu.Device, s *Store) {
	for off, v := range halves(s.Offset, s.Size, s.Value) {
		switch now := uint32(d.Load(off, 4)); off {
		case smmuv3.RegGBPA:
			if smmuv3.GBPA(v)&smmuv3.GBPA_Update != 0 { // otherwise it is ignored (§6.3.14.1)
				m[off] = seen{value: v}
			}
		case smmuv3.RegCMDQ_CONS, smmuv3.RegEVENTQ_PROD, smmuv3.RegPRIQ_PROD:
			if now == v {
				m[off] = seen{v, m[off].executed}
			}
		}
	}
}

// forget drops all values, after a reset.
func (m moving) forget() { clear(m) }
