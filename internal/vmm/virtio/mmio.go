package virtio

import (
	"encoding/binary"
	"sync"
)

// Device is a virtio device on the MMIO transport (virtio 1.2 §4.2), version 2, with one virtqueue. Load and Store may be
// called from any vCPU's goroutine; requests are carried out there, one for a notification, and on the device's own.
type Device struct {
	model Model
	dma   DMA
	irq   func(level bool)
	waits bool          // DMA may wait for the guest
	kick  chan struct{} // holds at most one notification: the next look at the ring sees all there is
	quit  chan struct{}
	done  sync.WaitGroup

	// serving is held while one request is carried out, and by a reset, which must not return before the device has let go
	// of memory (§2.4). It is taken before mu.
	serving sync.Mutex
	ring    *ring // nil unless the queue is ready; guarded by serving

	mu       sync.Mutex
	regs     registers
	level    bool // what irq was last told
	breakage error
}

// registers is what a reset clears.
type registers struct {
	deviceFeaturesSel, driverFeaturesSel uint32
	driverFeatures                       uint64
	queueSel                             uint32
	queueNum                             uint32
	queueReady                           bool
	desc, avail, used                    uint64
	interrupts                           uint32
	status                               uint32
}

// Register offsets (§4.2.2).
const (
	regMagic             = 0x000
	regVersion           = 0x004
	regDeviceID          = 0x008
	regVendorID          = 0x00c
	regDeviceFeatures    = 0x010
	regDeviceFeaturesSel = 0x014
	regDriverFeatures    = 0x020
	regDriverFeaturesSel = 0x024
	regQueueSel          = 0x030
	regQueueNumMax       = 0x034
	regQueueNum          = 0x038
	regQueueReady        = 0x044
	regQueueNotify       = 0x050
	regInterruptStatus   = 0x060
	regInterruptACK      = 0x064
	regStatus            = 0x070
	regQueueDescLow      = 0x080
	regQueueDescHigh     = 0x084
	regQueueDriverLow    = 0x090
	regQueueDriverHigh   = 0x094
	regQueueDeviceLow    = 0x0a0
	regQueueDeviceHigh   = 0x0a4
	regSHMLenLow         = 0x0b0
	regSHMBaseHigh       = 0x0bc
	regConfig            = 0x100
)

const (
	magic    = 0x74726976 // "virt"
	version  = 2
	vendorID = 0x554d5356 // "VSMU"
	queueMax = 256
)

// Interrupt causes.
const (
	interruptUsed   = 1 << 0
	interruptConfig = 1 << 1
)

// Device status (§2.1).
const (
	statusDriverOK   = 1 << 2
	statusFeaturesOK = 1 << 3
	statusNeedsReset = 1 << 6
	statusDriver     = 0xbf // what a driver may set: all but DEVICE_NEEDS_RESET
)

// transportFeatures are VIRTIO_F_VERSION_1 and VIRTIO_F_ACCESS_PLATFORM. A driver that does not accept both cannot use the
// device: it would put bare physical addresses where an IOMMU translates.
const transportFeatures = 1<<32 | 1<<33

// NewDevice puts model behind MMIO registers. It runs until Close. DMA that waits for what the guest does, as stalled
// transactions do, is never made on a vCPU's goroutine.
func NewDevice(model Model, dma DMA, waits bool, irq func(level bool)) *Device {
	d := &Device{model: model, dma: dma, irq: irq, waits: waits, kick: make(chan struct{}, 1), quit: make(chan struct{})}
	d.done.Go(d.work)
	return d
}

// Close waits for the request under way and ends the device. It is called once.
func (d *Device) Close() {
	close(d.quit)
	d.done.Wait()
}

// Breakage is why the device last stopped until reset, nil if it never did.
func (d *Device) Breakage() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.breakage
}

// Load reads a register, all of which are 32 bits wide, or a piece of the configuration space.
func (d *Device) Load(off uint64, size int) uint64 {
	if off >= regConfig {
		return loadConfig(d.model.Config(), off-regConfig, size)
	}
	if size != 4 {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return uint64(d.load(off))
}

func (d *Device) load(off uint64) uint32 {
	r := &d.regs
	switch off {
	case regMagic:
		return magic
	case regVersion:
		return version
	case regDeviceID:
		return d.model.DeviceID()
	case regVendorID:
		return vendorID
	case regDeviceFeatures:
		return half(d.features(), r.deviceFeaturesSel)
	case regQueueNumMax:
		if r.queueSel == 0 {
			return queueMax
		}
	case regQueueReady:
		if r.queueSel == 0 && r.queueReady {
			return 1
		}
	case regInterruptStatus:
		return r.interrupts
	case regStatus:
		return r.status
	}
	if off >= regSHMLenLow && off <= regSHMBaseHigh {
		return ^uint32(0) // no shared memory region, whichever is selected
	}
	return 0
}

// Store writes a register. Nothing in the configuration space is writable.
func (d *Device) Store(off uint64, size int, value uint64) {
	if size != 4 {
		return
	}
	v := uint32(value)
	switch off {
	case regQueueNotify:
		d.notified()
	case regStatus:
		d.setStatus(v)
	case regQueueReady:
		d.setReady(v&1 != 0)
	default:
		d.mu.Lock()
		defer d.mu.Unlock()
		d.store(off, v)
	}
}

func (d *Device) store(off uint64, v uint32) {
	r := &d.regs
	switch off {
	case regDeviceFeaturesSel:
		r.deviceFeaturesSel = v
	case regDriverFeaturesSel:
		r.driverFeaturesSel = v
	case regDriverFeatures:
		if r.status&statusFeaturesOK == 0 {
			setHalf(&r.driverFeatures, r.driverFeaturesSel, v)
		}
	case regQueueSel:
		r.queueSel = v
	case regInterruptACK:
		r.interrupts &^= v
		d.updateIRQ()
	}
	if r.queueSel != 0 || r.queueReady {
		return
	}
	switch off {
	case regQueueNum:
		r.queueNum = v
	case regQueueDescLow, regQueueDescHigh:
		setHalf(&r.desc, uint32(off-regQueueDescLow)/4, v)
	case regQueueDriverLow, regQueueDriverHigh:
		setHalf(&r.avail, uint32(off-regQueueDriverLow)/4, v)
	case regQueueDeviceLow, regQueueDeviceHigh:
		setHalf(&r.used, uint32(off-regQueueDeviceLow)/4, v)
	}
}

func (d *Device) features() uint64 { return d.model.Features() | transportFeatures }

// setStatus takes a step of the initialisation (§3.1.1), or resets.
func (d *Device) setStatus(v uint32) {
	if v == 0 {
		d.Reset()
		return
	}
	d.mu.Lock()
	r := &d.regs
	if r.status&statusFeaturesOK == 0 && (r.driverFeatures&^d.features() != 0 || r.driverFeatures&transportFeatures != transportFeatures) {
		v &^= statusFeaturesOK
	}
	if v&statusFeaturesOK == 0 {
		v &^= statusDriverOK
	}
	r.status = v&statusDriver | r.status&statusNeedsReset
	d.mu.Unlock()
	d.notify()
}

// Reset puts the device into its reset state. It has let go of memory when Reset returns.
func (d *Device) Reset() {
	d.serving.Lock()
	defer d.serving.Unlock()
	d.ring = nil
	d.mu.Lock()
	defer d.mu.Unlock()
	d.regs = registers{}
	d.updateIRQ()
}

// setReady makes the queue that the registers describe the one to serve, or takes it out of service.
func (d *Device) setReady(ready bool) {
	d.serving.Lock()
	defer d.serving.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	r := &d.regs
	if r.queueSel != 0 || r.queueReady == ready {
		return
	}
	d.ring = nil
	if ready {
		var err error
		if d.ring, err = newRing(d.dma, r.queueNum, r.desc, r.avail, r.used); err != nil {
			d.breakDown(err)
			return
		}
	}
	r.queueReady = ready
}

// notified has one request carried out at once, on the vCPU's own thread, if nobody is at it already: to hand it over would
// take longer than most requests do. The worker does what else there is.
func (d *Device) notified() {
	if d.waits || !d.serving.TryLock() {
		d.notify()
		return
	}
	defer d.serving.Unlock()
	if d.serve() && d.ring.waiting() {
		d.notify()
	}
}

// notify makes the worker look at the ring.
func (d *Device) notify() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// work carries requests out until Close.
func (d *Device) work() {
	for {
		select {
		case <-d.quit:
			return
		case <-d.kick:
			// Between two requests, so that neither a driver that keeps them coming nor one that fell silent holds up Close.
			if d.serveOne() {
				d.notify()
			}
		}
	}
}

func (d *Device) serveOne() bool {
	d.serving.Lock()
	defer d.serving.Unlock()
	return d.serve()
}

// serve carries out the next request, and says whether there was one. The caller holds serving.
func (d *Device) serve() bool {
	if d.ring == nil || !d.running() {
		return false
	}
	req, ok, err := d.ring.pop()
	if err == nil && !ok {
		return false
	}
	interrupt := false
	if err == nil {
		var written uint32
		if written, err = d.model.Serve(req); err == nil {
			interrupt, err = d.ring.push(written)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.breakDown(err)
		return false
	}
	if interrupt {
		d.regs.interrupts |= interruptUsed
		d.updateIRQ()
	}
	return true
}

func (d *Device) running() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.regs.status&(statusDriverOK|statusNeedsReset) == statusDriverOK
}

// breakDown stops the device until the driver resets it (§2.1.2). The caller holds mu.
func (d *Device) breakDown(err error) {
	d.breakage = err
	d.regs.status |= statusNeedsReset
	if d.regs.status&statusDriverOK != 0 {
		d.regs.interrupts |= interruptConfig
		d.updateIRQ()
	}
}

// updateIRQ drives the interrupt, a level. The caller holds mu.
func (d *Device) updateIRQ() {
	if level := d.regs.interrupts != 0; level != d.level {
		d.level = level
		d.irq(level)
	}
}

// half is the 32-bit half of v that sel selects, 0 beyond.
func half(v uint64, sel uint32) uint32 {
	if sel > 1 {
		return 0
	}
	return uint32(v >> (32 * sel))
}

// setHalf replaces the half of v that sel selects, if there is one.
func setHalf(v *uint64, sel, to uint32) {
	if sel <= 1 {
		*v = *v&^(0xffff_ffff<<(32*sel)) | uint64(to)<<(32*sel)
	}
}

// loadConfig reads size bytes of the configuration space, zeros where it ends.
func loadConfig(config []byte, off uint64, size int) uint64 {
	var data [8]byte
	if off < uint64(len(config)) {
		copy(data[:min(size, len(data))], config[off:])
	}
	return binary.LittleEndian.Uint64(data[:])
}
