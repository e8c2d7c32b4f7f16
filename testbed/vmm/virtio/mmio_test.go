package virtio

import (
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
)

// Offsets and values in these tests are literals from virtio 1.2 §4.2.2 and §2.1.

func TestRegistersAtReset(t *testing.T) {
	d := newDriver(t, &echo{})
	for _, tt := range []struct {
		name      string
		off, want uint64
	}{
		{"MagicValue", 0x000, 0x74726976},
		{"Version", 0x004, 2},
		{"DeviceID", 0x008, 42},
		{"DeviceFeatures, low", 0x010, 1 << 5},
		{"QueueNumMax", 0x034, 256},
		{"QueueReady", 0x044, 0},
		{"InterruptStatus", 0x060, 0},
		{"Status", 0x070, 0},
		{"SHMLenLow", 0x0b0, 0xffff_ffff},
		{"SHMLenHigh", 0x0b4, 0xffff_ffff},
		{"ConfigGeneration", 0x0fc, 0},
		{"QueueNotify is write-only", 0x050, 0},
		{"reserved", 0x0f0, 0},
		{"beyond the registers", 0xffff_ffff_ffff_fffc, 0},
	} {
		assert.Equal(t, tt.want, d.load(tt.off), tt.name)
	}
	d.store(0x14, 1)
	assert.EqualValues(t, 1<<8|3, d.load(0x10), "DeviceFeatures, high: the model's, VERSION_1 and ACCESS_PLATFORM")
	d.store(0x14, 2)
	assert.Zero(t, d.load(0x10), "no feature is above 63")
	d.store(0x30, 1)
	assert.Zero(t, d.load(0x34), "QueueNumMax of a queue that does not exist")
}

func TestConfigurationSpaceCanBeReadInAnySize(t *testing.T) {
	d := newDriver(t, &echo{})
	assert.EqualValues(t, 0x01, d.dev.Load(0x100, 1))
	assert.EqualValues(t, 0x0403, d.dev.Load(0x102, 2))
	assert.EqualValues(t, 0x0807060504030201, d.dev.Load(0x100, 8))
	assert.EqualValues(t, 0x09, d.dev.Load(0x108, 4), "zero beyond its end")
	assert.Zero(t, d.dev.Load(0x109, 4))
	d.store(0x100, 0xff)
	assert.EqualValues(t, 0x01, d.dev.Load(0x100, 1), "read-only")
}

func TestAccessesOfOtherSizesThan32BitsHaveNoEffect(t *testing.T) {
	d := newDriver(t, &echo{})
	for _, size := range []int{1, 2, 8} {
		assert.Zero(t, d.dev.Load(0, size))
		d.dev.Store(0x70, size, 1)
	}
	assert.Zero(t, d.load(0x70))
}

func TestFEATURES_OKNeedsTheTransportFeaturesAndNoOthersThanOffered(t *testing.T) {
	for _, tt := range []struct {
		name     string
		features uint64
		ok       bool
	}{
		{"the transport features", 3 << 32, true},
		{"and the model's", 3<<32 | 1<<5, true},
		{"none", 0, false},
		{"without ACCESS_PLATFORM", 1 << 32, false},
		{"without VERSION_1", 2 << 32, false},
		{"one that is not offered", 3<<32 | 1<<6, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDriver(t, &echo{})
			d.acknowledgeAndDriver()
			d.acceptFeatures(tt.features)
			d.store(0x70, 0xf)
			want := uint64(0x3)
			if tt.ok {
				want = 0xf
			}
			assert.Equal(t, want, d.load(0x70), "no DRIVER_OK without FEATURES_OK")
		})
	}
}

func TestFeaturesAreFixedAfterFEATURES_OK(t *testing.T) {
	d := newDriver(t, &echo{})
	d.start(8)
	d.acceptFeatures(1 << 50)
	d.store(0x70, 0xf)
	assert.EqualValues(t, 0xf, d.load(0x70))
}

func TestRequestIsExecutedAndReturned(t *testing.T) {
	model := &echo{}
	d := newDriver(t, model)
	d.mem.chain(desc{addr: 0x4000, len: 16}, desc{addr: 0x5000, len: 0x1000}, desc{addr: 0x6000, len: 1, flags: 2})
	d.mem.offer(0, 8, 0)
	d.start(8)
	d.store(0x50, 0)
	assert.EqualValues(t, 1, d.waitIRQ(), "used buffer notification")

	require.Equal(t, 1, model.served())
	assert.Equal(t, Segments{{0x4000, 16}, {0x5000, 0x1000}}, model.requests[0].Readable)
	assert.Equal(t, Segments{{0x6000, 1}}, model.requests[0].Writable)
	assert.EqualValues(t, 1, d.mem.get16(usedAt+2), "used idx")
	assert.EqualValues(t, 0, d.mem.get32(usedAt+4), "used elem: id")
	assert.EqualValues(t, 7, d.mem.get32(usedAt+8), "used elem: len")
	assert.Zero(t, d.load(0x60), "acknowledged")
}

// The worker is closed, so that only the notification's own goroutine executes requests.
func TestNotificationExecutesOneRequestBeforeItReturns(t *testing.T) {
	model := &echo{}
	d := newDriver(t, model)
	d.start(8)
	require.NoError(t, d.dev.Close())
	d.mem.chain(desc{addr: 0x4000, len: 16})
	for i := range 3 {
		d.mem.offer(i, 8, 0)
	}
	d.store(0x50, 0)
	assert.Equal(t, 1, model.served())
}

func TestWorkerExecutesTheRequestsThatANotificationLeaves(t *testing.T) {
	model := &echo{}
	d := newDriver(t, model)
	d.start(8)
	d.mem.chain(desc{addr: 0x4000, len: 16})
	for i := range 3 {
		d.mem.offer(i, 8, 0)
	}
	d.store(0x50, 0)
	for model.served() < 3 {
		runtime.Gosched()
	}
}

func TestNotificationDoesNotWaitForDMAThatWaitsForTheGuest(t *testing.T) {
	model := &echo{hold: make(chan struct{})}
	d := newDriver(t, model)
	d.mem.chain(desc{addr: 0x4000, len: 16})
	d.start(8)
	d.mem.offer(0, 8, 0)
	d.store(0x50, 0)
	assert.Zero(t, model.served())
	close(model.hold)
	d.waitIRQ()
	assert.Equal(t, 1, model.served())
}

// The driver may read the used idx at any time: the element is written before it (§2.7.8).
func TestRingAccessesHaveTheSizeAndOrderOf_2_7_8(t *testing.T) {
	d := newDriver(t, &echo{})
	d.mem.chain(desc{addr: 0x4000, len: 1})
	d.mem.offer(0, 8, 0)
	d.start(8)
	d.waitIRQ()
	assert.Equal(t, []string{
		"read 2 at 0x2002",  // avail.idx
		"read 2 at 0x2004",  // avail.ring[0]
		"read 16 at 0x1000", // desc[0]
		"write 8 at 0x3004", // used.ring[0]
		"write 2 at 0x3002", // used.idx
		"read 2 at 0x2000",  // avail.flags
	}, d.mem.accesses(6))
}

func TestRingIndicesWrap(t *testing.T) {
	model := &echo{}
	d := newDriver(t, model)
	d.start(4)
	for n := range 10 {
		head := uint16(n % 4)
		d.mem.putDesc(int(head), desc{addr: 0x4000 + uint64(n), len: 1})
		d.mem.offer(n, 4, head)
		d.store(0x50, 0)
		d.waitIRQ()
		assert.EqualValues(t, n+1, d.mem.get16(usedAt+2))
		assert.EqualValues(t, head, d.mem.get32(usedAt+4+8*uint64(n%4)))
	}
	assert.Equal(t, Segments{{0x4009, 1}}, model.requests[9].Readable)
}

func TestVIRTQ_AVAIL_F_NO_INTERRUPTSuppressesTheInterrupt(t *testing.T) {
	model := &echo{hold: make(chan struct{})}
	d := newDriver(t, model)
	d.mem.put16(availAt, 1) // VIRTQ_AVAIL_F_NO_INTERRUPT
	d.mem.chain(desc{addr: 0x4000, len: 1})
	d.mem.offer(0, 8, 0)
	d.start(8)
	model.hold <- struct{}{}
	d.dev.serving.Lock() // waits for the request
	defer d.dev.serving.Unlock()
	assert.EqualValues(t, 1, d.mem.get16(usedAt+2))
	assert.Zero(t, d.load(0x60))
}

// The device sets DEVICE_NEEDS_RESET and sends a configuration change notification (§2.1.2).
func TestHostileRingStopsItsDeviceUntilReset(t *testing.T) {
	loop := desc{addr: 0x4000, len: 1, flags: 1, next: 0}
	for _, tt := range []struct {
		name  string
		setup func(m *memory)
		is    error
	}{
		{"head beyond the table", func(m *memory) { m.offer(0, 8, 8) }, errRing},
		{"head 0xffff", func(m *memory) { m.offer(0, 8, 0xffff) }, errRing},
		{"next beyond the table", func(m *memory) { m.putDesc(0, desc{0x4000, 1, 1, 9}) }, errRing},
		{"descriptor that is its own successor", func(m *memory) { m.putDesc(0, loop) }, errRing},
		{"chain with a loop", func(m *memory) {
			for i := range 8 {
				m.putDesc(i, desc{0x4000, 1, 1, uint16(i+1) % 8})
			}
		}, errRing},
		{"readable after writable", func(m *memory) { m.chain(desc{0x4000, 1, 2, 0}, desc{0x5000, 1, 0, 0}) }, errRing},
		{"indirect", func(m *memory) { m.putDesc(0, desc{0x4000, 16, 4, 0}) }, errRing},
		{"segment past the end of the address space", func(m *memory) { m.putDesc(0, desc{^uint64(0), 2, 0, 0}) }, errRing},
		{"more requests than descriptors", func(m *memory) { m.put16(availAt+2, 9) }, errRing},
		{"available idx that decreases", func(m *memory) { m.put16(availAt+2, 0xffff) }, errRing},
		{"available ring unmapped", func(m *memory) { m.breakAt(availAt) }, errFault},
		{"available entry unmapped", func(m *memory) { m.breakAt(availAt + 4) }, errFault},
		{"used ring unmapped", func(m *memory) { m.breakAt(usedAt) }, errFault},
		{"used element unmapped in part", func(m *memory) { m.breakAt(usedAt + 8) }, errFault},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDriver(t, &echo{})
			d.mem.chain(desc{addr: 0x4000, len: 1})
			d.mem.offer(0, 8, 0)
			tt.setup(d.mem)
			d.start(8)
			d.store(0x50, 0)
			assert.EqualValues(t, 2, d.waitIRQ(), "configuration change notification")
			assert.EqualValues(t, 0x4f, d.load(0x70), "DEVICE_NEEDS_RESET")
			assert.ErrorIs(t, d.dev.Breakage(), tt.is)

			d.store(0x70, 0xf)
			assert.EqualValues(t, 0x4f, d.load(0x70), "cleared by a reset only")

			d.store(0x70, 0)
			assert.Zero(t, d.load(0x70))
			d.mem.breakAt(memSize)
			d.mem.chain(desc{addr: 0x4000, len: 1})
			d.mem.offer(0, 8, 0)
			d.start(8)
			assert.EqualValues(t, 1, d.waitIRQ(), "works again after a reset")
		})
	}
}

func TestQueueWithBadSizeOrAddressesIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		size uint64
		desc uint64
		off  uint64
		low  uint64
		high uint64
	}{
		{name: "size 0", size: 0, off: 0x80, low: descAt},
		{name: "size not a power of 2", size: 3, off: 0x80, low: descAt},
		{name: "size too large", size: 512, off: 0x80, low: descAt},
		{name: "greatest size", size: 1 << 31, off: 0x80, low: descAt},
		{name: "table misaligned", size: 8, off: 0x80, low: descAt + 8},
		{name: "available ring misaligned", size: 8, off: 0x90, low: availAt + 1},
		{name: "used ring misaligned", size: 8, off: 0xa0, low: usedAt + 2},
		{name: "table past the end of the address space", size: 8, off: 0x80, low: 0xffff_fff0, high: 0xffff_ffff},
		{name: "used ring past the end of the address space", size: 8, off: 0xa0, low: 0xffff_fffc, high: 0xffff_ffff},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDriver(t, &echo{})
			d.acknowledgeAndDriver()
			d.acceptFeatures(goodFeatures)
			d.store(0x70, 0xb)
			d.store(0x38, tt.size)
			d.store(0x90, availAt)
			d.store(0xa0, usedAt)
			d.store(0x80, descAt)
			d.store(tt.off, tt.low)
			d.store(tt.off+4, tt.high)
			d.store(0x44, 1)
			assert.Zero(t, d.load(0x44), "QueueReady")
			assert.EqualValues(t, 0x4b, d.load(0x70), "DEVICE_NEEDS_RESET")
			assert.ErrorIs(t, d.dev.Breakage(), errRing)
			d.store(0x70, 0x4f)
			d.store(0x50, 0)
			assert.EqualValues(t, 0x4f, d.load(0x70))
		})
	}
}

func TestQueueRegistersAreFixedWhileQueueReady(t *testing.T) {
	d := newDriver(t, &echo{})
	d.start(8)
	d.store(0x80, 0xdead_0000)
	d.store(0x38, 16)
	d.mem.chain(desc{addr: 0x4000, len: 1})
	d.mem.offer(0, 8, 0)
	d.store(0x50, 0)
	assert.EqualValues(t, 1, d.waitIRQ())
	d.store(0x44, 0)
	assert.Zero(t, d.load(0x44))
	d.mem.offer(1, 8, 0)
	d.store(0x50, 0)
	d.dev.serving.Lock()
	defer d.dev.serving.Unlock()
	assert.EqualValues(t, 0xf, d.load(0x70))
	assert.EqualValues(t, 1, d.mem.get16(usedAt+2), "not QueueReady: not served")
}

// The interrupt is a level (§4.2.2).
func TestInterruptIsHighWhileInterruptStatusIsNotZero(t *testing.T) {
	for _, tt := range []struct {
		name string
		off  uint64
	}{{"acknowledged", 0x64}, {"reset", 0x70}} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDriver(t, &echo{})
			d.mem.chain(desc{addr: 0x4000, len: 1})
			d.mem.offer(0, 8, 0)
			d.start(8)
			d.mu.Lock()
			for !d.level {
				d.cond.Wait()
			}
			d.mu.Unlock()
			d.store(0x64, 2)
			assert.True(t, d.level, "acknowledgement of another cause")
			d.store(tt.off, uint64(map[uint64]int{0x64: 1, 0x70: 0}[tt.off]))
			assert.False(t, d.level)
		})
	}
}

func TestResetTakesTheQueueOutOfService(t *testing.T) {
	model := &echo{}
	d := newDriver(t, model)
	d.start(8)
	d.store(0x70, 0)
	d.acknowledgeAndDriver()
	d.acceptFeatures(goodFeatures)
	d.store(0x70, 0xf)
	d.mem.chain(desc{addr: 0x4000, len: 1})
	d.mem.offer(0, 8, 0)
	d.store(0x50, 0)
	d.dev.serving.Lock()
	defer d.dev.serving.Unlock()
	assert.Zero(t, model.served())
	assert.EqualValues(t, 0xf, d.load(0x70))
}

func TestAllDescriptorsOfARingCanBeAvailable(t *testing.T) {
	model := &echo{}
	d := newDriver(t, model)
	d.mem.putDesc(0, desc{addr: 0xffff_ffff_ffff_fff0, len: 16}) // up to the end of the address space
	for n := range 8 {
		d.mem.offer(n, 8, 0)
	}
	d.start(8)
	for model.served() < 8 {
		require.NoError(t, d.dev.Breakage())
		runtime.Gosched()
	}
}

// The parts of a queue may reach the end of the address space, to the last byte (§2.7).
func TestLegalQueuesAtTheirBounds(t *testing.T) {
	for _, tt := range []struct {
		name              string
		size              uint32
		desc, avail, used uint64
	}{
		{"one descriptor", 1, descAt, availAt, usedAt},
		{"the greatest size", 256, descAt, availAt, usedAt},
		{"at address 0", 8, 0, 0, 0},
		{"table at the end of the address space", 8, 0xffff_ffff_ffff_ff80, availAt, usedAt},
		{"available ring at the end", 8, descAt, 0xffff_ffff_ffff_ffec, usedAt},
		{"used ring at the end", 8, descAt, availAt, 0xffff_ffff_ffff_ffbc},
	} {
		_, err := newRing(newMemory(), tt.size, tt.desc, tt.avail, tt.used)
		assert.NoError(t, err, tt.name)
	}
}

func TestErrorOfServeStopsTheDeviceUntilReset(t *testing.T) {
	gone := errors.New("gone")
	d := newDriver(t, &echo{err: gone})
	d.mem.chain(desc{addr: 0x4000, len: 1})
	d.mem.offer(0, 8, 0)
	d.start(8)
	assert.EqualValues(t, 2, d.waitIRQ())
	assert.ErrorIs(t, d.dev.Breakage(), gone)
	assert.Zero(t, d.mem.get16(usedAt+2), "the request is not returned")
}

// The driver reuses its memory after a reset (§2.4.1).
func TestResetWaitsForTheRequestThatIsBeingExecuted(t *testing.T) {
	model := &echo{hold: make(chan struct{})}
	d := newDriver(t, model)
	for i := range 2 {
		d.mem.putDesc(i, desc{addr: 0x4000, len: 1})
		d.mem.offer(i, 8, uint16(i))
	}
	d.start(8)
	model.hold <- struct{}{} // the first is executed, the second may have begun
	reset := make(chan struct{})
	go func() {
		defer close(reset)
		d.store(0x70, 0)
		d.mem.breakAt(0) // the driver reuses its memory
	}()
	select {
	case <-reset:
	case model.hold <- struct{}{}:
		<-reset
	}
	assert.NoError(t, d.dev.Breakage())
	assert.Zero(t, d.load(0x70))
	assert.Zero(t, d.load(0x60))
}

func TestRegistersRequestsAndResetsAtTheSameTime(t *testing.T) {
	d := newDriver(t, &echo{})
	d.mem.chain(desc{addr: 0x4000, len: 1})
	done := make(chan struct{})
	for seed := range uint64(2) {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range uint64(2000) {
				off := (i*7 + seed) % 0x120 &^ 3
				d.load(off)
				d.store(off, i*0x9e37_79b9)
				d.store(0x50, 0)
			}
		}()
	}
	for range 50 {
		d.store(0x70, 0)
		d.acknowledgeAndDriver()
		d.acceptFeatures(goodFeatures)
		d.store(0x70, 0xb)
		d.setQueue(8)
		d.store(0x70, 0xf)
		d.mem.offer(0, 8, 0)
	}
	<-done
	<-done
}

func TestLaterCloseReturnsErrClosed(t *testing.T) {
	mmio, err := NewMMIO(&echo{}, newMemory(), false, func(bool) {})
	require.NoError(t, err)
	function, err := NewFunction(&echo{}, newMemory(), false, 0)
	require.NoError(t, err)
	for name, device := range map[string]io.Closer{"MMIO": mmio, "Function": function} {
		assert.NoError(t, device.Close(), name)
		for range 2 {
			assert.ErrorIs(t, device.Close(), bridge.ErrClosed, name)
		}
	}
}
