package virtio

import "encoding/binary"

// registers are the registers that both transports have, at offsets of their own. A reset clears
// them.
type registers struct {
	deviceFeaturesSel, driverFeaturesSel uint32
	driverFeatures                       uint64
	queueSel                             uint32
	queueNum                             uint32
	queueReady                           bool
	desc, avail, used                    uint64
	status                               uint32
}

// resetRegisters are the values at reset. On PCI the queue size is then the greatest (§4.1.4.3). On
// MMIO the driver sets it.
var resetRegisters = registers{queueNum: queueMax}

// register is the name of a register.
type register uint8

const (
	noRegister register = iota
	deviceFeaturesSel
	deviceFeatures
	driverFeaturesSel
	driverFeatures
	queueSel
	queueNumMax
	queueNum
	queueReady
	queueNotify
	queueDescLow
	queueDescHigh
	queueDriverLow
	queueDriverHigh
	queueDeviceLow
	queueDeviceHigh
	deviceStatus
)

const queueMax = 256

// Device status (§2.1).
const (
	statusDriverOK   = 1 << 2
	statusFeaturesOK = 1 << 3
	statusNeedsReset = 1 << 6
	statusDriver     = 0xbf // the bits that a driver may set: all except DEVICE_NEEDS_RESET
)

// transportFeatures are VIRTIO_F_VERSION_1 and VIRTIO_F_ACCESS_PLATFORM. A driver must accept both:
// without the latter it would use physical addresses where an IOMMU translates.
const transportFeatures = 1<<32 | 1<<33

func (d *device) features() uint64 { return d.model.Features() | transportFeatures }

// load reads a register. The caller holds mu.
func (d *device) load(reg register) uint32 {
	r := &d.regs
	switch reg {
	case deviceFeaturesSel:
		return r.deviceFeaturesSel
	case deviceFeatures:
		return half(d.features(), r.deviceFeaturesSel)
	case driverFeaturesSel:
		return r.driverFeaturesSel
	case driverFeatures:
		return half(r.driverFeatures, r.driverFeaturesSel)
	case queueSel:
		return r.queueSel
	case deviceStatus:
		return r.status
	}
	if r.queueSel != 0 {
		return 0 // no such queue
	}
	switch reg {
	case queueNumMax:
		return queueMax
	case queueNum:
		return r.queueNum
	case queueReady:
		if r.queueReady {
			return 1
		}
	case queueDescLow, queueDescHigh:
		return half(r.desc, uint32(reg-queueDescLow))
	case queueDriverLow, queueDriverHigh:
		return half(r.avail, uint32(reg-queueDriverLow))
	case queueDeviceLow, queueDeviceHigh:
		return half(r.used, uint32(reg-queueDeviceLow))
	}
	return 0
}

// store writes a register. The caller holds no lock.
func (d *device) store(reg register, v uint32) {
	switch reg {
	case queueNotify:
		d.notified()
	case deviceStatus:
		d.setStatus(v)
	case queueReady:
		d.setReady(v&1 != 0)
	default:
		d.mu.Lock()
		defer d.mu.Unlock()
		d.regs.store(reg, v)
	}
}

// store writes a register that has no side effects.
func (r *registers) store(reg register, v uint32) {
	switch reg {
	case deviceFeaturesSel:
		r.deviceFeaturesSel = v
	case driverFeaturesSel:
		r.driverFeaturesSel = v
	case driverFeatures:
		if r.status&statusFeaturesOK == 0 {
			setHalf(&r.driverFeatures, r.driverFeaturesSel, v)
		}
	case queueSel:
		r.queueSel = v
	}
	if r.queueSel != 0 || r.queueReady {
		return
	}
	switch reg {
	case queueNum:
		r.queueNum = v
	case queueDescLow, queueDescHigh:
		setHalf(&r.desc, uint32(reg-queueDescLow), v)
	case queueDriverLow, queueDriverHigh:
		setHalf(&r.avail, uint32(reg-queueDriverLow), v)
	case queueDeviceLow, queueDeviceHigh:
		setHalf(&r.used, uint32(reg-queueDeviceLow), v)
	}
}

// setStatus writes the device status: a step of the initialisation (§3.1.1), or 0 for a reset.
func (d *device) setStatus(v uint32) {
	if v == 0 {
		d.Reset()
		return
	}
	d.mu.Lock()
	r := &d.regs
	if r.status&statusFeaturesOK == 0 &&
		(r.driverFeatures&^d.features() != 0 || r.driverFeatures&transportFeatures != transportFeatures) {
		v &^= statusFeaturesOK
	}
	if v&statusFeaturesOK == 0 {
		v &^= statusDriverOK
	}
	r.status = v&statusDriver | r.status&statusNeedsReset
	d.mu.Unlock()
	d.notify()
}

// half returns the 32-bit half of v that sel selects, or 0 if sel is greater than 1.
func half(v uint64, sel uint32) uint32 {
	if sel > 1 {
		return 0
	}
	return uint32(v >> (32 * sel))
}

// setHalf replaces the half of v that sel selects. It has no effect if sel is greater than 1.
func setHalf(v *uint64, sel, to uint32) {
	if sel <= 1 {
		*v = *v&^(0xffff_ffff<<(32*sel)) | uint64(to)<<(32*sel)
	}
}

// loadConfig reads size bytes of the configuration space. Bytes beyond its end are zero.
func loadConfig(config []byte, off uint64, size int) uint64 {
	var data [8]byte
	if off < uint64(len(config)) {
		copy(data[:min(size, len(data))], config[off:])
	}
	return binary.LittleEndian.Uint64(data[:])
}
