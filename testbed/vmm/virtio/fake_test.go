package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Addresses of the rings and buffers of the tests' driver.
const (
	descAt  = 0x1000
	availAt = 0x2000
	usedAt  = 0x3000
	dataAt  = 0x4000
	memSize = 0x40000
)

var errFault = errors.New("translation fault")

// memory is a DMA that fails from the address broken on, and logs its accesses.
type memory struct {
	mu     sync.Mutex
	bytes  [memSize]byte
	broken uint64
	log    []string
}

func newMemory() *memory { return &memory{broken: memSize} }

func (m *memory) at(p []byte, addr uint64) ([]byte, error) {
	if addr > m.broken || uint64(len(p)) > m.broken-addr {
		return nil, fmt.Errorf("%d bytes at %#x: %w", len(p), addr, errFault)
	}
	return m.bytes[addr:], nil
}

func (m *memory) ReadAt(p []byte, addr uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	src, err := m.at(p, addr)
	copy(p, src)
	m.log = append(m.log, fmt.Sprintf("read %d at %#x", len(p), addr))
	return err
}

func (m *memory) WriteAt(p []byte, addr uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dst, err := m.at(p, addr)
	copy(dst, p)
	m.log = append(m.log, fmt.Sprintf("write %d at %#x", len(p), addr))
	return err
}

func (m *memory) breakAt(addr uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = addr
}

func (m *memory) put16(addr uint64, v uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	binary.LittleEndian.PutUint16(m.bytes[addr:], v)
}

func (m *memory) get16(addr uint64) uint16 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return binary.LittleEndian.Uint16(m.bytes[addr:])
}

func (m *memory) get32(addr uint64) uint32 {
	return uint32(m.get16(addr)) | uint32(m.get16(addr+2))<<16
}

func (m *memory) put(addr uint64, p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	copy(m.bytes[addr:], p)
}

func (m *memory) get(addr uint64, n int) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]byte(nil), m.bytes[addr:][:n]...)
}

// accesses returns the first n entries of the log.
func (m *memory) accesses(n int) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.log[:min(n, len(m.log))]...)
}

// desc is a descriptor.
type desc struct {
	addr  uint64
	len   uint32
	flags uint16
	next  uint16
}

func (m *memory) putDesc(index int, d desc) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[0:], d.addr)
	binary.LittleEndian.PutUint32(b[8:], d.len)
	binary.LittleEndian.PutUint16(b[12:], d.flags)
	binary.LittleEndian.PutUint16(b[14:], d.next)
	m.put(descAt+16*uint64(index), b[:])
}

// chain writes a chain of descriptors to the start of the table.
func (m *memory) chain(descs ...desc) {
	for i, d := range descs {
		if i < len(descs)-1 {
			d.flags |= 1
			d.next = uint16(i + 1)
		}
		m.putDesc(i, d)
	}
}

// offer makes the chain at head available, as request number n of a ring of size.
func (m *memory) offer(n, size int, head uint16) {
	m.put16(availAt+4+2*uint64(n%size), head)
	m.put16(availAt+2, uint16(n+1))
}

// driver is the driver of a device under test.
type driver struct {
	t   *testing.T
	dev *MMIO
	mem *memory

	mu    sync.Mutex
	cond  sync.Cond
	level bool
}

func newDriver(t *testing.T, model Model) *driver {
	return newDriverOver(t, model, func(m *memory) DMA { return m })
}

// newDriverOver returns a driver of a device. dma returns the device's DMA.
func newDriverOver(t *testing.T, model Model, dma func(m *memory) DMA) *driver {
	d := &driver{t: t, mem: newMemory()}
	d.cond.L = &d.mu
	e, ok := model.(*echo)
	var err error
	d.dev, err = NewMMIO(model, dma(d.mem), ok && e.hold != nil, d.irq)
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.dev.Close() })
	return d
}

func (d *driver) irq(level bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.level = level
	d.cond.Broadcast()
}

// waitIRQ waits for the interrupt, acknowledges it, and returns its causes.
func (d *driver) waitIRQ() uint64 {
	d.mu.Lock()
	for !d.level {
		d.cond.Wait()
	}
	d.mu.Unlock()
	causes := d.load(0x60)
	d.store(0x64, causes)
	return causes
}

func (d *driver) load(off uint64) uint64  { return d.dev.Load(off, 4) }
func (d *driver) store(off, value uint64) { d.dev.Store(off, 4, value) }
func (d *driver) acknowledgeAndDriver()   { d.store(0x70, 1); d.store(0x70, 3) }
func (d *driver) acceptFeatures(bits uint64) {
	d.store(0x24, 0)
	d.store(0x20, bits&0xffff_ffff)
	d.store(0x24, 1)
	d.store(0x20, bits>>32)
}

const goodFeatures = 3 << 32

func (d *driver) setQueue(size uint64) {
	d.store(0x30, 0)
	d.store(0x38, size)
	for off, v := range map[uint64]uint64{0x80: descAt, 0x90: availAt, 0xa0: usedAt, 0x84: 0, 0x94: 0, 0xa4: 0} {
		d.store(off, v)
	}
	d.store(0x44, 1)
}

// start initialises the device (virtio 1.2 §3.1.1) with a queue of the given size.
func (d *driver) start(size uint64) {
	d.acknowledgeAndDriver()
	d.acceptFeatures(goodFeatures)
	d.store(0x70, 0xb)
	require.EqualValues(d.t, 0xb, d.load(0x70), "FEATURES_OK")
	d.setQueue(size)
	require.EqualValues(d.t, 1, d.load(0x44), "QueueReady")
	d.store(0x70, 0xf)
}

// echo is a model that writes nothing and records its requests.
type echo struct {
	mu       sync.Mutex
	requests []Request
	err      error
	hold     chan struct{} // unless nil, Serve waits for it, and the device is created with waits
}

func (e *echo) DeviceID() uint32 { return 42 }
func (e *echo) Features() uint64 { return 1<<5 | 1<<40 }
func (e *echo) Config() []byte   { return []byte{1, 2, 3, 4, 5, 6, 7, 8, 9} }

func (e *echo) Serve(req Request) (uint32, error) {
	if e.hold != nil {
		<-e.hold
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	// The request is valid until Serve returns.
	req.Readable = append(Segments(nil), req.Readable...)
	req.Writable = append(Segments(nil), req.Writable...)
	e.requests = append(e.requests, req)
	return 7, e.err
}

func (e *echo) served() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.requests)
}
