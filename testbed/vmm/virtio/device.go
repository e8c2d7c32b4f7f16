package virtio

import "sync"

// device is a virtio device with one virtqueue, whatever transport its registers are reached by. Requests are carried out on
// the vCPU's goroutine, one for a notification, and on the device's own.
type device struct {
	model     Model
	dma       DMA
	transport transport
	waits     bool          // DMA may wait for the guest
	kick      chan struct{} // holds at most one notification: the next look at the ring sees all there is
	quit      chan struct{}
	done      sync.WaitGroup

	// serving is held while one request is carried out, and by a reset, which must not return before the device has let go
	// of memory (§2.4). It is taken before mu.
	serving sync.Mutex
	ring    *ring // nil unless the queue is ready; guarded by serving

	mu       sync.Mutex
	regs     registers
	breakage error
}

// transport is what a device needs of its own.
type transport interface {
	// enabled says whether the device may reach memory. The caller holds mu.
	enabled() bool
	// raise notes why the driver is to be interrupted. The caller holds mu.
	raise(cause uint32)
	// deliver sends interrupts that are DMA. The caller holds serving, and not mu.
	deliver()
	// clear forgets, in a reset, what is the transport's. The caller holds mu.
	clear()
}

// Causes of an interrupt, as both transports have them in a register (§4.1.4.5, §4.2.2).
const (
	interruptUsed   = 1 << 0
	interruptConfig = 1 << 1
)

// start makes the device one of the transport's. It runs until Close.
func (d *device) start(model Model, dma DMA, waits bool, t transport) {
	d.model, d.dma, d.waits, d.transport = model, dma, waits, t
	d.kick, d.quit = make(chan struct{}, 1), make(chan struct{})
	d.regs = resetRegisters
	d.done.Go(d.work)
}

// Close waits for the request under way and ends the device. It is called once.
func (d *device) Close() {
	close(d.quit)
	d.done.Wait()
}

// Breakage is why the device last stopped until reset, nil if it never did.
func (d *device) Breakage() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.breakage
}

// Reset puts the device into its reset state. It has let go of memory when Reset returns.
func (d *device) Reset() {
	d.serving.Lock()
	defer d.serving.Unlock()
	d.ring = nil
	d.mu.Lock()
	defer d.mu.Unlock()
	d.regs = resetRegisters
	d.transport.clear()
}

// setReady makes the queue that the registers describe the one to serve, or takes it out of service.
func (d *device) setReady(ready bool) {
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
func (d *device) notified() {
	if d.waits || !d.serving.TryLock() {
		d.notify()
		return
	}
	defer d.serving.Unlock()
	if d.serve() && d.ring.waiting() {
		d.notify()
	}
}

// notify makes the worker look at the ring, and at what is to be delivered.
func (d *device) notify() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// work carries requests out until Close.
func (d *device) work() {
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

func (d *device) serveOne() bool {
	d.serving.Lock()
	defer d.serving.Unlock()
	return d.serve()
}

// serve carries out the next request, and says whether there was one. The caller holds serving.
func (d *device) serve() bool {
	defer d.transport.deliver()
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
		d.transport.raise(interruptUsed)
	}
	return true
}

func (d *device) running() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.regs.status&(statusDriverOK|statusNeedsReset) == statusDriverOK && d.transport.enabled()
}

// breakDown stops the device until the driver resets it (§2.1.2). The caller holds mu.
func (d *device) breakDown(err error) {
	d.breakage = err
	d.regs.status |= statusNeedsReset
	if d.regs.status&statusDriverOK != 0 {
		d.transport.raise(interruptConfig)
		d.notify() // the caller may be no one who delivers
	}
}
