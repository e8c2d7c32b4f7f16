package virtio

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

// pciDriver is the driver of a function under test, device 1 of a bus. Offsets and values in its
// methods, and in the tests that use it, are literals from virtio 1.2 §4.1 and the PCI Express Base
// Specification §7.5 and §7.7.2. The offsets of structures are those of this function.
type pciDriver struct {
	t      testing.TB
	f      *Function
	mem    *memory
	host   *pci.Host
	window pci.Memory
	stop   func() // ends the device's worker, which step then replaces
}

const barAt = 0x1000_0000

// Addresses of the messages of each vector.
const (
	message0 = 0x3_0000
	message1 = 0x3_0010
)

func newPCIDriver(t testing.TB, model Model) *pciDriver {
	d := &pciDriver{t: t, mem: newMemory()}
	e, ok := model.(*echo)
	var err error
	d.f, err = NewFunction(model, d.mem, ok && e.hold != nil, 6)
	require.NoError(t, err)
	d.stop = func() { _ = d.f.Close() }
	t.Cleanup(d.stop)
	w := pci.Window{Base: barAt, Size: 1 << 20}
	d.host, err = pci.NewHost(1, w)
	require.NoError(t, err)
	require.NoError(t, d.host.Add(1, false, d.f, d.f.Connect))
	d.window = d.host.Memory(w)
	return d
}

func (d *pciDriver) config(off uint64, size int) uint64 { return d.host.ECAM().Load(1<<15+off, size) }
func (d *pciDriver) setConfig(off uint64, size int, v uint64) {
	d.host.ECAM().Store(1<<15+off, size, v)
}
func (d *pciDriver) load(off uint64, size int) uint64     { return d.window.Load(off, size) }
func (d *pciDriver) store(off uint64, size int, v uint64) { d.window.Store(off, size, v) }
func (d *pciDriver) command(v uint64)                     { d.setConfig(0x04, 2, v) }
func (d *pciDriver) status(v uint64)                      { d.store(0x14, 1, v) }
func (d *pciDriver) notify()                              { d.store(0x3000, 2, 0) }
func (d *pciDriver) mask(vector, v uint64)                { d.store(0x400c+16*vector, 4, v) }

// place maps BAR 0 at barAt, and enables memory decoding and bus mastering.
func (d *pciDriver) place() {
	d.setConfig(0x10, 4, barAt)
	d.command(6)
}

// enableMSIX enables MSI-X, with a message for each vector.
func (d *pciDriver) enableMSIX() {
	for vector, addr := range []uint64{message0, message1} {
		entry := 0x4000 + 16*uint64(vector)
		d.store(entry, 4, addr)
		d.store(entry+4, 4, 0)
		d.store(entry+8, 4, 0x51+uint64(vector))
		d.store(entry+12, 4, 0)
	}
	d.setConfig(0x42, 2, 0x8000)
}

// negotiate initialises the device up to FEATURES_OK.
func (d *pciDriver) negotiate() {
	d.status(1)
	d.status(3)
	for half, bits := range []uint64{0, 3} { // VERSION_1 and ACCESS_PLATFORM
		d.store(0x08, 4, uint64(half))
		d.store(0x0c, 4, bits)
	}
	d.status(0xb)
	require.EqualValues(d.t, 0xb, d.load(0x14, 1), "FEATURES_OK")
}

// setQueue sets up the queue, and maps configuration changes to vector 0 and the queue to vector 1.
func (d *pciDriver) setQueue(size uint64) {
	d.store(0x10, 2, 0)
	d.store(0x16, 2, 0)
	d.store(0x18, 2, size)
	d.store(0x1a, 2, 1)
	for at, addr := range map[uint64]uint64{0x20: descAt, 0x28: availAt, 0x30: usedAt} {
		d.store(at, 4, addr)
		d.store(at+4, 4, 0)
	}
	d.store(0x1c, 2, 1)
}

// start initialises the device (§3.1.1, §4.1.5.1) with a queue of the given size.
func (d *pciDriver) start(size uint64) {
	d.place()
	d.enableMSIX()
	d.negotiate()
	d.setQueue(size)
	require.EqualValues(d.t, 1, d.load(0x1c, 2), "queue_enable")
	d.status(0xf)
}

// offer makes request number n available in a ring of 8, and notifies the device.
func (d *pciDriver) offer(n int) {
	d.mem.putDesc(0, desc{addr: dataAt, len: 16})
	d.mem.offer(n, 8, 0)
	d.notify()
}

// step does one round of the worker, and reports whether a notification was left for it.
func (d *pciDriver) step() bool {
	select {
	case <-d.f.kick:
		d.f.serveOne()
		return true
	default:
		return false
	}
}

// settle ends the worker, and does the rounds that are left for it.
func (d *pciDriver) settle() {
	d.stop()
	for d.step() {
	}
}

// wait waits for the device to make a condition true.
func (d *pciDriver) wait(until func() bool) {
	for !until() {
		runtime.Gosched()
	}
}

func (d *pciDriver) waitMessage(addr uint64, data uint32) {
	d.wait(func() bool { return d.mem.get32(addr) == data })
}
