package virtio

// commonField is a field of the common configuration structure. load is called with mu held, store
// with no lock held.
type commonField struct {
	size  int
	load  func(f *Function) uint32
	store func(f *Function, v uint32) // nil if the field is read-only
}

// commonSize excludes the fields of features that are not offered.
const commonSize = 0x38

// commonFields are the fields of virtio 1.2 §4.1.4.3, by offset. A driver accesses a 64-bit field
// by its halves (§4.1.3.1).
var commonFields = map[uint64]commonField{
	0x00: field(4, deviceFeaturesSel),
	0x04: field(4, deviceFeatures),
	0x08: field(4, driverFeaturesSel),
	0x0c: field(4, driverFeatures),
	0x10: {2, (*Function).configVector, (*Function).setConfigVector},
	0x12: constant(2, 1), // num_queues
	0x14: field(1, deviceStatus),
	0x15: constant(1, 0), // config_generation: the configuration does not change
	0x16: field(2, queueSel),
	0x18: field(2, queueNum),
	0x1a: {2, (*Function).queueVector, (*Function).setQueueVector},
	0x1c: {2, field(2, queueReady).load, (*Function).enableQueue},
	0x1e: constant(2, 0), // queue_notify_off
	0x20: field(4, queueDescLow),
	0x24: field(4, queueDescHigh),
	0x28: field(4, queueDriverLow),
	0x2c: field(4, queueDriverHigh),
	0x30: field(4, queueDeviceLow),
	0x34: field(4, queueDeviceHigh),
}

// field returns the field for a register that both transports have.
func field(size int, reg register) commonField {
	return commonField{
		size,
		func(f *Function) uint32 { return f.load(reg) },
		func(f *Function, v uint32) { f.store(reg, v) },
	}
}

func constant(size int, v uint32) commonField {
	return commonField{size: size, load: func(*Function) uint32 { return v }}
}

func (f *Function) loadCommon(off uint64, size int) uint32 {
	c := commonFields[off]
	if c.size != size {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return c.load(f)
}

func (f *Function) storeCommon(off uint64, size int, v uint32) {
	if c := commonFields[off]; c.size == size && c.store != nil {
		c.store(f, v)
	}
}

func (f *Function) configVector() uint32 { return uint32(f.messages.config) }

func (f *Function) setConfigVector(v uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	assign(&f.messages.config, v)
}

func (f *Function) queueVector() uint32 {
	if f.regs.queueSel != 0 {
		return noVector
	}
	return uint32(f.messages.queue)
}

func (f *Function) setQueueVector(v uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.regs.queueSel == 0 {
		assign(&f.messages.queue, v)
	}
}

// enableQueue puts the queue into service. Only a reset takes it out of service (§4.1.4.3.2).
func (f *Function) enableQueue(v uint32) {
	if v == 1 {
		f.setReady(true)
	}
}
