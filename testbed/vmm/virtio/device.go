package virtio

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/internal/nilcheck"
)

// device is a virtio device with one virtqueue, without its transport. A notification executes one
// request on the vCPU's goroutine. The device's own goroutine, the worker, executes the others.
type device struct {
	model     Model
	dma       DMA
	transport transport
	waits     bool          // DMA may wait for the guest
	kick      chan struct{} // wakes the worker; one signal is enough, since the worker looks at the whole ring
	quit      chan struct{}
	closed    atomic.Bool
	done      sync.WaitGroup

	// serving is held while a request is executed, and by a reset, which must not return while the
	// device accesses memory (§2.4). It is locked before mu.
	serving sync.Mutex
	ring    *ring // nil unless the queue is ready; guarded by serving

	mu       sync.Mutex
	regs     registers
	breakage error
}

// transport connects a device to its driver.
type transport interface {
	// enabled reports whether the device may access memory. The caller holds mu.
	enabled() bool
	// raise records a cause of an interrupt. The caller holds mu.
	raise(cause uint32)
	// deliver sends the interrupts that are DMA. The caller holds serving, and not mu.
	deliver()
	// clear resets the transport's state. The caller holds mu.
	clear()
}

// Causes of an interrupt: bits of a register of either transport (§4.1.4.5, §4.2.2).
const (
	interruptUsed   = 1 << 0
	interruptConfig = 1 << 1
)

// start initialises the device and starts its worker, which runs until Close. It fails, without a
// worker, if model or dma is nil.
func (d *device) start(model Model, dma DMA, waits bool, t transport) error {
	switch {
	case nilcheck.IsNil(model):
		return errors.New("no model")
	case nilcheck.IsNil(dma):
		return errors.New("no DMA")
	}
	d.model, d.dma, d.waits, d.transport = model, dma, waits, t
	d.kick, d.quit = make(chan struct{}, 1), make(chan struct{})
	d.regs = resetRegisters
	d.done.Go(d.work)
	return nil
}

// Close stops the worker, and waits for the request that the worker is executing. The vCPUs must
// have stopped: a notification would still execute a request. A later Close has no effect and
// returns an error that matches bridge.ErrClosed.
func (d *device) Close() error {
	if d.closed.Swap(true) {
		return fmt.Errorf("virtio: close device: %w", bridge.ErrClosed)
	}
	close(d.quit)
	d.done.Wait()
	return nil
}

// Breakage returns the error for which the device last set DEVICE_NEEDS_RESET, or nil.
func (d *device) Breakage() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.breakage
}

// Reset puts the device into its reset state. When it returns, the device accesses no memory.
func (d *device) Reset() {
	d.serving.Lock()
	defer d.serving.Unlock()
	d.ring = nil
	d.mu.Lock()
	defer d.mu.Unlock()
	d.regs = resetRegisters
	d.transport.clear()
}

// setReady puts the queue that the registers describe into service, or takes it out of service.
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

// notified executes one request on the vCPU's goroutine, unless one is being executed already.
// Waking the worker takes longer than most requests. The worker executes further requests.
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

// notify wakes the worker, which looks at the ring and delivers interrupts.
func (d *device) notify() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// work executes requests until Close.
func (d *device) work() {
	for {
		select {
		case <-d.quit:
			return
		case <-d.kick:
			// Close waits for one request at most, for any number of requests that a driver makes
			// available.
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

// serve executes the next request. It reports whether there was one. The caller holds serving.
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

// breakDown records err and sets DEVICE_NEEDS_RESET (§2.1.2). The caller holds mu.
func (d *device) breakDown(err error) {
	d.breakage = err
	d.regs.status |= statusNeedsReset
	if d.regs.status&statusDriverOK != 0 {
		d.transport.raise(interruptConfig)
		d.notify() // a caller that does not hold serving cannot deliver
	}
}
